import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import ItemError, SourceError
from preprocessing.masks import decode_mask
from preprocessing.sources.catalog import require_source
from preprocessing.validate import validate

SOURCE = require_source("vspw")
LABELS = np.array([[[0, 1, 1], [124, 255, 1]], [[1, 1, 1], [1, 1, 2]]], dtype=np.uint8)


@pytest.fixture
def root(tmp_path):
    write_video(tmp_path, LABELS)
    (tmp_path / "val.txt").write_text("988_f\n")
    numbers = {"others": "0", **{f"c{i}": str(i) for i in range(1, 125)}}
    (tmp_path / "label_num_dic_final.json").write_text(json.dumps(numbers))
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
    assert rejection(root)[0] == "E130"


def test_read_missing_image_is_e151(root):
    (root / "data/988_f/origin/00000012.jpg").unlink()
    assert rejection(root) == ("E151", "988_f: 1 jpg, 2 png; frame 00000012 has no image file")


def test_read_zero_byte_image_is_e102(root):
    (root / "data/988_f/origin/00000012.jpg").write_bytes(b"")
    assert rejection(root) == ("E102", "988_f/00000012.jpg: 00000012.jpg has 0 bytes")


def test_read_unpacked_nowhere_is_e153(root):
    (root / "val.txt").write_text("gone")
    assert rejection(root)[0] == "E153"


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
