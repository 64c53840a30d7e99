import logging
import pickle
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panoptic_cases import draw, open_files, score_files, write_labels, write_vspw
from PIL import Image

VALUES = (0, 255, 1, 7, 124)
seeds = st.lists(st.integers(0, 999), min_size=1, max_size=3, unique=True)


def _true(seed):
    return draw(seed, VALUES, 12)


def _predicted(seed, noise=0.3):
    values = draw(seed, VALUES, 12, noise)
    return np.where((values == 0) | (values == 255), 5, values - 1)


def _write_vspw(root, seeds, noise=0.3):
    videos = {f"v{seed}": (_true(seed), _predicted(seed, noise)) for seed in seeds}
    write_vspw(root / "gt", root / "pred", videos)


def _write_ade20k(root, seeds, noise=0.3):
    for seed in seeds:
        true = np.where(_true(seed)[0] == 255, 0, _true(seed)[0])
        write_labels(root / f"gt/annotations/validation/ADE_val_{seed:08d}.png", true)
        write_labels(root / f"pred/ADE_val_{seed:08d}.png", _predicted(seed, noise)[0], "P")


def _write_coco(root, seeds, noise=0.3):
    for seed in seeds:
        true = _true(seed)[0]
        labels = np.where((true == 0) | (true == 255), 255, true - 1)
        write_labels(root / f"gt/panoptic_semseg_val2017/{seed:012d}.png", labels)
        write_labels(root / f"pred/{seed:012d}.png", _predicted(seed, noise)[0])


WRITERS = {"vspw": _write_vspw, "ade20k": _write_ade20k, "coco_semantic": _write_coco}


def _scores_in_new_folder(name, write):
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        return score_files(name, Path(folder))


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=10, deadline=None)
@given(seeds=seeds)
def test_perfect_prediction_scores_a_hundred(name, seeds):
    values = _scores_in_new_folder(name, lambda root: WRITERS[name](root, seeds, 0.0)).values
    pixels = {metric: value for metric, value in values.items() if not metric.startswith("vc")}
    assert pixels == pytest.approx(dict.fromkeys(pixels, 100))


@pytest.mark.parametrize("name", WRITERS)
@settings(max_examples=10, deadline=None)
@given(seeds=seeds, shuffled=st.randoms(use_true_random=False))
def test_order_of_items_and_of_partials_changes_nothing(name, seeds, shuffled):
    other = shuffled.sample(seeds, len(seeds))
    plain = _scores_in_new_folder(name, lambda root: WRITERS[name](root, seeds))
    permuted = _scores_in_new_folder(name, lambda root: WRITERS[name](root, other))
    assert permuted.values == pytest.approx(plain.values, nan_ok=True, rel=0, abs=0)
    with tempfile.TemporaryDirectory() as folder:
        WRITERS[name](Path(folder), seeds)
        case = open_files(name, Path(folder))
        partials = [case.compare(index) for index in range(len(case.names))]
        travelled = pickle.loads(pickle.dumps(shuffled.sample(partials, len(partials))))
        assert case.score(travelled).values == pytest.approx(plain.values, nan_ok=True, rel=0, abs=0)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 999))
def test_other_classes_change_nothing(seed):
    numbers = np.random.default_rng(seed).permutation(124)

    def renamed(root):
        true, predicted = _true(seed), _predicted(seed)
        is_class = (true > 0) & (true < 255)
        renamed_true = np.where(is_class, numbers[np.where(is_class, true - 1, 0)] + 1, true)
        write_vspw(root / "gt", root / "pred", {"v": (renamed_true, numbers[predicted])})

    plain = _scores_in_new_folder("vspw", lambda root: _write_vspw(root, [seed])).values
    assert _scores_in_new_folder("vspw", renamed).values == pytest.approx(plain, nan_ok=True)


def _write_pixels(root, true, predicted):
    """Write one video whose frames are single lines."""
    videos = {"v": (np.asarray(true)[:, None], np.asarray(predicted)[:, None])}
    write_vspw(root / "gt", root / "pred", videos)


