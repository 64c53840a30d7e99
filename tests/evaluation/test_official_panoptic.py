import json
import math
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panoptic_cases import (
    CATEGORIES,
    Panoptic,
    draw,
    listed,
    open_files,
    score_files,
    write_coco,
    write_ids,
    write_vipseg,
)
from PIL import Image

IDS = (0, 3, 70000, 9, 1 << 23)
CLASSES = {3: 4, 70000: 1, 9: 5, 1 << 23: 9}
OTHER_IDS = {0: 0, 3: 12, 70000: 2, 9: 99999, 1 << 23: 1}
OTHER_CLASSES = {OTHER_IDS[number]: category for number, category in CLASSES.items()}
INDEX = "panoptic_gt_VIPSeg_val.json"


def _truth(seed, num_frames=9):
    return listed(draw(seed, IDS, num_frames), CLASSES, crowds={9} if seed % 2 else ())


def _prediction(seed, noise, num_frames=9):
    return listed(draw(seed, IDS, num_frames, noise, OTHER_IDS), OTHER_CLASSES)


def _write(root, seeds, noise=0.3):
    names = {f"v{seed}": seed for seed in seeds}
    write_vipseg(root / "gt", {name: _truth(seed) for name, seed in names.items()}, is_truth=True)
    write_vipseg(root / "pred", {name: _prediction(s, noise) for name, s in names.items()}, is_truth=False)


def _write_images(root, seeds, noise=0.3):
    truth = {seed: _truth(seed, 1) for seed in seeds}
    write_coco(root / "gt", truth, is_truth=True, stem="panoptic_val")
    ours = {seed: _prediction(seed, noise, 1) for seed in seeds}
    write_coco(root / "pred", ours, is_truth=False, stem="result")


WRITERS = {"vipseg": _write, "coco_panoptic": _write_images}
seeds = st.lists(st.integers(0, 999), min_size=1, max_size=3, unique=True)


def _scores_in_new_folder(name, write):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return score_files(name, Path(folder))


def _edit(path, change):
    body = json.loads(path.read_text())
    change(body)
    path.write_text(json.dumps(body))


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=15, deadline=None)
@given(seeds=seeds)
def test_perfect_prediction_scores_a_hundred(name, seeds):
    scores = _scores_in_new_folder(name, lambda root: WRITERS[name](root, seeds, noise=0.0))
    measured = {metric: value for metric, value in scores.values.items() if not math.isnan(value)}
    # A video without a judged tube has no association: the official AQ is 0 then.
    tubeless = {"aq", "stq"} if measured.get("aq") == 0 else set()
    assert {metric: value for metric, value in measured.items() if metric not in tubeless} == pytest.approx(
        dict.fromkeys(measured.keys() - tubeless, 100)
    )


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=10, deadline=None)
@given(seeds=seeds, shuffled=st.randoms(use_true_random=False))
def test_order_of_items_and_of_partials_changes_nothing(name, seeds, shuffled):
    other = shuffled.sample(seeds, len(seeds))
    plain = _scores_in_new_folder(name, lambda root: WRITERS[name](root, seeds))
    permuted = _scores_in_new_folder(name, lambda root: WRITERS[name](root, other))
    assert permuted.values == pytest.approx(plain.values, nan_ok=True, rel=0, abs=0)
    assert permuted.items.keys() == plain.items.keys()
    with tempfile.TemporaryDirectory() as folder:
        WRITERS[name](Path(folder), seeds)
        case = open_files(name, Path(folder))
        partials = [case.compare(index) for index in range(len(case.names))]
        travelled = pickle.loads(pickle.dumps(shuffled.sample(partials, len(partials))))
        assert case.score(travelled).values == pytest.approx(plain.values, nan_ok=True, rel=0, abs=0)


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999), swap=st.sampled_from([{1: 9, 9: 1}, {4: 8}, {1: 5, 5: 1}, {5: 9, 9: 5}]))
def test_other_ids_and_other_classes_of_a_kind_change_nothing(name, seed, swap):
    def swapped(root):
        WRITERS[name](root, [seed])
        for path in (*root.glob("gt/*.json"), *root.glob("pred/*.json")):

            def rename(body):
                rows = body["annotations"]
                for frame in (f for row in rows for f in row.get("annotations", [row])):
                    for info in frame["segments_info"]:
                        info["category_id"] = swap.get(info["category_id"], info["category_id"])

            _edit(path, rename)

    plain = _scores_in_new_folder(name, lambda root: WRITERS[name](root, [seed]))
    renamed = _scores_in_new_folder(name, swapped)
    assert renamed.values == pytest.approx(plain.values, nan_ok=True)


