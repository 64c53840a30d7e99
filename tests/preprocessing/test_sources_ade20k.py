import csv
import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from preprocessing.errors import Finding, ItemError, SourceError
from preprocessing.masks import decode_mask, encode_mask
from preprocessing.miniature import MiniatureConfig, build
from preprocessing.sources.catalog import require_source
from preprocessing.validate import validate

SOURCE = require_source("ade20k")
STEM = "ADE_train_00000001"
NAMES = (
    "Idx\tRatio\tTrain\tVal\tName",
    "1\t.5\t9\t9\twall",
    "8 \t.2\t9\t9\tbed ",
    "13\t.1\t9\t9\tperson, soul",
)
MAPPING = ("Instacne100\tSceneParse150\tFullADE20K", "1\t\t8\t\t165", "4\t\t13\t\t1831", "4\t\t13\t\t1832")
SEMANTIC = np.array([[1, 1, 8, 8], [0, 13, 13, 8]], dtype=np.uint8)
INSTANCES = np.array([[0, 0, 1, 1], [0, 2, 0, 1]], dtype=np.uint8)
"""Instance numbers: 1 is a bed, 2 a person; one pixel of person has none."""
CLASS_OF_NUMBER = np.array([0, 1, 4], dtype=np.uint8)


def write_labels(root, semantic, colors):
    for name, labels in (("annotations", semantic), ("annotations_instance", colors)):
        (root / name / "training").mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(root / name / "training" / f"{STEM}.png")


def to_colors(numbers):
    return np.stack([CLASS_OF_NUMBER[numbers], numbers, np.zeros_like(numbers)], axis=2)


@pytest.fixture
def root(tmp_path):
    for folder in ("training", "testing"):
        (tmp_path / "images" / folder).mkdir(parents=True)
        Image.new("RGB", (4, 2)).save(tmp_path / "images" / folder / f"{STEM}.jpg")
    write_labels(tmp_path, SEMANTIC, to_colors(INSTANCES))
    (tmp_path / "objectInfo150.txt").write_text("\n".join(NAMES) + "\n")
    (tmp_path / "ade20k_instance_catid_mapping.txt").write_text("\n".join(MAPPING) + "\n")
    return tmp_path


def read_only(root, split="train"):
    (item,) = SOURCE.scan(root, split)
    return SOURCE.read(root, split, item)


def rejected(root):
    with pytest.raises(ItemError) as caught:
        validate(read_only(root))
    return caught.value


def rejection(root):
    return rejected(root).code, rejected(root).message


def paint(record, class_of):
    """Give the two official label images back: classes [H, W] and colors [H, W, 3]."""
    semantic = np.full((record.height, record.width), 255, dtype=np.uint8)
    colors = np.zeros((record.height, record.width, 3), dtype=np.uint8)
    for track in record.objects:
        mask = decode_mask(track.rles[0], *semantic.shape)
        red, green = divmod(int(track.source_id), 1000)
        semantic[mask] = class_of[red] if red else green
        if red:
            colors[mask] = (red, green, 0)
    for region in record.regions:
        semantic[decode_mask(region.rles[0], *semantic.shape)] = 0
    for value, rle in json.loads(record.extra or "{}").get("semantic", {}).items():
        semantic[decode_mask(rle, *semantic.shape)] = int(value)
    return semantic, colors


def test_read_image_is_a_partition_of_stuff_instances_and_crowds(root):
    video = read_only(root)
    record = validate(video).record
    assert [(t.source_id, t.category_id, t.is_crowd) for t in record.objects] == [
        ("1", 1, False),
        ("13", 13, True),
        ("1001", 8, False),
        ("4002", 13, False),
    ]
    assert record.is_partition
    (region,) = record.regions
    assert (region.kind, region.rles) == ("unlabelled", (encode_mask(SEMANTIC == 0),))
    semantic, colors = paint(record, {1: 8, 4: 13})
    np.testing.assert_array_equal(semantic, SEMANTIC)
    np.testing.assert_array_equal(colors, to_colors(INSTANCES))
    assert (record.extra, video.findings) == ("", ())
    assert (record.item_id, record.group, record.ground_truth) == (STEM, f"ade20k:{STEM}", "full")


