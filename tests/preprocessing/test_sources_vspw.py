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

from preprocessing.errors import ItemError, SourceError
from preprocessing.masks import decode_mask
from preprocessing.miniature import MiniatureConfig, build
from preprocessing.sources.catalog import require_source
from preprocessing.validate import validate
from preprocessing.worlds import WorldConfig

SOURCE = require_source("vspw")
LABELS = np.array([[[0, 1, 1], [124, 255, 1]], [[1, 1, 1], [1, 1, 2]]], dtype=np.uint8)
NUMBERS = json.dumps({"others": "0", **{f"c{i}": str(i) for i in range(1, 125)}})


@pytest.fixture
def root(tmp_path):
    write_video(tmp_path, LABELS)
    (tmp_path / "val.txt").write_text("988_f\n")
    (tmp_path / "label_num_dic_final.json").write_text(NUMBERS)
    return tmp_path


def write_video(root, labels):
    folder = root / "data" / "988_f"
    for name in ("origin", "mask"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for index, frame in enumerate(labels):
        Image.new("RGB", frame.shape[::-1]).save(folder / f"origin/{index + 12:08d}.jpg")
        Image.fromarray(frame).save(folder / f"mask/{index + 12:08d}.png")


def read_only(root):
    (item,) = SOURCE.scan(root, "val")
    return SOURCE.read(root, "val", item)


def rejection(root):
    with pytest.raises(ItemError) as caught:
        validate(read_only(root))
    return caught.value.code, caught.value.message


def test_read_video_gives_one_object_per_class_and_keeps_0_and_255_apart(root):
    record = validate(read_only(root)).record
    assert [(t.source_id, t.category_id, t.states) for t in record.objects] == [
        ("1", 1, "VV"),
        ("2", 2, "AV"),
        ("124", 124, "VA"),
    ]
    assert [(region.kind, region.rles[1]) for region in record.regions] == [
        ("unlabelled", None),
        ("void", None),
    ]
    for region, value in zip(record.regions, (0, 255), strict=True):
        np.testing.assert_array_equal(decode_mask(region.rles[0], 2, 3), LABELS[0] == value)
    np.testing.assert_array_equal(decode_mask(record.objects[0].rles[0], 2, 3), LABELS[0] == 1)
    assert record.is_partition


def test_label_space_is_all_stuff_without_others(root):
    space = SOURCE.label_space(root)
    assert (space.name, len(space.categories), space.label_of[1]) == ("vspw", 124, 0)
    assert not any(space.is_thing)


@pytest.mark.parametrize("value", [125, 190, 254])
def test_read_illegal_value_is_e134(root, value):
    labels = LABELS.copy()
    labels[1, 0, 0] = value
    write_video(root, labels)
    expected = f"988_f: value {value}; expected 0, 255 or a class of label_num_dic_final.json"
    assert rejection(root) == ("E134", expected)


def test_read_rgb_label_is_e130(root):
    Image.new("RGB", (3, 2)).save(root / "data/988_f/mask/00000012.png")
    assert rejection(root) == ("E130", "988_f: label image 00000012.png has mode RGB; expected P or L")


def test_read_missing_image_is_e151(root):
    (root / "data/988_f/origin/00000012.jpg").unlink()
    assert rejection(root) == ("E151", "988_f: 1 jpg, 2 png; frame 00000012 has no image file")


def test_read_zero_byte_image_is_e102(root):
    (root / "data/988_f/origin/00000012.jpg").write_bytes(b"")
    assert rejection(root) == ("E102", "988_f/00000012.jpg: 00000012.jpg has 0 bytes")


def test_read_unpacked_nowhere_is_e153(root):
    (root / "val.txt").write_text("gone")
    expected = "gone: no frames on disk; check the split list and unpack the images"
    assert rejection(root) == ("E153", expected)


def test_read_illegal_value_names_the_first_image_that_has_it(root):
    labels = LABELS.copy()
    labels[1, 0, 0] = 190
    write_video(root, labels)
    with pytest.raises(ItemError) as caught:
        read_only(root)
    assert caught.value.file == "data/988_f/mask/00000013.png"


def test_read_label_of_other_size_is_e131(root):
    Image.fromarray(LABELS[1].T.copy()).save(root / "data/988_f/mask/00000013.png")
    assert rejection(root) == ("E131", "988_f/00000013.png: label image 2x3; expected 3x2 (w x h)")


def test_read_unsafe_name_is_e190(root):
    (root / "val.txt").write_text("../988_f")
    assert rejection(root) == ("E190", "../988_f: '../988_f'; expected a path inside the dataset")


def test_read_names_group_and_rate(root):
    record = read_only(root).record
    assert (record.group, record.frames_per_second) == ("vipseg:988_f", 15.0)


def test_read_test_split_without_masks_has_no_ground_truth(root):
    shutil.rmtree(root / "data/988_f/mask")
    (root / "val.txt").rename(root / "test.txt")
    (item,) = SOURCE.scan(root, "test")
    record = validate(SOURCE.read(root, "test", item)).record
    assert (record.ground_truth, record.is_partition, record.objects, record.regions) == (
        "none",
        False,
        (),
        (),
    )
    assert [frame.labelled for frame in record.frames] == [False, False]


def test_counts_of_the_splits_sum_to_the_published_totals():
    counts = SOURCE.spec.counts.values()
    assert sum(count.num_items for count in counts) == 3_536
    assert sum(count.num_frames for count in counts) == 251_633


def paint(record, index):
    """Give a frame's official label image back."""
    values = np.full((record.height, record.width), 77, dtype=np.uint8)
    for track in record.objects:
        if track.rles[index]:
            values[decode_mask(track.rles[index], *values.shape)] = int(track.source_id)
    for region in record.regions:
        if region.rles[index]:
            values[decode_mask(region.rles[index], *values.shape)] = {"unlabelled": 0, "void": 255}[
                region.kind
            ]
    return values


@pytest.mark.parametrize("split", ["train", "val"])
def test_round_trip_of_the_miniature_gives_the_official_files(tmp_path, packed_items, split):
    config = MiniatureConfig(train_videos=2, val_videos=2, world=WorldConfig(num_frames=4))
    root = build(tmp_path, config, ["vspw"])["vspw"]
    items = packed_items(SOURCE, root, split)
    assert sorted(items) == sorted((root / f"{split}.txt").read_text().split())
    for item_id, item in items.items():
        labels = sorted((root / "data" / item_id / "mask").iterdir())
        assert [frame.stem for frame in item.record.frames] == [path.stem for path in labels]
        for index, path in enumerate(labels):
            with Image.open(path) as image:
                np.testing.assert_array_equal(paint(item.record, index), np.asarray(image))
            official = root / "data" / item_id / "origin" / f"{path.stem}.jpg"
            assert item.frame_bytes[index] == official.read_bytes()


@settings(deadline=None, max_examples=30)
@given(
    arrays(
        np.uint8,
        array_shapes(min_dims=3, max_dims=3, max_side=4),
        elements=st.integers(0, 124) | st.just(255),
    )
)
def test_round_trip_of_any_labels_gives_them_back(labels):
    with TemporaryDirectory() as name:
        write_video(Path(name), labels)
        (Path(name) / "train.txt").write_text("988_f")
        (Path(name) / "label_num_dic_final.json").write_text(NUMBERS)
        (item,) = SOURCE.scan(Path(name), "train")
        record = validate(SOURCE.read(Path(name), "train", item)).record
        painted = [paint(record, index) for index in range(len(labels))]
    np.testing.assert_array_equal(painted, labels)


@pytest.mark.parametrize("content", ["[]", '{"a": "x"}', '{"others": "0"}', '{"a": "1", "b": "1"}'])
def test_label_space_malformed_file_raises(root, content):
    (root / "label_num_dic_final.json").write_text(content)
    with pytest.raises(
        SourceError, match=r"label_num_dic_final.json is malformed \(\w+: .*\); expected class"
    ):
        SOURCE.label_space(root)


def test_real_class_file_has_124_classes():
    samples = os.environ.get("UNIVS_SAMPLES_DIR")
    if not samples:
        pytest.skip("UNIVS_SAMPLES_DIR is not set")
    space = SOURCE.label_space(Path(samples) / "vipseg_meta")
    assert [category.category_id for category in space.categories] == list(range(1, 125))
    assert space.names[0] == "wall"
