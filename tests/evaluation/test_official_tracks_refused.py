"""Mistakes in files of YouTube-VIS, COCO instances and BURST: one line says which file and what is wrong."""

import json
import math

import pytest

from univs.evaluation.official.case import ScoreOptions
from univs.evaluation.official.catalog import OFFICIAL, open_case


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
        r"D/a, track_category_ids: no '2', expected int",
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


def test_unknown_exemplar_is_refused(track_files, tmp_path):
    files = track_files("burst_exemplar", tmp_path)
    files.pred["sequences"][0]["segmentations"][0]["9"] = {"rle": "P137"}
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
    (vis.root / "gt/b.json").write_text(json.dumps(vis.gt))
    with pytest.raises(
        ValueError, match=r"JSON files: 'a.json', 'b.json'; expected the annotations in instances.json or"
    ):
        open_case(OFFICIAL["ytvis_2021"], vis.root / "gt", vis.root / "pred", ScoreOptions())
