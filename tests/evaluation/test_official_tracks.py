"""Files of YouTube-VIS, OVIS, COCO instances and BURST: what is scored, and what mends change."""

import json
import math
import multiprocessing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from univs.evaluation.official.catalog import OFFICIAL

HEIGHT, WIDTH, NUM_FRAMES = 20, 40, 4
BENCHMARKS = ("ytvis_2021", "ovis", "coco_instances", "burst", "burst_exemplar")


def _rle(left, right):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[:, left:right] = 1
    return {"size": [HEIGHT, WIDTH], "counts": coco_mask.encode(mask)["counts"].decode()}


def test_perfect_predictions_score_a_hundred(files):
    scores = files.score()
    assert tuple(scores.values) == OFFICIAL[files.benchmark].metrics
    known = {name: value for name, value in scores.values.items() if not math.isnan(value)}
    assert known == pytest.approx(dict.fromkeys(known, 100.0))
    assert OFFICIAL[files.benchmark].primary in known
    for row in scores.items.values():
        assert row[OFFICIAL[files.benchmark].primary] == pytest.approx(100)
    assert len(scores.items) == len(scores.classes) == 2


def _shuffle(body, seed):
    """Permute every list of items and give a copy."""
    rng = np.random.default_rng(seed)
    copy = json.loads(json.dumps(body))
    lists = [copy] if isinstance(copy, list) else [v for v in copy.values() if isinstance(v, list)]
    for rows in lists:
        order = rng.permutation(len(rows)).tolist()
        rows[:] = [rows[n] for n in order]
    return copy


def _damage(files, seed):
    """Make predictions imperfect: other scores (all distinct), and tracks that swap masks."""
    rng = np.random.default_rng(seed)
    if isinstance(files.pred, list):
        for row in files.pred:
            row["score"] = float(rng.random())
            row["category_id"] = int(rng.choice((2, 5)))
        return
    for sequence in files.pred["sequences"]:
        for masks in sequence["segmentations"]:
            for mask in masks.values():
                left = int(rng.integers(0, 20))
                mask |= {"score": float(rng.random()), "rle": _rle(left, left + 9)["counts"]}


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_order_of_rows_in_the_files_changes_nothing(track_files, benchmark, seed, tmp_path_factory):
    files = track_files(benchmark, tmp_path_factory.mktemp("case"))
    _damage(files, seed)
    expected = files.score()
    files.gt, files.pred = _shuffle(files.gt, seed), _shuffle(files.pred, seed + 1)
    assert files.score().values == pytest.approx(expected.values, nan_ok=True)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_partials_merge_in_any_order_and_from_processes(track_files, benchmark, seed, tmp_path_factory):
    files = track_files(benchmark, tmp_path_factory.mktemp("case"))
    _damage(files, seed)
    case = files.open()
    partials = [case.compare(index) for index in range(len(case.names))]
    expected = case.score(partials)
    np.testing.assert_equal(case.score(partials[::-1]).values, expected.values)
    if seed % 5 == 0:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            np.testing.assert_equal(case.score(pool.map(case.compare, [1, 0])).values, expected.values)


def test_frames_to_draw_hold_both_sides(files):
    shown = files.open().show(1, 2)
    num_frames = 1 if files.benchmark == "coco_instances" else 2
    assert len(shown.frames) == num_frames
    assert shown.frames[0].shape == (HEIGHT, WIDTH, 3)
    assert shown.truth.tracks
    assert [len(track.rles) for track in (*shown.truth.tracks, *shown.prediction.tracks)] == [num_frames] * 4


def test_video_without_detections_is_listed_and_scored(vis):
    vis.pred = [row for row in vis.pred if row["video_id"] != 7]
    assert list(vis.open().missing) == ["7"]
    assert vis.score().values["ar100"] == pytest.approx(50)


def test_frames_beyond_a_short_track_are_left_out_unless_mended(vis):
    for row in vis.pred:
        row["segmentations"] = row["segmentations"][:3]
    assert vis.score().values["map"] == pytest.approx(100)
    # Three of four equal frames: IoU 0.75 reaches six of the ten thresholds.
    assert vis.score("short-tracks").values["map"] == pytest.approx(60)