def test_void_codes_are_two_labels_for_consistency_unless_mended(tmp_path):
    true = [[0 if t % 2 else 255, 1, 1] for t in range(9)]
    _write_pixels(tmp_path, true, [[t % 2, 0, 0] for t in range(9)])
    assert score_files("vspw", tmp_path).values["vc8"] == 100
    assert score_files("vspw", tmp_path, "void-codes").values["vc8"] == pytest.approx(100 * 2 / 3)


def test_last_window_of_a_video_counts_only_if_mended(tmp_path):
    true = np.ones((9, 2), int)
    predicted = np.zeros((9, 2), int)
    predicted[8, 0] = 3
    _write_pixels(tmp_path, true, predicted)
    assert score_files("vspw", tmp_path).values["vc8"] == 100
    assert score_files("vspw", tmp_path, "last-window").values["vc8"] == 75


def test_values_that_are_no_class_wrap_with_a_warning_or_count_as_wrong(tmp_path, caplog):
    _write_pixels(tmp_path, [[1, 1, 3, 0]], [[0, 255, 2, 255]])
    with caplog.at_level(logging.WARNING):
        wrapped = score_files("vspw", tmp_path).values
    assert "1 labelled pixels of 1 videos are not 0..123" in caplog.text
    assert "--mend values-above-123" in caplog.text
    # The official matrix moves a 255 on class 0 to row 2, column 7.
    assert wrapped["miou"] == pytest.approx(100 * (1 + 1 / 2) / 2)
    mended = score_files("vspw", tmp_path, "values-above-123").values
    assert mended["miou"] == pytest.approx(100 * (1 / 2 + 1) / 2)
    assert mended["pacc"] == pytest.approx(100 * 2 / 3)


def test_values_that_make_the_official_evaluator_fail_are_refused(tmp_path):
    _write_pixels(tmp_path, [[123, 1]], [[255, 0]])
    with pytest.raises(ValueError, match=r"v/00000000\.png: value 255, .*class 123, .*expected 0\.\.123"):
        score_files("vspw", tmp_path)
    assert score_files("vspw", tmp_path, "values-above-123").values["miou"] == 50


def test_missing_video_and_frame_are_refused_or_score_nothing(tmp_path):
    _write_vspw(tmp_path, (0, 1, 2), noise=0.0)
    (tmp_path / "pred/v1/00000002.png").unlink()
    for path in (tmp_path / "pred/v2").iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"pred: not predicted: 'v1/00000002', 'v2'; .*--missing empty"):
        open_files("vspw", tmp_path)
    scores = score_files("vspw", tmp_path, missing="empty")
    assert scores.items["v0"]["miou"] == 100
    assert scores.items["v1"]["pacc"] == pytest.approx(100 * 11 / 12, abs=3)
    assert scores.items["v2"]["miou"] == scores.items["v2"]["vc8"] == 0
    assert scores.items["v1"]["vc8"] < scores.items["v0"]["vc8"]


def test_missing_image_scores_nothing(tmp_path):
    _write_ade20k(tmp_path, (0, 1), noise=0.0)
    (tmp_path / "pred/ADE_val_00000001.png").unlink()
    with pytest.raises(ValueError, match="not predicted: 'ADE_val_00000001'"):
        open_files("ade20k", tmp_path)
    scores = score_files("ade20k", tmp_path, missing="empty")
    assert scores.items["ADE_val_00000001"]["miou"] == 0
    assert 0 < scores.values["pacc"] < 100


def test_detectron2_s_ground_truth_of_ade20k_scores_like_the_released_one(tmp_path):
    _write_ade20k(tmp_path, (0, 1))
    released = score_files("ade20k", tmp_path).values
    for path in (tmp_path / "gt/annotations/validation").iterdir():
        values = np.asarray(Image.open(path)) - 1  # 0 becomes 255
        write_labels(tmp_path / "gt/annotations_detectron2/validation" / path.name, values)
        path.unlink()
    (tmp_path / "gt/annotations/validation").rmdir()
    assert score_files("ade20k", tmp_path).values == released