def test_read_instance_over_another_class_keeps_both_with_a_warning(root):
    numbers = INSTANCES.copy()
    numbers[0, 0], numbers[1, 0] = 2, 1
    write_labels(root, SEMANTIC, to_colors(numbers))
    video = read_only(root)
    record = validate(video).record
    corner, other = np.zeros((2, 4), dtype=np.bool_), np.zeros((2, 4), dtype=np.bool_)
    corner[0, 0], other[1, 0] = True, True
    assert json.loads(record.extra) == {"semantic": {"0": encode_mask(other), "1": encode_mask(corner)}}
    assert video.findings == (
        Finding(
            code="W139",
            message=f"{STEM}: 2 pixels of instances are of another class in annotations",
            file=f"annotations_instance/training/{STEM}.png",
        ),
    )
    semantic, colors = paint(record, {1: 8, 4: 13})
    np.testing.assert_array_equal(semantic, SEMANTIC)
    np.testing.assert_array_equal(colors, to_colors(numbers))


def test_read_instance_class_without_number_is_a_crowd(root):
    colors = to_colors(INSTANCES)
    colors[1, 2] = (4, 0, 0)
    write_labels(root, SEMANTIC, colors)
    record = validate(read_only(root)).record
    assert [(t.source_id, t.category_id) for t in record.objects if t.is_crowd] == [("4000", 13)]
    np.testing.assert_array_equal(paint(record, {1: 8, 4: 13})[1], colors)


def test_read_without_instances_gives_classes_that_are_all_stuff(root):
    shutil.rmtree(root / "annotations_instance")
    record = validate(read_only(root)).record
    assert [(t.source_id, t.category_id, t.is_crowd) for t in record.objects] == [
        ("1", 1, False),
        ("8", 8, False),
        ("13", 13, False),
    ]
    assert not any(SOURCE.label_space(root).is_thing)
    np.testing.assert_array_equal(paint(record, {})[0], SEMANTIC)


def test_read_test_split_has_no_ground_truth(root):
    record = validate(read_only(root, "test")).record
    assert (record.ground_truth, record.is_partition, record.objects, record.regions) == (
        "none",
        False,
        (),
        (),
    )
    assert (record.height, record.width, record.frames[0].labelled) == (2, 4, False)


def test_label_space_has_names_and_things_of_the_files(root):
    space = SOURCE.label_space(root)
    assert space.name == "ade20k"
    assert [(c.category_id, c.name, c.is_thing) for c in space.categories] == [
        (1, "wall", False),
        (8, "bed", True),
        (13, "person, soul", True),
    ]


def test_read_without_mapping_takes_the_built_in_one(root):
    official = validate(read_only(root)).record
    (root / "ade20k_instance_catid_mapping.txt").unlink()
    assert validate(read_only(root)).record == official


def test_read_instance_of_a_class_that_is_not_listed_is_e123(root):
    path = root / "ade20k_instance_catid_mapping.txt"
    path.write_text(path.read_text().replace("4\t\t13", "4\t\t99"))
    expected = f"{STEM}: an instance is of class 99, which objectInfo150.txt lacks"
    assert rejection(root) == ("E123", expected)


@pytest.mark.parametrize("value", [2, 150, 255])
def test_read_class_outside_the_table_is_e129(root, value):
    labels = SEMANTIC.copy()
    labels[0, 1] = value
    write_labels(root, labels, to_colors(INSTANCES))
    assert rejection(root) == ("E129", f"{STEM}: value {value}; expected 0 or one of 1..13")
    assert rejected(root).file == f"annotations/training/{STEM}.png"


