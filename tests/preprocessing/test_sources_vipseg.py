import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from preprocessing.errors import Finding, ItemError, SourceError
from preprocessing.masks import decode_mask
from preprocessing.miniature import MiniatureConfig, build
from preprocessing.sources.catalog import require_source
from preprocessing.sources.vipseg_labels import category_of_value
from preprocessing.validate import validate
from preprocessing.worlds import WorldConfig
from univs.labels import Category, LabelSpace

SOURCE = require_source("vipseg")
LABELS = np.array([[[0, 1, 1], [6100, 6101, 6100]], [[1, 1, 1], [6101, 6101, 2]]], dtype=np.uint16)
STEMS = ("00000301", "00000304")
CATEGORIES = json.dumps([{"id": i, "name": f"c{i}", "isthing": int(i == 60)} for i in range(124)])


@pytest.fixture
def root(tmp_path):
    write_video(tmp_path, LABELS)
    (tmp_path / "val.txt").write_text("0_wH\n")
    (tmp_path / "panoVIPSeg_categories.json").write_text(CATEGORIES)
    return tmp_path


def write_video(root, labels, stems=STEMS):
    for folder in ("imgs", "panomasks"):
        (root / folder / "0_wH").mkdir(parents=True, exist_ok=True)
    for stem, frame in zip(stems, labels, strict=True):
        Image.new("RGB", frame.shape[::-1]).save(root / f"imgs/0_wH/{stem}.jpg")
        Image.fromarray(frame).save(root / f"panomasks/0_wH/{stem}.png")


def read_only(root):
    (item,) = SOURCE.scan(root, "val")
    return SOURCE.read(root, "val", item)


def rejection(root):
    with pytest.raises(ItemError) as caught:
        validate(read_only(root))
    return caught.value.code, caught.value.message


def test_read_video_gives_stuff_and_instances_with_file_ids(root):
    record = validate(read_only(root)).record
    assert [(t.source_id, t.category_id, t.states) for t in record.objects] == [
        ("1", 0, "VV"),
        ("2", 1, "AV"),
        ("6100", 60, "VA"),
        ("6101", 60, "VV"),
    ]
    for track in record.objects:
        for labels, counts in zip(LABELS, track.rles, strict=True):
            expected = labels == int(track.source_id)
            mask = np.zeros_like(expected) if counts is None else decode_mask(counts, 2, 3)
            np.testing.assert_array_equal(mask, expected)
    (void,) = record.regions
    assert void.kind == "void"
    assert void.rles[1] is None
    np.testing.assert_array_equal(decode_mask(void.rles[0], 2, 3), LABELS[0] == 0)
    assert [frame.name for frame in record.frames] == ["00000301.jpg", "00000304.jpg"]
    assert record.is_partition


@pytest.mark.parametrize("value", [125, 150, 199, 301, 12500, 65535])
def test_read_illegal_value_is_e132(root, value):
    labels = LABELS.copy()
    labels[1, 0, 0] = value
    write_video(root, labels)
    assert rejection(root) == (
        "E132",
        f"0_wH: value {value}: not void, not a class 1..124, not thing class * 100 + instance",
    )


def test_read_illegal_value_names_the_first_image_that_has_it(root):
    labels = LABELS.copy()
    labels[1, 0, 0] = 150
    write_video(root, labels)
    with pytest.raises(ItemError) as caught:
        read_only(root)
    assert caught.value.file == "panomasks/0_wH/00000304.png"


@pytest.mark.parametrize(
    ("value", "category_id", "problem"),
    [
        (61, 60, "thing class without an instance number"),
        (300, 2, "stuff class with an instance number"),
        (12_400, 123, "stuff class with an instance number"),
    ],
)
def test_read_odd_value_is_kept_with_a_warning(root, value, category_id, problem):
    labels = LABELS.copy()
    labels[1, 0, 0] = value
    write_video(root, labels)
    video = read_only(root)
    objects = validate(video).record.objects
    assert [(t.category_id, t.states) for t in objects if t.source_id == str(value)] == [(category_id, "AV")]
    assert video.findings == (
        Finding(
            code="W133",
            message=f"0_wH: value {value}: {problem}, kept as one object",
            file="panomasks/0_wH/00000304.png",
        ),
    )


