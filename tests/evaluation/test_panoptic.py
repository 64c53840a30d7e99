import math

import numpy as np
import pytest

from univs.evaluation.histogram import count_segment_pairs
from univs.evaluation.panoptic import evaluate_panoptic, mean_quality, score_panoptic
from univs.predictions import PanopticVideo, Segment

IS_THING = (True, False, True)


def _video(rows, labels, crowds=()):
    """One frame per row of ids; each id's pixels form one line."""
    maps = np.asarray(rows, np.int32)[:, None]
    segments = tuple(
        Segment(segment_id=number, label=label, is_crowd=number in crowds) for number, label in labels.items()
    )
    return PanopticVideo(video_id="v", maps=maps, segments=segments)


def _score(prediction, truth, windows=(1,)):
    partial = evaluate_panoptic(count_segment_pairs(prediction, truth), len(IS_THING), windows)
    return partial, score_panoptic([partial], IS_THING)


def test_panoptic_quality_of_one_hit_and_one_miss_is_computed_by_hand():
    truth = _video([[1] * 6 + [2] * 4], {1: 0, 2: 1})
    ours = _video([[7] * 8 + [9] * 2], {7: 0, 9: 1})
    partial, (quality,) = _score(ours, truth)
    # Class 0: IoU 6/8, a hit. Class 1: IoU 2/4 is not above one half: one missed, one spurious.
    assert partial.true_positives.tolist() == [[1, 0, 0]]
    assert partial.false_positives.tolist() == partial.false_negatives.tolist() == [[0, 1, 0]]
    assert quality.every.pq == pytest.approx((0.75 + 0) / 2)
    assert quality.things.pq == pytest.approx(0.75)
    assert quality.stuff.pq == 0
    assert (quality.every.num_classes, quality.things.num_classes) == (2, 1)


def test_panoptic_quality_leaves_void_out_of_the_union():
    truth = _video([[1] * 4 + [0] * 6], {1: 0})
    ours = _video([[5] * 7 + [0] * 3], {5: 0})
    _, (quality,) = _score(ours, truth)
    assert quality.every.sq == pytest.approx(4 / 4)


@pytest.mark.parametrize(("on_void", "spurious"), [(5, 1), (6, 0)])
def test_unmatched_prediction_is_forgiven_only_when_mostly_on_void(on_void, spurious):
    labelled = 10 - on_void
    truth = _video([[1] * labelled + [0] * on_void + [1] * 20], {1: 1})
    ours = _video([[5] * 10 + [0] * 20], {5: 0})
    partial, _ = _score(ours, truth)
    assert partial.false_positives[0, 0] == spurious


def test_crowd_is_no_miss_and_forgives_predictions_of_its_class_only():
    truth = _video([[1] * 10 + [2] * 10], {1: 0, 2: 0}, crowds={1})
    same, other = _video([[5] * 9 + [0] * 11], {5: 0}), _video([[5] * 9 + [0] * 11], {5: 2})
    forgiven, _ = _score(same, truth)
    blamed, _ = _score(other, truth)
    assert forgiven.false_positives.sum() == 0
    assert blamed.false_positives.tolist() == [[0, 0, 1]]
    assert forgiven.false_negatives.tolist() == [[1, 0, 0]]


def test_only_the_last_listed_crowd_of_a_class_forgives():
    truth = _video([[1] * 10 + [2] * 10], {1: 0, 2: 0}, crowds={1, 2})
    on_first, _ = _score(_video([[5] * 10 + [0] * 10], {5: 0}), truth)
    on_last, _ = _score(_video([[0] * 10 + [5] * 10], {5: 0}), truth)
    assert (on_first.false_positives.sum(), on_last.false_positives.sum()) == (1, 0)


def test_video_window_needs_the_same_id_through_the_window():
    truth = _video([[1] * 4, [1] * 4, [1] * 4], {1: 0})
    ours = _video([[5] * 4, [6] * 4, [6] * 4], {5: 0, 6: 0})
    partial, (one, two) = _score(ours, truth, (1, 2))
    assert one.every.pq == 1.0
    # Window 0: both tubes cover half, no match: one missed, two spurious. Window 1: one hit.
    assert partial.true_positives[1, 0] == 1
    assert partial.false_positives[1, 0] == 2
    assert partial.false_negatives[1, 0] == 1
    assert two.every.pq == pytest.approx(1 / (1 + 1 + 0.5))


def test_window_longer_than_every_video_is_left_out_of_the_mean():
    truth = _video([[1] * 4, [1] * 4], {1: 0})
    _, qualities = _score(truth, truth, (1, 2, 4))
    assert math.isnan(qualities[2].every.pq)
    assert mean_quality(qualities) == 1.0
    assert math.isnan(mean_quality(qualities, "stuff"))


def test_pixels_with_unlisted_true_ids_count_neither_as_void_nor_as_a_segment():
    truth = _video([[1] * 4 + [99] * 2], {1: 0})
    _, (quality,) = _score(_video([[5] * 6], {5: 0}), truth)
    assert quality.every.sq == pytest.approx(4 / 6)


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        ([[5] * 4, [5] * 4], {5: 0}, "shape"),
        ([[5] * 3 + [6]], {5: 0}, "no segment lists"),
        ([[-1] * 4], {5: 0}, "segment ids"),
        ([[1 << 24] * 4], {1 << 24: 0}, "segment ids"),
    ],
)
def test_histogram_of_bad_prediction_raises(rows, labels, message):
    with pytest.raises(ValueError, match=message):
        count_segment_pairs(_video(rows, labels), _video([[1] * 4], {1: 0}))


def _slow_counts(prediction, truth, window):
    """Rescan every window pixel by pixel, the way the definition reads."""
    hits, ious, spurious, missed = 0, 0.0, 0, 0
    for start in range(len(truth.maps) - window + 1):
        theirs, ours = (video.maps[start : start + window].ravel() for video in (truth, prediction))
        found, used = set(), set()
        for g in truth.segments:
            for p in prediction.segments:
                a, b = theirs == g.segment_id, ours == p.segment_id
                union = (a | b & (theirs != 0)).sum()
                if g.label == p.label and a.any() and b.any() and (a & b).sum() / union > 0.5:
                    hits, ious = hits + 1, ious + (a & b).sum() / union
                    found.add(g)
                    used.add(p)
        missed += sum((theirs == g.segment_id).any() and g not in found for g in truth.segments)
        for p in prediction.segments:
            b = ours == p.segment_id
            spurious += b.any() and p not in used and (b & (theirs == 0)).sum() / b.sum() <= 0.5
    return hits, ious, spurious, missed


@pytest.mark.parametrize("seed", range(5))
def test_window_matching_equals_a_literal_rescan(seed):
    rng = np.random.default_rng(seed)
    base = np.repeat(rng.integers(0, 5, (6, 3, 2)), 4, axis=2).astype(np.int32)
    moved = np.where(rng.random(base.shape) < 0.15, rng.integers(0, 5, base.shape), base).astype(np.int32)
    segments = tuple(Segment(segment_id=n, label=n % 3) for n in range(1, 5))
    truth, ours = (PanopticVideo(video_id="v", maps=maps, segments=segments) for maps in (base, moved))
    for window in (1, 3, 6):
        partial, _ = _score(ours, truth, (window,))
        hits, ious, spurious, missed = _slow_counts(ours, truth, window)
        assert partial.true_positives.sum() == hits
        assert partial.false_positives.sum() == spurious
        assert partial.false_negatives.sum() == missed
        assert partial.iou_sums.sum() == pytest.approx(ious)
