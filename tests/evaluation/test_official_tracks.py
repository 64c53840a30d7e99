"""Files of YouTube-VIS, OVIS, COCO instances and BURST: what is scored, what is mended, what is refused."""

import json
import math
import multiprocessing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask

from univs.evaluation.official.case import ScoreOptions
from univs.evaluation.official.catalog import OFFICIAL, open_case

HEIGHT, WIDTH, NUM_FRAMES = 20, 40, 4
BENCHMARKS = ("ytvis_2021", "ovis", "coco_instances", "burst", "burst_exemplar")


def _rle(left, right):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[:, left:right] = 1
    return {"size": [HEIGHT, WIDTH], "counts": coco_mask.encode(mask)["counts"].decode()}


def _write(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body if isinstance(body, str) else json.dumps(body))


class Files:
    """Two videos (7 and 3) of two true tracks each, and predictions of the same; both to be changed."""

    def __init__(self, benchmark, root):
        self.benchmark, self.root = benchmark, root
        self.gt, self.pred = getattr(self, f"_{benchmark.split('_')[0]}")()

    def _ytvis(self):
        return self._vis({})

    def _ovis(self):
        return self._vis({"occlusion": ["no_occlusion", None, "severe_occlusion", "no_occlusion"]})

    def _vis(self, extra):
        videos = [
            {
                "id": v,
                "height": HEIGHT,
                "width": WIDTH,
                "file_names": [f"{v}/{t}.jpg" for t in range(NUM_FRAMES)],
            }
            for v in (7, 3)
        ]
        tracks = [
            {
                "video_id": v,
                "category_id": c,
                "segmentations": [_rle(4 * c + t, 4 * c + t + 8) for t in range(NUM_FRAMES)],
            }
            for v in (7, 3)
            for c in (2, 5)
        ]
        rows = [
            {**row, "id": n, "iscrowd": 0, "areas": [160] * NUM_FRAMES, **extra}
            for n, row in enumerate(tracks, 1)
        ]
        categories = [{"id": c, "name": f"c{c}"} for c in (5, 2)]
        found = [{**row, "score": 1 - n / 10} for n, row in enumerate(tracks)]
        return {"videos": videos, "annotations": rows, "categories": categories}, found

    def _coco(self):
        body, found = self._vis({})
        images = [{"id": v, "height": HEIGHT, "width": WIDTH, "file_name": f"{v}.jpg"} for v in (7, 3)]
        for row in (*body["annotations"], *found):
            row |= {"image_id": row.pop("video_id"), "segmentation": row.pop("segmentations")[0]}
        for row in body["annotations"]:
            row["area"] = 160.0
        return {"images": images, "annotations": body["annotations"], "categories": body["categories"]}, found

    def _burst(self):
        sequences = [
            {
                "id": n,
                "dataset": "D",
                "seq_name": name,
                "height": HEIGHT,
                "width": WIDTH,
                "annotated_image_paths": [f"frame{t}.jpg" for t in range(NUM_FRAMES)],
                "neg_category_ids": [],
                "not_exhaustive_category_ids": [],
                "track_category_ids": {"1": 4, "2": 41},
                "segmentations": [
                    {str(k): {"rle": _rle(4 * k + t, 4 * k + t + 8)["counts"]} for k in (1, 2)}
                    for t in range(NUM_FRAMES)
                ],
            }
            for n, name in enumerate(("a", "b"))
        ]
        body = {"split": "val", "sequences": sequences}
        found = json.loads(json.dumps(body))
        return {**body, "categories": [{"id": 4, "name": "airplane"}, {"id": 41, "name": "ball"}]}, found

    def open(self, *mends, missing="refuse"):
        is_burst = self.benchmark.startswith("burst")
        _write(self.root / "gt" / ("all_classes.json" if is_burst else "instances.json"), self.gt)
        _write(self.root / "pred/results.json", self.pred)
        options = ScoreOptions(missing=missing, mends=mends)
        return open_case(OFFICIAL[self.benchmark], self.root / "gt", self.root / "pred", options)

    def score(self, *mends, missing="refuse"):
        case = self.open(*mends, missing=missing)
        return case.score([case.compare(index) for index in range(len(case.names))])