def test_stated_areas_are_believed_unless_mended(vis):
    for row in vis.gt["annotations"]:
        row["areas"] = [200.0**2] * NUM_FRAMES
    assert vis.score().values["ap_medium"] == pytest.approx(100)
    mended = vis.score("stated-areas").values
    assert mended["ap_small"] == pytest.approx(100)
    assert math.isnan(mended["ap_medium"])


@pytest.mark.parametrize("benchmark", ["ytvis_2021", "coco_instances"])
def test_truth_of_id_zero_is_never_found_unless_mended(track_files, benchmark, tmp_path):
    files = track_files(benchmark, tmp_path)
    files.gt["annotations"][0]["id"] = 0
    assert files.score().values["ar100"] == pytest.approx(75)
    assert files.score("truth-id-0").values["ar100"] == pytest.approx(100)


def test_boxes_of_predictions_decide_their_area_unless_mended(track_files, tmp_path):
    files = track_files("coco_instances", tmp_path)
    files.pred[0] |= {"category_id": 5, "score": 0.99}
    for row in files.pred:
        row["bbox"] = [0, 0, 50, 50]
    # The false alarm is of medium size by its box, small by its mask.
    assert files.score().values["ap_small"] > files.score("box-areas").values["ap_small"]


def test_masks_in_every_form_are_the_same(vis):
    expected = vis.score().values
    left = 4 * 2
    vis.gt["annotations"][0]["segmentations"][0] = {
        "size": [HEIGHT, WIDTH],
        "counts": [left * HEIGHT, 8 * HEIGHT, (WIDTH - left - 8) * HEIGHT],
    }
    polygon = [left, 0, left + 8, 0, left + 8, HEIGHT, left, HEIGHT]
    vis.gt["annotations"][2]["segmentations"][0] = [polygon]
    np.testing.assert_equal(vis.score().values, expected)


def test_occlusion_splits_tracks_by_their_more_hidden_half(track_files, tmp_path):
    files = track_files("ovis", tmp_path)
    # The more hidden half of 0, 0, 0.75 is 0.75 and 0: 0.375 on average.
    values = files.score().values
    assert values["ap_occ_medium"] == pytest.approx(100)
    assert math.isnan(values["ap_occ_light"])
    assert math.isnan(values["ap_occ_heavy"])


def test_exemplars_give_their_class_and_guided_masks_their_own(track_files, tmp_path):
    for benchmark, hota in (("burst_exemplar", 100), ("burst", 100 * math.sqrt(1 / 2) / 2)):
        files = track_files(benchmark, tmp_path / benchmark)
        for sequence in files.pred["sequences"]:
            sequence["track_category_ids"] = {"1": 4, "2": 4}
        assert files.score().values["hota"] == pytest.approx(hota)


def test_frames_without_a_class_are_judged_only_where_it_is_known_to_be_absent(burst):
    burst.gt["sequences"][0]["track_category_ids"] = {"1": 4, "2": 4}
    assert burst.score().values["deta"] == pytest.approx(100 * (8 / 12 + 1) / 2)
    burst.gt["sequences"][0]["neg_category_ids"] = [41]
    assert burst.score().values["deta"] == pytest.approx(100 * (8 / 12 + 1 / 2) / 2)


def test_not_exhaustive_class_has_no_false_alarms(burst):
    for sequence in burst.pred["sequences"]:
        sequence["track_category_ids"]["3"] = 4
        for masks in sequence["segmentations"]:
            masks["3"] = {"rle": _rle(30, 38)["counts"]}
    assert burst.score().values["deta"] == pytest.approx(100 * (1 / 2 + 1) / 2)
    for sequence in burst.gt["sequences"]:
        sequence["not_exhaustive_category_ids"] = [4]
    values = burst.score().values
    assert values["deta"] == pytest.approx(100)
    assert values["map"] == pytest.approx(100)


def test_missing_sequence_and_frame_are_refused_or_empty_as_asked(burst):
    del burst.pred["sequences"][1]
    first = burst.pred["sequences"][0]
    del first["segmentations"][2], first["annotated_image_paths"][2]
    with pytest.raises(
        ValueError, match=r"results.json: not predicted: 'D/a/frame2.jpg', 'D/b'; .*--missing empty"
    ):
        burst.open()
    assert list(burst.open(missing="empty").missing) == ["D/a/frame2.jpg", "D/b"]
    assert burst.score(missing="empty").values["detre"] == pytest.approx(100 * 3 / 8)