def test_classes_are_named_and_scored(tmp_path):
    write_labels(tmp_path / "gt/annotations/validation/a.png", [[1, 1, 2, 0]])
    write_labels(tmp_path / "pred/a.png", [[0, 1, 1, 1]])
    scores = score_files("ade20k", tmp_path)
    assert scores.classes == {"wall": {"iou": 50, "acc": 50}, "building": {"iou": 50, "acc": 100}}
    assert scores.values == pytest.approx({"miou": 50, "fwiou": 50, "macc": 75, "pacc": 100 * 2 / 3})


BREAKAGES = {
    "size": (
        lambda root: write_labels(root / "pred/v0/00000001.png", np.zeros((8, 18))),
        r"00000001\.png: 8x18 pixels \(height x width\), expected 16x18",
    ),
    "colors": (
        lambda root: Image.new("RGB", (18, 16)).save(root / "pred/v0/00000001.png"),
        r"00000001\.png: mode RGB, expected an indexed \(P\) or gray \(L\) PNG",
    ),
    "cut": (
        lambda root: (root / "pred/v0/00000001.png").write_bytes(b"\x89PNG"),
        r"00000001\.png: not a readable PNG",
    ),
    "unknown true class": (
        lambda root: write_labels(root / "gt/data/v0/mask/00000001.png", np.full((16, 18), 200)),
        r"mask/00000001\.png: values '200', expected 1\.\.124, or 0 or 255 for void",
    ),
    "sizes of frames": (
        lambda root: [
            write_labels(root / folder / "00000001.png", np.ones((8, 18)))
            for folder in ("gt/data/v0/mask", "pred/v0")
        ],
        r"mask/00000001\.png: a frame has shape \(8, 18\), expected \(16, 18\)",
    ),
    "no list": (
        lambda root: (root / "gt/val.txt").unlink(),
        r"val\.txt: not there, expected a list of videos",
    ),
    "no masks": (
        lambda root: (root / "gt/val.txt").write_text("v0\nv9\n"),
        r"data/v9/mask: no PNG, expected the masks of a video of val\.txt",
    ),
    "wrong benchmark": (
        lambda root: (root / "gt/data").rename(root / "gt/annotations"),
        r"no \*\*/data/\*/mask, expected the ground truth of vspw",
    ),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_mistake_is_told_by_file_found_and_expected(breakage, tmp_path):
    _write_vspw(tmp_path, (0,))
    change, message = BREAKAGES[breakage]
    change(tmp_path)
    with pytest.raises(ValueError, match=message) as raised:
        score_files("vspw", tmp_path)
    assert "\n" not in str(raised.value)


def test_image_with_a_value_that_is_no_class_is_refused(tmp_path):
    write_labels(tmp_path / "gt/annotations/validation/a.png", [[1, 0]])
    write_labels(tmp_path / "pred/a.png", [[150, 0]])
    with pytest.raises(ValueError, match=r"a\.png: labelled pixels have values '150', expected 0\.\.149"):
        score_files("ade20k", tmp_path)
    write_labels(tmp_path / "pred/a.png", [[0, 150]])
    assert score_files("ade20k", tmp_path).values["miou"] == 100


@pytest.mark.parametrize("name", WRITERS)
def test_frames_are_shown_with_both_labellings(name, tmp_path):
    WRITERS[name](tmp_path, (0,), 0.0)
    shown = open_files(name, tmp_path).show(0, 4)
    num_frames = 4 if name == "vspw" else 1
    assert shown.truth.labels.shape == shown.prediction.labels.shape == (num_frames, 16, 18)
    labelled = shown.truth.labels >= 0
    assert labelled.any()
    assert np.array_equal(shown.truth.labels[labelled], shown.prediction.labels[labelled])
    assert [frame.shape for frame in shown.frames] == [(16, 18, 3)] * num_frames
