import math

import numpy as np
import pytest

from univs.evaluation.semantic import evaluate_semantic, score_semantic
from univs.predictions import SemanticVideo


def _video(rows, video_id="v"):
    return SemanticVideo(video_id=video_id, labels=np.asarray(rows, np.int16)[:, None])


def test_class_ious_of_a_small_map_are_computed_by_hand():
    truth, ours = _video([[0, 0, 0, 1, -1]]), _video([[0, 0, 2, 1, 2]])
    scores = score_semantic([evaluate_semantic(ours, truth, 3)])
    assert scores.class_ious[:2].tolist() == [pytest.approx(2 / 3), 1.0]
    # Class 2 is only predicted: it is not averaged, and what lies on void does not count.
    assert math.isnan(scores.class_ious[2])
    assert scores.miou == pytest.approx((2 / 3 + 1) / 2)
    assert scores.fwiou == pytest.approx(3 / 4 * 2 / 3 + 1 / 4)


def test_iou_is_of_all_videos_together_not_a_mean_of_videos():
    parts = [
        evaluate_semantic(_video([[0] * 8]), _video([[0] * 8], "a"), 2),
        evaluate_semantic(_video([[1] * 2]), _video([[0] * 2], "b"), 2),
    ]
    assert score_semantic(parts).miou == pytest.approx(8 / 10)


def test_consistency_of_a_flicker_is_computed_by_hand():
    truth = _video([[0, 0, 0, 1]] * 4)
    ours = _video([[0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    partial = evaluate_semantic(ours, truth, 2, windows=(2,))
    # Windows start at 0 and 1: the last possible one is left out. A wrong constant pixel counts as constant.
    assert partial.consistency[0].tolist() == [3 / 4, 1.0]
    assert score_semantic([partial]).consistency == (pytest.approx(7 / 8),)


def test_consistency_counts_only_pixels_whose_truth_is_constant():
    truth = _video([[0, 0], [0, 1], [0, 0]])
    ours = _video([[0, 0], [0, 1], [1, 1]])
    assert evaluate_semantic(ours, truth, 2, windows=(2,)).consistency[0].tolist() == [1.0]


def test_consistency_without_a_constant_pixel_does_not_count():
    partial = evaluate_semantic(_video([[0]] * 3), _video([[0], [1], [0]]), 2, windows=(2,))
    assert partial.consistency[0].size == 0
    assert math.isnan(score_semantic([partial]).consistency[0])


@pytest.mark.parametrize("seed", range(3))
def test_consistency_equals_comparing_every_frame_of_every_window(seed):
    rng = np.random.default_rng(seed)
    base = np.repeat(rng.integers(-1, 3, (1, 30)), 12, axis=0)
    theirs = np.where(rng.random(base.shape) < 0.05, 1, base)
    ours = np.where(rng.random(base.shape) < 0.1, 2, np.maximum(base, 0))
    partial = evaluate_semantic(_video(ours), _video(theirs), 3, windows=(3, 5, 12))
    for window, values in zip(partial.windows, partial.consistency, strict=True):
        expected = []
        for start in range(12 - window):
            constant = (theirs[start : start + window] == theirs[start]).all(axis=0)
            steady = (ours[start : start + window] == ours[start]).all(axis=0)
            expected.append((constant & steady).sum() / constant.sum())
        assert values.tolist() == expected


@pytest.mark.parametrize(
    ("ours", "message"), [([[0, 1], [0, 1]], "shape"), ([[0, 3]], "labels"), ([[-1, 0]], "labels")]
)
def test_bad_semantic_prediction_raises(ours, message):
    with pytest.raises(ValueError, match=message):
        evaluate_semantic(_video(ours), _video([[0, 1]]), 3)


def test_truth_of_void_only_has_no_iou():
    scores = score_semantic([evaluate_semantic(_video([[0, 1]]), _video([[-1, -1]]), 2)])
    assert math.isnan(scores.miou)
    assert math.isnan(scores.fwiou)