@pytest.fixture(params=BENCHMARKS)
def files(request, tmp_path):
    return Files(request.param, tmp_path)


@pytest.fixture
def vis(tmp_path):
    return Files("ytvis_2021", tmp_path)


@pytest.fixture
def burst(tmp_path):
    return Files("burst", tmp_path)


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
def test_order_of_rows_in_the_files_changes_nothing(benchmark, seed, tmp_path_factory):
    files = Files(benchmark, tmp_path_factory.mktemp("case"))
    _damage(files, seed)
    expected = files.score()
    files.gt, files.pred = _shuffle(files.gt, seed), _shuffle(files.pred, seed + 1)
    assert files.score().values == pytest.approx(expected.values, nan_ok=True)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000))
@pytest.mark.parametrize("benchmark", BENCHMARKS)
def test_partials_merge_in_any_order_and_from_processes(benchmark, seed, tmp_path_factory):
    files = Files(benchmark, tmp_path_factory.mktemp("case"))
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
def test_truth_of_id_zero_is_never_found_unless_mended(benchmark, tmp_path):
    files = Files(benchmark, tmp_path)
    files.gt["annotations"][0]["id"] = 0
    assert files.score().values["ar100"] == pytest.approx(75)
    assert files.score("truth-id-0").values["ar100"] == pytest.approx(100)


def test_boxes_of_predictions_decide_their_area_unless_mended(tmp_path):
    files = Files("coco_instances", tmp_path)
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


def test_occlusion_splits_tracks_by_their_more_hidden_half(tmp_path):
    files = Files("ovis", tmp_path)
    # The more hidden half of 0, 0, 0.75 is 0.75 and 0: 0.375 on average.
    values = files.score().values
    assert values["ap_occ_medium"] == pytest.approx(100)
    assert math.isnan(values["ap_occ_light"])
    assert math.isnan(values["ap_occ_heavy"])


def test_exemplars_give_their_class_and_guided_masks_their_own(tmp_path):
    for benchmark, hota in (("burst_exemplar", 100), ("burst", 100 * math.sqrt(1 / 2) / 2)):
        files = Files(benchmark, tmp_path / benchmark)
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


def _set(path, value):
    """Give a change of a body: put a value at the end of a path."""

    def change(body):
        for key in path[:-1]:
            body = body[key]
        body[path[-1]] = value

    return change


VIS_MISTAKES = {
    "video": (
        "pred",
        _set([1, "video_id"], 4),
        r"item 1: video_id 4, category_id 5, expected one of the 2 known as video_id and",
    ),
    "category": (
        "pred",
        _set([0, "category_id"], 1),
        r"item 0: video_id 7, category_id 1, expected .* one of the 2 known as category_id",
    ),
    "nan": ("pred", _set([2, "score"], math.nan), r"item 2: score nan, expected a finite number"),
    "no score": ("pred", lambda body: body[3].pop("score"), r"item 3: no 'score', expected int or float"),
    "type": ("pred", _set([3, "score"], "1"), r"item 3: 'score' is '1', expected int or float"),
    "long": (
        "pred",
        lambda body: body[0]["segmentations"].append(None),
        r"item 0: 5 masks, expected one per frame, 4",
    ),
    "size": (
        "pred",
        _set([0, "segmentations", 1, "size"], [40, 20]),
        r"item 0, frame 1: mask of size \[40, 20\], expected \[20, 40\]",
    ),
    "broken": (
        "pred",
        _set([0, "segmentations", 1, "counts"], "P137"),
        r"video 7: track 0, frame 1: 'P137' is no run-length mask of 20x40",
    ),
    "no mask": ("pred", _set([0, "segmentations", 1], {"size": [20, 40]}), r"item 0, frame 1: .* is no mask"),
    "no list": ("pred", lambda body: body.append(3), r"item 4: no 'video_id'"),
    "repeat": ("gt", _set(["annotations", 1, "id"], 1), r"annotation id 1 is there more than once"),
    "videos": ("gt", lambda body: body.pop("videos"), r"instances.json: no 'videos', expected list"),
    "withheld": ("gt", lambda body: body.pop("annotations"), r"withheld: no 'annotations', expected list"),
    "frames": (
        "gt",
        lambda body: body["annotations"][0]["segmentations"].pop(),
        r"annotation 0: 3 masks, expected one per frame, 4",
    ),
}