def test_an_id_has_the_class_of_its_first_listing_in_the_window_but_of_its_frame_in_stq(tmp_path):
    maps = np.full((2, 4, 4), 7)
    # The truth is class 4 in frame 0 and class 8 from then on; the prediction is class 4 throughout.
    truth = Panoptic(maps=maps, classes=({7: 4}, {7: 8}))
    write_vipseg(tmp_path / "gt", {"v": truth}, is_truth=True)
    write_vipseg(tmp_path / "pred", {"v": listed(maps, {7: 4})}, is_truth=False)
    values = score_files("vipseg", tmp_path).values
    # Frame by frame: class 4 has a hit and a spurious one, class 8 a miss. Both frames together are a hit.
    assert values["vpq1"] == pytest.approx(100 * (1 / 1.5 + 0) / 2)
    assert values["vpq2"] == 100
    assert values["sq"] == pytest.approx(100 * (0.5 + 0) / 2)


def test_a_listed_true_segment_without_pixels_is_missed_and_an_unlisted_one_is_not(tmp_path):
    maps = np.full((1, 4, 4), 7)
    truth = Panoptic(maps=maps, classes=({8: 1},))
    write_vipseg(tmp_path / "gt", {"v": truth}, is_truth=True)
    write_vipseg(tmp_path / "pred", {"v": listed(maps, {7: 4})}, is_truth=False)
    (partial,) = [open_files("vipseg", tmp_path).compare(0)]
    assert partial.panoptic.false_negatives[0].tolist() == [1, 0, 0, 0, 0]
    assert partial.panoptic.false_positives[0].tolist() == [0, 1, 0, 0, 0]
    assert partial.tracking.num_tubes == 0


def test_annotated_areas_count_unless_mended_and_impossible_ones_are_refused(tmp_path):
    maps = np.asarray([[[7] * 6 + [0] * 2]])
    write_vipseg(tmp_path / "gt", {"v": listed(maps, {7: 1})}, is_truth=True)
    write_vipseg(tmp_path / "pred", {"v": listed(maps, {7: 1})}, is_truth=False)

    def set_area(area):
        def change(body):
            body["annotations"][0]["annotations"][0]["segments_info"][0]["area"] = area

        _edit(tmp_path / "gt" / INDEX, change)

    set_area(10)
    assert score_files("vipseg", tmp_path).values["vpq1"] == pytest.approx(60)
    assert score_files("vipseg", tmp_path, "annotated-areas").values["vpq1"] == 100
    set_area(5)
    with pytest.raises(ValueError, match=r"panoptic_gt_.*segment 7 .* 5 pixels .*--mend annotated-areas"):
        score_files("vipseg", tmp_path)


def test_first_thing_is_left_out_of_aq_unless_mended(tmp_path):
    maps = np.asarray([[[1, 1, 2, 2]]])
    write_vipseg(tmp_path / "gt", {"v": listed(maps, {1: 1, 2: 1})}, is_truth=True)
    write_vipseg(tmp_path / "pred", {"v": listed(np.where(maps == 1, 0, maps), {2: 1})}, is_truth=False)
    assert score_files("vipseg", tmp_path).values["aq"] == 100
    assert score_files("vipseg", tmp_path, "first-thing").values["aq"] == 50


def test_items_and_classes_are_scored_on_their_own(tmp_path):
    _write(tmp_path, (0, 1, 2))
    together = score_files("vipseg", tmp_path)
    assert list(together.items) == ["v0", "v1", "v2"]
    assert together.classes.keys() <= {category["name"] for category in CATEGORIES}
    assert together.values["vpq1"] == pytest.approx(
        np.mean([row["vpq1"] for row in together.classes.values() if not math.isnan(row["vpq1"])])
    )
    _write(tmp_path / "alone", (1,))
    assert score_files("vipseg", tmp_path / "alone").values == pytest.approx(
        together.items["v1"], nan_ok=True
    )