@pytest.mark.parametrize("color", [(2, 1, 0), (0, 3, 0), (4, 1, 1), (0, 0, 1)])
def test_read_illegal_color_is_e129(root, color):
    colors = to_colors(INSTANCES)
    colors[0, 0] = color
    write_labels(root, SEMANTIC, colors)
    assert rejection(root) == (
        "E129",
        f"{STEM}: color {color}; expected R of 1..4 for the instance class, G for the instance, B of 0",
    )
    assert rejected(root).file == f"annotations_instance/training/{STEM}.png"


def test_read_instances_of_other_size_is_e131(root):
    write_labels(root, SEMANTIC, to_colors(INSTANCES.T.copy()))
    assert rejection(root) == ("E131", f"{STEM}: label image 2x4; expected 4x2 (w x h)")


def test_read_image_of_other_size_is_e103(root):
    Image.new("RGB", (4, 3)).save(root / "images/training" / f"{STEM}.jpg")
    assert rejection(root) == ("E103", f"{STEM}: image 4x3; expected 4x2 (w x h)")


def test_read_gray_instances_is_e130(root):
    write_labels(root, SEMANTIC, INSTANCES)
    assert rejection(root) == ("E130", f"{STEM}: label image {STEM}.png has mode L; expected RGB")


@pytest.mark.parametrize("name", ["annotations", "annotations_instance"])
def test_read_missing_label_is_e151(root, name):
    (root / name / "training" / f"{STEM}.png").unlink()
    assert rejection(root) == ("E151", f"{STEM}: label image {STEM}.png not found")
    assert rejected(root).file == f"{name}/training/{STEM}.png"


def test_read_truncated_label_is_e102(root):
    path = root / "annotations/training" / f"{STEM}.png"
    path.write_bytes(path.read_bytes()[:40])
    assert rejected(root).code == "E102"


def test_read_missing_image_is_e101(root):
    (root / "images/training" / f"{STEM}.jpg").unlink()
    assert rejection(root) == (
        "E101",
        f"{STEM}: training/{STEM}.jpg not found; unpack the images completely",
    )


def test_scan_missing_split_raises(root):
    with pytest.raises(SourceError) as caught:
        list(SOURCE.scan(root, "val"))
    assert str(caught.value) == (
        f"--source {root}: images/validation holds no *.jpg; expected ADE_val_*.jpg; "
        "unpack ADEChallengeData2016.zip"
    )


def test_label_space_missing_names_raises(root):
    (root / "objectInfo150.txt").unlink()
    with pytest.raises(SourceError) as caught:
        SOURCE.label_space(root)
    assert str(caught.value) == (
        f"--source {root}: objectInfo150.txt not found; expected the classes, one a line, with Idx and Name "
        "among the columns of its first line; take it from ADEChallengeData2016.zip"
    )


@pytest.mark.parametrize(
    "content", ["Idx\tName\nx\ty\n", "Idx,Name\n1,wall\n", "Idx\tName\n1\n", "Idx\tName\n"]
)
def test_label_space_malformed_names_raise(root, content):
    (root / "objectInfo150.txt").write_text(content)
    with pytest.raises(
        SourceError, match=r"objectInfo150.txt is malformed \(\w+: .*\); expected the classes"
    ):
        SOURCE.label_space(root)


@pytest.mark.parametrize("content", ["head\n", "head\n1\n", "head\n1 x\n", "head\n300 8\n", "head\n0 8\n"])
def test_label_space_malformed_mapping_raises(root, content):
    (root / "ade20k_instance_catid_mapping.txt").write_text(content)
    with pytest.raises(
        SourceError, match=r"ade20k_instance_catid_mapping.txt is malformed \(\w+: .*\); expected an inst"
    ):
        SOURCE.label_space(root)


