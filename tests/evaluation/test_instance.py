import math
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from univs.evaluation.instance import evaluate_instances, named_scores, score_alone, score_instances
from univs.evaluation.track_masks import read_masks, track_ious
from univs.predictions import InstanceTrack, InstanceVideo

SIZE = (20, 40)


def _rle(left, right, top=0, bottom=20):
    mask = np.zeros(SIZE, np.uint8, order="F")
    mask[top:bottom, left:right] = 1
    return coco_mask.encode(mask)["counts"].decode()


def _track(*rles, label=0, score=1.0, is_crowd=False):
    return InstanceTrack(label=label, score=score, rles=rles, is_crowd=is_crowd)


def _video(*tracks, video_id="1"):
    return InstanceVideo(video_id=video_id, height=SIZE[0], width=SIZE[1], tracks=tracks)


def _ious(*sides):
    return track_ious(*(read_masks([track.rles for track in side], SIZE, "") for side in sides))


def _scores(prediction, truth):
    return score_instances([evaluate_instances(prediction, truth)])


def test_track_iou_sums_over_frames_and_reads_none_as_empty():
    ious = _ious([_track(_rle(0, 10), None)], [_track(_rle(5, 15), _rle(0, 5))])
    assert ious.tolist() == [[pytest.approx(5 / (15 + 5))]]


def test_track_iou_leaves_out_frames_that_only_one_track_lists():
    short, long = _track(_rle(0, 10)), _track(_rle(0, 10), _rle(0, 40))
    assert _ious([short, long], [short, long]).tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_track_iou_of_two_empty_tracks_is_zero():
    assert _ious([_track(None)], [_track(None)]).tolist() == [[0.0]]


@pytest.mark.parametrize("seed", range(3))
def test_track_iou_equals_dense_masks(seed):
    rng = np.random.default_rng(seed)
    masks = rng.random((2, 3, 4, *SIZE)) < 0.4
    tracks = [
        [
            _track(
                *(coco_mask.encode(np.asfortranarray(m.astype(np.uint8)))["counts"].decode() for m in rows)
            )
            for rows in part
        ]
        for part in masks
    ]
    overlaps = (masks[0][:, None] & masks[1][None]).sum((2, 3, 4))
    unions = (masks[0][:, None] | masks[1][None]).sum((2, 3, 4))
    assert _ious(*tracks).tolist() == (overlaps / unions).tolist()


def test_precision_of_one_hit_below_a_false_alarm_is_computed_by_hand():
    truth = _video(_track(_rle(0, 10)))
    alarm, hit = _track(_rle(20, 30), score=0.9), _track(_rle(0, 10), score=0.5)
    scores = _scores(_video(hit, alarm), truth)
    # Full recall is reached at precision one half; interpolation carries it to every recall.
    assert scores.ap[0] == pytest.approx(0.5)
    assert (scores.ar1, scores.ar10) == (0.0, 1.0)


def test_precision_at_iou_exactly_on_a_threshold_counts():
    scores = _scores(_video(_track(_rle(0, 15))), _video(_track(_rle(0, 20))))
    assert scores.ap50 == pytest.approx(1.0)
    assert scores.ap75 == pytest.approx(1.0)
    assert scores.ap[0] == pytest.approx(6 / 10)


def test_precision_of_another_class_is_nothing():
    scores = _scores(_video(_track(_rle(0, 10), label=1)), _video(_track(_rle(0, 10))))
    assert scores.ap[0] == 0.0
    assert list(scores.classes) == [0]


def test_crowd_is_found_again_and_again_and_is_not_asked_for():
    truth = _video(_track(_rle(0, 10)), _track(_rle(20, 30), is_crowd=True))
    twice = [_track(_rle(20, 30), score=0.9), _track(_rle(20, 30), score=0.8)]
    assert _scores(_video(_track(_rle(0, 10), score=0.5), *twice), truth).ap[0] == pytest.approx(1.0)
    assert _scores(_video(*twice), truth).ap[0] == 0.0