def test_missing_video_and_frame_are_refused_or_empty(tmp_path):
    _write(tmp_path, (0, 1, 2))
    perfect = tmp_path / "pred/pan_pred"
    (perfect / "v1/00000003.png").unlink()
    _edit(tmp_path / "pred/pred.json", lambda body: body["annotations"].pop(2))
    with pytest.raises(ValueError, match=r"pred: not predicted: 'v1/00000003', 'v2'; .*--missing empty"):
        open_files("vipseg", tmp_path)
    case = open_files("vipseg", tmp_path, missing="empty")
    assert list(case.missing) == ["v1/00000003", "v2"]
    scores = case.score([case.compare(index) for index in range(3)])
    assert scores.items["v2"]["vpq"] == 0
    assert 0 < scores.items["v1"]["vpq"] < 100


def test_frames_are_found_by_name_whatever_their_order(tmp_path):
    _write(tmp_path, (0,))
    plain = score_files("vipseg", tmp_path).values
    _edit(tmp_path / "pred/pred.json", lambda body: body["annotations"][0]["annotations"].reverse())
    shuffled = score_files("vipseg", tmp_path).values
    assert shuffled["vpq"] == plain["vpq"]
    _edit(
        tmp_path / "pred/pred.json",
        lambda body: [frame.pop("file_name") for frame in body["annotations"][0]["annotations"]],
    )
    with pytest.raises(ValueError, match="does not list"):
        score_files("vipseg", tmp_path)


def _first_frame(body):
    return body["annotations"][0]["annotations"][0]


def _first_info(body):
    return _first_frame(body)["segments_info"][0]


def _second_png(root):
    return root / "pred/pan_pred/v0/00000001.png"