@pytest.mark.parametrize("mistake", VIS_MISTAKES)
def test_mistake_in_a_file_of_tracks_is_told(vis, mistake):
    side, change, message = VIS_MISTAKES[mistake]
    change(getattr(vis, side))
    with pytest.raises(ValueError, match=message) as caught:
        vis.score()
    assert f"{vis.root}/{side}/" in str(caught.value)


BURST_MISTAKES = {
    "sequence": ("pred", _set(["sequences", 1, "seq_name"], "c"), r"sequences 'D/c', expected only those of"),
    "twice": ("pred", _set(["sequences", 1, "seq_name"], "a"), r"sequence D/a is there more than once"),
    "split": ("pred", _set(["split"], "test"), r"split 'test', expected 'val'"),
    "frames": (
        "pred",
        lambda b: b["sequences"][0]["segmentations"].pop(),
        r"D/a: 3 segmentations, expected 4",
    ),
    "class": (
        "pred",
        lambda b: b["sequences"][0]["track_category_ids"].pop("2"),
        r"D/a, frame 0, track 2, track_category_ids: no '2'",
    ),
    "mask": (
        "pred",
        _set(["sequences", 0, "segmentations", 1, "2"], {}),
        r"frame frame1.jpg, track 2: no 'rle', expected str",
    ),
    "broken": (
        "pred",
        _set(["sequences", 0, "segmentations", 1, "2", "rle"], "P1"),
        r"D/a: track 1, frame 1: 'P1' is no run-length",
    ),
    "id": (
        "pred",
        _set(["sequences", 0, "segmentations", 1, "-2"], {"rle": ""}),
        r"track id '-2', expected a number",
    ),
    "nan": (
        "pred",
        _set(["sequences", 0, "segmentations", 1, "2", "score"], math.nan),
        r"score nan, expected a finite",
    ),
}


@pytest.mark.parametrize("mistake", BURST_MISTAKES)
def test_mistake_in_a_file_of_burst_is_told(burst, mistake):
    side, change, message = BURST_MISTAKES[mistake]
    change(getattr(burst, side))
    with pytest.raises(ValueError, match=message) as caught:
        burst.score()
    assert f"{burst.root}/{side}/" in str(caught.value)


def test_unknown_exemplar_is_refused(tmp_path):
    files = Files("burst_exemplar", tmp_path)
    files.pred["sequences"][0]["segmentations"][0]["9"] = {"rle": _rle(0, 5)["counts"]}
    with pytest.raises(
        ValueError, match=r"track 9: no such track in the ground truth, expected one of '1', '2'"
    ):
        files.score()


def test_truncated_file_is_told(files):
    case = files.open()
    path = files.root / "pred/results.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=r"results.json: \d+ bytes that are not whole JSON"):
        open_case(OFFICIAL[files.benchmark], files.root / "gt", files.root / "pred", ScoreOptions())
    assert case.names


def test_folder_of_another_benchmark_is_told(burst, tmp_path):
    burst.open()
    with pytest.raises(
        ValueError,
        match=r"no instances\*.json, expected the ground truth of coco_instances.*looks like .*burst",
    ):
        open_case(OFFICIAL["coco_instances"], tmp_path / "gt", tmp_path / "pred", ScoreOptions())


def test_file_that_could_be_several_is_told(vis):
    vis.open()
    (vis.root / "gt/instances.json").rename(vis.root / "gt/a.json")
    _write(vis.root / "gt/b.json", vis.gt)
    with pytest.raises(
        ValueError, match=r"JSON files: 'a.json', 'b.json'; expected the annotations in instances.json or"
    ):
        open_case(OFFICIAL["ytvis_2021"], vis.root / "gt", vis.root / "pred", ScoreOptions())