def test_second_detection_of_a_track_is_a_false_alarm():
    truth = _video(_track(_rle(0, 10)), _track(_rle(20, 30)))
    hits = [_track(_rle(0, 10), score=0.9), _track(_rle(0, 10), score=0.8), _track(_rle(20, 30), score=0.7)]
    # Precision 1 up to recall 1/2 (51 of 101 samples), then 2/3.
    assert _scores(_video(*hits), truth).ap[0] == pytest.approx((51 + 50 * 2 / 3) / 101)


def test_detection_takes_the_track_it_overlaps_most():
    truth = _video(_track(_rle(0, 10)), _track(_rle(4, 14)))
    # The first detection fits both tracks at 0.5, the second only the later one.
    ours = _video(_track(_rle(2, 10), score=0.9), _track(_rle(6, 16), score=0.8))
    assert _scores(ours, truth).ap50 == pytest.approx(1.0)


def test_false_alarm_of_another_area_range_does_not_count_there():
    def square(side, left):
        mask = np.zeros((200, 300), np.uint8, order="F")
        mask[:side, left : left + side] = 1
        return coco_mask.encode(mask)["counts"].decode()

    found, alarm = _track(square(20, 0), score=0.5), _track(square(150, 100), score=0.9)
    prediction, truth = (
        InstanceVideo(video_id="1", height=200, width=300, tracks=tracks)
        for tracks in ((found, alarm), (found,))
    )
    scores = _scores(prediction, truth)
    assert scores.ap[0] == pytest.approx(0.5)
    assert scores.ap[1] == pytest.approx(1.0)


def test_area_ranges_hold_the_mean_area_of_visible_frames():
    small = _scores(_video(_track(_rle(0, 10), None)), _video(_track(_rle(0, 10), None)))
    assert small.ap[1] == pytest.approx(1.0)
    assert math.isnan(small.ap[2])
    assert math.isnan(small.ap[3])


def test_more_than_a_hundred_detections_of_a_class_are_cut():
    alarms = [_track(_rle(20, 30), score=0.9)] * 100
    assert _scores(_video(*alarms, _track(_rle(0, 10), score=0.1)), _video(_track(_rle(0, 10)))).ar[0] == 0.0


def test_precision_without_detections_is_zero_and_without_truth_unknown():
    assert _scores(_video(), _video(_track(_rle(0, 10)))).ap[0] == 0.0
    assert math.isnan(_scores(_video(_track(_rle(0, 10))), _video()).ap[0])


def test_equal_scores_rank_by_numeric_video_id_whatever_the_order():
    truth = [_video(_track(_rle(0, 10)), video_id=name) for name in ("2", "10")]
    ours = [_video(_track(_rle(20, 30)), video_id="2"), _video(_track(_rle(0, 10)), video_id="10")]
    partials = [evaluate_instances(*pair) for pair in zip(ours, truth, strict=True)]
    alarm_first = score_instances(partials)
    assert score_instances(partials[::-1]) == alarm_first
    assert alarm_first.ap[0] == pytest.approx(51 * 0.5 / 101)


def test_instances_of_another_size_raise():
    with pytest.raises(ValueError, match="original size"):
        evaluate_instances(replace(_video(), height=10), _video())


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_videos_alone_equal_those_of_one_video_at_a_time(seed):
    rng = np.random.default_rng(seed)

    def side(video_id, most):
        starts = rng.integers(0, 20, rng.integers(0, most))
        tracks = [
            _track(_rle(x, x + 9), label=int(rng.integers(3)), score=float(rng.random())) for x in starts
        ]
        return _video(*tracks, video_id=str(video_id))

    partials = [evaluate_instances(side(n, 30), side(n, 6)) for n in range(8)]
    for part, alone in zip(partials, score_alone(partials), strict=True):
        scores = named_scores(score_instances([part]))
        assert alone == pytest.approx({name: scores[name] for name in alone}, nan_ok=True)