@pytest.mark.parametrize("split", ["train", "val"])
def test_round_trip_of_the_miniature_gives_the_official_files(tmp_path, packed_items, split):
    root = build(tmp_path, MiniatureConfig(train_images=3, val_images=2), ["ade20k"])["ade20k"]
    rows = (root / "ade20k_instance_catid_mapping.txt").read_text().splitlines()[1:]
    class_of = {int(row.split()[0]): int(row.split()[1]) for row in rows}
    assert {c.category_id for c in SOURCE.label_space(root).categories if c.is_thing} == set(
        class_of.values()
    )
    items = packed_items(SOURCE, root, split)
    assert len(items) == {"train": 3, "val": 2}[split]
    folder = {"train": "training", "val": "validation"}[split]
    for item_id, item in items.items():
        found = paint(item.record, class_of)
        for name, labels in zip(("annotations", "annotations_instance"), found, strict=True):
            with Image.open(root / name / folder / f"{item_id}.png") as image:
                np.testing.assert_array_equal(labels, np.asarray(image))
        assert item.frame_bytes == ((root / "images" / folder / f"{item_id}.jpg").read_bytes(),)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_round_trip_of_any_labels_gives_them_back(data):
    shape = data.draw(array_shapes(min_dims=2, max_dims=2, max_side=5))
    semantic = data.draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 8, 13])))
    reds = data.draw(arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 4])))
    numbers = data.draw(arrays(np.uint8, shape, elements=st.integers(0, 255)))
    colors = np.stack([reds, np.where(reds, numbers, 0), np.zeros_like(reds)], axis=2).astype(np.uint8)
    with TemporaryDirectory() as name:
        (Path(name) / "images/training").mkdir(parents=True)
        Image.new("RGB", shape[::-1]).save(Path(name) / "images/training" / f"{STEM}.jpg")
        write_labels(Path(name), semantic, colors)
        (Path(name) / "objectInfo150.txt").write_text("\n".join(NAMES))
        (Path(name) / "ade20k_instance_catid_mapping.txt").write_text("\n".join(MAPPING))
        found = paint(validate(read_only(Path(name))).record, {1: 8, 4: 13})
    np.testing.assert_array_equal(found[0], semantic)
    np.testing.assert_array_equal(found[1], colors)


@pytest.fixture
def real(tmp_path):
    samples = os.environ.get("UNIVS_SAMPLES_DIR")
    if not samples:
        pytest.skip("UNIVS_SAMPLES_DIR is not set")
    for entry in (Path(samples) / "ade20k/ADEChallengeData2016").iterdir():
        (tmp_path / entry.name).symlink_to(entry)
    tables = Path(samples) / "categories"
    with (tables / "ade20k_object150_info.csv").open() as stream:
        rows = [
            [row[name] for name in ("Idx", "Ratio", "Train", "Val", "Name")] for row in csv.DictReader(stream)
        ]
    lines = ["\t".join(row) for row in [["Idx", "Ratio", "Train", "Val", "Name"], *rows]]
    (tmp_path / "objectInfo150.txt").write_text("\n".join(lines))
    mapping = (tables / "ade20k_instance_catid_mapping.txt").read_bytes()
    (tmp_path / "ade20k_instance_catid_mapping.txt").write_bytes(mapping)
    return tmp_path


def test_real_image_survives_the_shard(real, packed_items):
    (item,) = packed_items(SOURCE, real, "train").values()
    with Image.open(real / "annotations/training/ADE_train_00000001.png") as image:
        np.testing.assert_array_equal(paint(item.record, {})[0], np.asarray(image))
    assert item.frame_bytes == ((real / "images/training/ADE_train_00000001.jpg").read_bytes(),)
    assert {t.category_id for t in item.record.objects} <= set(SOURCE.label_space(real).label_of)


def test_real_mapping_is_the_built_in_one(real):
    (real / "annotations_instance").mkdir()
    with_file = SOURCE.label_space(real)
    (real / "ade20k_instance_catid_mapping.txt").unlink()
    assert SOURCE.label_space(real) == with_file
    assert (len(with_file.categories), sum(with_file.is_thing)) == (150, 100)
