from dataclasses import replace

import numpy as np
import pytest

from univs.evaluation.objects import evaluate_objects, score_objects
from univs.predictions import ObjectVideo


def _video(num_frames=4, names=("1", "2")):
    masks = np.zeros((len(names), num_frames, 24, 32), bool)
    for n in range(len(names)):
        masks[n, :, 2 : 10 + n, 3 + 12 * n : 13 + 12 * n] = True
    return ObjectVideo(
        video_id="v",
        object_ids=tuple(names),
        masks=masks,
        frame_names=tuple(f"{t:05d}" for t in range(num_frames)),
    )


def test_davis_protocol_leaves_out_first_and_last_frame():
    truth = _video()
    ours = replace(truth, masks=truth.masks.copy())
    ours.masks[:, [0, -1]] = False
    assert score_objects([evaluate_objects(ours, truth, "davis")]).jf == 1.0
    referring = evaluate_objects(ours, truth, "referring")
    assert referring.jaccards.tolist() == [[0, 1, 1, 0]] * 2
    assert score_objects([referring]).jf == pytest.approx(0.5)


def test_object_that_is_not_predicted_counts_as_empty():
    truth = _video()
    only = replace(truth, object_ids=("2",), masks=truth.masks[1:])
    partial = evaluate_objects(only, truth, "davis")
    assert partial.jaccards.tolist() == [[0, 0], [1, 1]]
    truth.masks[0] = False
    assert evaluate_objects(only, truth, "davis").jaccards.tolist() == [[1, 1], [1, 1]]


def test_objects_and_frames_are_paired_by_name_not_by_position():
    truth = _video()
    noise = np.random.default_rng(0).random(truth.masks.shape) < 0.2
    ours = replace(truth, masks=truth.masks ^ noise)
    turned = replace(
        ours,
        object_ids=ours.object_ids[::-1],
        masks=ours.masks[::-1, ::-1],
        frame_names=ours.frame_names[::-1],
    )
    straight, paired = (evaluate_objects(video, truth, "davis") for video in (ours, turned))
    assert straight.jaccards.std() > 0
    assert (straight.jaccards == paired.jaccards).all()
    assert (straight.boundaries == paired.boundaries).all()


def test_scores_are_means_over_objects_not_videos():
    good, bad = _video(names=("1",)), _video(names=("1", "2", "3"))
    empty = replace(bad, masks=np.zeros_like(bad.masks))
    parts = [evaluate_objects(good, good, "davis"), evaluate_objects(empty, bad, "davis")]
    assert score_objects(parts).j.mean == pytest.approx(1 / 4)
    assert score_objects(parts[::-1]) == score_objects(parts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frame_names": ("00000", "x", "00002", "00003")}, "lacks 1 of 2 frames"),
        ({"masks": np.zeros((2, 4, 5, 5), bool)}, "original size"),
        ({"object_ids": ("1", "7")}, "not evaluated"),
    ],
)
def test_bad_object_prediction_raises(change, message):
    with pytest.raises(ValueError, match=message):
        evaluate_objects(replace(_video(), **change), _video(), "davis")


def _shown(name, truth_frames, our_frames, num_frames=6):
    """One object, the same box wherever a side shows it."""
    box = np.zeros((24, 32), bool)
    box[4:12, 6:20] = True
    return tuple(
        ObjectVideo(
            video_id="v",
            object_ids=(name,),
            masks=np.stack([box & (t in frames) for t in range(num_frames)])[None],
            frame_names=tuple(f"{t:05d}" for t in range(num_frames)),
        )
        for frames in (our_frames, truth_frames)
    )


@pytest.mark.parametrize(
    ("protocol", "truth_frames", "our_frames", "expected"),
    [
        ("davis", (0, 3), (0, 2), [1, 0, 0, 1]),
        ("mose", (0, 3), (0, 2), [np.nan, 0, 0, 1]),
        ("mose", (0, 3), (0, 3, 4), [np.nan, np.nan, 1, 0]),
        ("appearing", (1, 3), (1, 2), [np.nan, np.nan, 0, 0, 1, 1]),
        ("referring", (1, 3), (1, 2), [1, 1, 0, 0, 1, 1]),
    ],
)
def test_protocols_say_in_which_frames_an_object_counts(protocol, truth_frames, our_frames, expected):
    partial = evaluate_objects(*_shown("1", truth_frames, our_frames), protocol)
    np.testing.assert_array_equal(partial.jaccards, [expected])
    np.testing.assert_array_equal(np.isnan(partial.boundaries), [np.isnan(expected)])


@pytest.mark.parametrize(("protocol", "truth_frames"), [("mose", (0, 5)), ("appearing", (5,))])
def test_object_that_never_counts_is_left_out(protocol, truth_frames):
    partial = evaluate_objects(*_shown("1", truth_frames, (2,)), protocol)
    assert partial.object_ids == ()
    assert partial.jaccards.shape[0] == 0


def test_video_of_two_frames_leaves_nothing_to_evaluate():
    with pytest.raises(ValueError, match="2 frames"):
        evaluate_objects(_video(2), _video(2), "davis")