BREAKAGES = {
    "truncated": (
        lambda root: (root / "pred/pred.json").write_text((root / "pred/pred.json").read_text()[:200]),
        r"pred\.json: 200 bytes that are not whole JSON",
    ),
    "no annotations": (
        lambda root: (root / "pred/pred.json").write_text("{}"),
        r"pred\.json: no 'annotations', expected list",
    ),
    "wrong type": (
        lambda root: _edit(root / "pred/pred.json", lambda body: _first_info(body).update(id="7")),
        r"pred\.json: 00000000\.png: segment: 'id' is '7', expected int",
    ),
    "unknown category": (
        lambda root: _edit(root / "pred/pred.json", lambda body: _first_info(body).update(category_id=77)),
        r"has category_id 77, expected one of the 5 of the ground truth, 1\.\.9",
    ),
    "id beyond colors": (
        lambda root: _edit(root / "pred/pred.json", lambda body: _first_info(body).update(id=1 << 24)),
        r"segment id 16777216, expected 1\.\.16777215",
    ),
    "listed twice in a frame": (
        lambda root: _edit(
            root / "pred/pred.json",
            lambda body: _first_frame(body)["segments_info"].append(_first_info(body)),
        ),
        r"00000000\.png: segment \d+ is listed twice",
    ),
    "video twice": (
        lambda root: _edit(
            root / "pred/pred.json", lambda body: body["annotations"].append(body["annotations"][0])
        ),
        r"pred\.json: video_id 'v0' is there twice",
    ),
    "unknown video": (
        lambda root: _edit(
            root / "pred/pred.json",
            lambda body: body["annotations"].append({"video_id": "x", "annotations": []}),
        ),
        r"pred\.json: video_id 'x': not in the ground truth, which has 1",
    ),
    "unknown frame": (
        lambda root: _edit(
            root / "pred/pred.json", lambda body: _first_frame(body).update(file_name="z.png")
        ),
        r"video 'v0': predicts frames 'z', expected those of the ground truth",
    ),
    "unlisted": (
        lambda root: write_ids(_second_png(root), np.full((16, 18), 4711)),
        r"00000001\.png: has segment ids '4711' that .*pred\.json does not list",
    ),
    "not shown": (
        lambda root: write_ids(_second_png(root), np.zeros((16, 18), int)),
        r"pred\.json: lists segment ids .* that .*00000001\.png does not show",
    ),
    "size": (
        lambda root: write_ids(_second_png(root), np.zeros((8, 18), int)),
        r"00000001\.png: 8x18 pixels \(height x width\), expected 16x18",
    ),
    "gray": (
        lambda root: Image.new("L", (18, 16)).save(_second_png(root)),
        r"00000001\.png: .*expected an RGB PNG",
    ),
    "indexed": (
        lambda root: Image.new("P", (18, 16)).save(_second_png(root)),
        r"00000001\.png: .*expected an RGB PNG",
    ),
    "no picture": (
        lambda root: _second_png(root).write_bytes(b"PNG"),
        r"00000001\.png: not a readable PNG of 3 bytes",
    ),
    "cut picture": (
        lambda root: _second_png(root).write_bytes(_second_png(root).read_bytes()[:-40]),
        r"00000001\.png: not a readable PNG",
    ),
    "no true picture": (
        lambda root: (root / "gt/panomasksRGB/v0/00000001.png").unlink(),
        r"panomasksRGB/v0: no '00000001\.png', expected a PNG of the ground truth",
    ),
    "no area": (
        lambda root: _edit(root / "gt" / INDEX, lambda body: _first_info(body).pop("area")),
        r"panoptic_gt_VIPSeg_val\.json: 00000000\.png: segment \d+: no 'area', expected int or float",
    ),
    "wrong benchmark": (
        lambda root: (root / "gt" / INDEX).rename(root / "gt/panoptic_val.json"),
        r"no panoptic_gt_VIPSeg_val\.json, expected the ground truth of vipseg.*looks like coco_panoptic",
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_mistake_is_told_by_file_found_and_expected(breakage, tmp_path):
    _write(tmp_path, (0,))
    change, message = BREAKAGES[breakage]
    change(tmp_path)
    with pytest.raises(ValueError, match=message) as raised:
        score_files("vipseg", tmp_path)
    assert "\n" not in str(raised.value)


def test_unknown_mend_is_refused(tmp_path):
    _write(tmp_path, (0,))
    with pytest.raises(ValueError, match="--mend x: not a quirk of vipseg, expected one of: annotated-areas"):
        score_files("vipseg", tmp_path, "x")


def test_images_missing_or_unknown_or_indexed_twice(tmp_path):
    _write_images(tmp_path, (0, 1, 2))
    _edit(tmp_path / "pred/result.json", lambda body: body["annotations"].pop(1))
    (tmp_path / "pred/result/2.png").unlink()
    with pytest.raises(ValueError, match="pred: not predicted: '1', '2'"):
        open_files("coco_panoptic", tmp_path)
    case = open_files("coco_panoptic", tmp_path, missing="empty")
    scores = case.score([case.compare(index) for index in range(3)])
    assert list(case.missing) == ["1", "2"]
    assert scores.items["1"]["pq"] == scores.items["2"]["pq"] == 0
    (tmp_path / "pred/other").mkdir()
    (tmp_path / "pred/other.json").write_text("{}")
    with pytest.raises(
        ValueError, match=r"2 files \*\.json with a folder .*'other.json', 'result.json'.*expected one"
    ):
        open_files("coco_panoptic", tmp_path)


def test_images_of_ade20k_lie_in_files_of_their_name(tmp_path):
    truth = {seed: _truth(seed, 1) for seed in (0, 1)}
    write_coco(tmp_path / "gt", truth, is_truth=True, stem="ade20k_panoptic_val")
    write_coco(tmp_path / "pred", truth, is_truth=False, stem="predictions")
    assert score_files("ade20k_panoptic", tmp_path).values["pq"] == 100


@pytest.mark.parametrize("name", WRITERS)
def test_frames_are_shown_with_both_maps(name, tmp_path):
    WRITERS[name](tmp_path, (0,))
    shown = open_files(name, tmp_path).show(0, 3)
    num_frames = 3 if name == "vipseg" else 1
    assert shown.truth.maps.shape == shown.prediction.maps.shape == (num_frames, 16, 18)
    assert np.array_equal(shown.truth.maps[0], _truth(0, 9 if name == "vipseg" else 1).maps[0])
    assert [frame.shape for frame in shown.frames] == [(16, 18, 3)] * num_frames
    ids = set(np.unique(shown.prediction.maps).tolist()) - {0}
    assert ids <= {segment.segment_id for segment in shown.prediction.segments}