def test_category_of_value_every_value_of_the_real_table_follows_the_rule():
    things = {class_id for class_id in range(124) if class_id % 3 == 1}
    rows = tuple(Category(category_id=i, name=str(i), is_thing=i in things) for i in range(124))
    space = LabelSpace(name="vipseg", categories=rows)
    expected = {value: value - 1 for value in range(1, 125)}
    expected |= {(i + 1) * 100 + k: i for i in things for k in range(100)}
    expected |= {(i + 1) * 100: i for i in range(1, 124)}
    for value in range(1, 20_000):
        assert category_of_value(value, space) == expected.get(value)


def test_read_test_split_without_masks_has_no_ground_truth(root):
    shutil.rmtree(root / "panomasks")
    (root / "val.txt").rename(root / "test.txt")
    (item,) = SOURCE.scan(root, "test")
    record = validate(SOURCE.read(root, "test", item)).record
    assert (record.ground_truth, record.is_partition, record.objects, record.regions) == (
        "none",
        False,
        (),
        (),
    )
    assert (record.height, record.width) == (2, 3)
    assert [frame.labelled for frame in record.frames] == [False, False]


def test_read_test_split_with_masks_has_ground_truth(root):
    (root / "val.txt").rename(root / "test.txt")
    (item,) = SOURCE.scan(root, "test")
    record = validate(SOURCE.read(root, "test", item)).record
    assert (record.ground_truth, len(record.objects)) == ("full", 4)


def test_read_names_group_and_rate(root):
    record = read_only(root).record
    assert (record.group, record.frames_per_second) == ("vipseg:0_wH", 5.0)


def test_read_without_masks_is_e151_but_in_test(root):
    shutil.rmtree(root / "panomasks")
    assert rejection(root) == ("E151", "0_wH: 2 jpg, 0 png; frame 00000301 has no label file")


@pytest.mark.parametrize("split", ["val", "test"])
def test_read_without_images_is_e153(root, split):
    (root / f"{split}.txt").write_text("gone\n")
    (item,) = SOURCE.scan(root, split)
    with pytest.raises(ItemError) as caught:
        SOURCE.read(root, split, item)
    assert (caught.value.code, caught.value.message) == (
        "E153",
        "gone: no frames on disk; check the split list and unpack the images",
    )


def test_read_palette_label_is_e130(root):
    Image.new("P", (3, 2)).save(root / f"panomasks/0_wH/{STEMS[1]}.png")
    assert rejection(root) == (
        "E130",
        "0_wH: label image 00000304.png has mode P; expected I;16 or I;16B or I or L",
    )


def test_read_label_of_other_size_is_e131(root):
    Image.fromarray(LABELS[1].T.copy()).save(root / f"panomasks/0_wH/{STEMS[1]}.png")
    assert rejection(root) == ("E131", "0_wH/00000304.png: label image 2x3; expected 3x2 (w x h)")


def test_read_missing_label_is_e151(root):
    (root / f"panomasks/0_wH/{STEMS[1]}.png").unlink()
    assert rejection(root) == ("E151", "0_wH: 2 jpg, 1 png; frame 00000304 has no label file")


def test_read_unsafe_name_is_e190(root):
    (root / "val.txt").write_text("../0_wH")
    assert rejection(root) == ("E190", "../0_wH: '../0_wH'; expected a path inside the dataset")


def test_label_space_missing_file_raises(root):
    (root / "panoVIPSeg_categories.json").unlink()
    with pytest.raises(SourceError) as caught:
        SOURCE.label_space(root)
    assert str(caught.value) == (
        f"--source {root}: panoVIPSeg_categories.json not found; expected the list of 124 categories with "
        "id, name and isthing; take it from the VIPSeg repository"
    )


@pytest.mark.parametrize("content", ["{}", "[]", '[{"id": 1}]', "[1]", "3"])
def test_label_space_malformed_file_raises(root, content):
    (root / "panoVIPSeg_categories.json").write_text(content)
    with pytest.raises(SourceError, match=r"panoVIPSeg_categories.json is malformed \(\w+: .*\); expected"):
        SOURCE.label_space(root)


def test_scan_missing_list_raises(root):
    with pytest.raises(
        SourceError, match=r"train.txt not found; expected the list of video names; take it from"
    ):
        list(SOURCE.scan(root, "train"))


def test_real_meta_files_hold_the_published_counts():
    samples = os.environ.get("UNIVS_SAMPLES_DIR")
    if not samples:
        pytest.skip("UNIVS_SAMPLES_DIR is not set")
    root = Path(samples) / "vipseg_meta"
    listed = {split: len(list(SOURCE.scan(root, split))) for split in SOURCE.spec.splits}
    assert listed == {split: counts.num_items for split, counts in SOURCE.spec.counts.items()}
    assert sum(counts.num_frames for counts in SOURCE.spec.counts.values()) == 84_750
    space = SOURCE.label_space(root)
    assert (len(space.categories), sum(space.is_thing)) == (124, 58)
    assert (space.categories[0].category_id, space.names[0]) == (0, "wall")


def test_real_frames_without_masks_survive_the_shard(tmp_path, packed_items):
    samples = os.environ.get("UNIVS_SAMPLES_DIR")
    if not samples:
        pytest.skip("UNIVS_SAMPLES_DIR is not set")
    images = Path(samples) / "vipseg_frames_only/imgs"
    (tmp_path / "imgs").symlink_to(images)
    table = Path(samples) / "vipseg_meta/panoVIPSeg_categories.json"
    (tmp_path / "panoVIPSeg_categories.json").write_bytes(table.read_bytes())
    (tmp_path / "test.txt").write_text("46_50eFKgZBBto")
    (item,) = packed_items(SOURCE, tmp_path, "test").values()
    official = sorted((images / "46_50eFKgZBBto").iterdir())
    assert [frame.name for frame in item.record.frames] == [path.name for path in official]
    assert list(item.frame_bytes) == [path.read_bytes() for path in official]
    assert item.record.ground_truth == "none"


def paint(record, index):
    """Give a frame's official label image back."""
    values = np.zeros((record.height, record.width), dtype=np.uint16)
    for track in record.objects:
        if track.rles[index]:
            values[decode_mask(track.rles[index], *values.shape)] = int(track.source_id)
    return values


@pytest.mark.parametrize(
    ("name", "images", "masks"),
    [
        ("vipseg", "imgs", "panomasks"),
        ("vipseg_720p", "VIPSeg_720P/images", "VIPSeg_720P/panomasks"),
    ],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_round_trip_of_the_miniature_gives_the_official_files(
    tmp_path, packed_items, name, images, masks, split
):
    config = MiniatureConfig(train_videos=2, val_videos=2, world=WorldConfig(num_frames=4, visitor_rate=1.0))
    root = build(tmp_path, config, [name])[name]
    items = packed_items(require_source(name), root, split)
    assert sorted(items) == sorted((root / f"{split}.txt").read_text().split())
    for item_id, item in items.items():
        labels = sorted((root / masks / item_id).iterdir())
        assert [frame.stem for frame in item.record.frames] == [path.stem for path in labels]
        for index, path in enumerate(labels):
            with Image.open(path) as image:
                np.testing.assert_array_equal(paint(item.record, index), np.asarray(image))
            official = root / images / item_id / f"{path.stem}.jpg"
            assert item.frame_bytes[index] == official.read_bytes()


@pytest.mark.parametrize("images", ["images", "imgs"])
@pytest.mark.parametrize("folder", ["VIPSeg_720P", "."])
def test_read_720p_tree_under_all_its_names(root, images, folder):
    expected = read_only(root).record
    (root / folder).mkdir(exist_ok=True)
    (root / "imgs").rename(root / folder / images)
    (root / "panomasks").rename(root / folder / "panomasks")
    source = require_source("vipseg_720p")
    (item,) = source.scan(root, "val")
    video = source.read(root, "val", item)
    assert validate(video).record == replace(expected, dataset="vipseg_720p")
    assert video.frame_paths[0] == root / folder / images / "0_wH/00000301.jpg"


def test_read_720p_tree_does_not_take_the_original_images(root):
    (root / "VIPSeg_720P").mkdir()
    source = require_source("vipseg_720p")
    (item,) = source.scan(root, "val")
    with pytest.raises(ItemError, match="^E153 .*: 0_wH: no frames on disk"):
        source.read(root, "val", item)


@settings(deadline=None, max_examples=30)
@given(
    arrays(
        np.uint16,
        array_shapes(min_dims=3, max_dims=3, max_side=4),
        elements=st.sampled_from([0, 1, 2, 3, 6100, 6101, 6199, 61, 300, 124]),
    )
)
def test_round_trip_of_any_labels_gives_them_back(labels):
    with TemporaryDirectory() as name:
        root = Path(name)
        stems = [f"{3 * index:08d}" for index in range(len(labels))]
        write_video(root, labels, stems)
        (root / "train.txt").write_text("0_wH")
        (root / "panoVIPSeg_categories.json").write_text(CATEGORIES)
        (item,) = SOURCE.scan(root, "train")
        record = validate(SOURCE.read(root, "train", item)).record
        painted = [paint(record, index) for index in range(len(labels))]
    np.testing.assert_array_equal(painted, labels)
