import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import ItemError, SourceError
from preprocessing.masks import decode_mask
from preprocessing.sources.catalog import require_source
from preprocessing.sources.vipseg import category_of_value
from preprocessing.validate import validate
from univs.labels import Category, LabelSpace

SOURCE = require_source("vipseg")
LABELS = np.array([[[0, 1, 1], [6100, 6101, 6100]], [[1, 1, 1], [6101, 6101, 2]]], dtype=np.uint16)
STEMS = ("00000301", "00000304")


@pytest.fixture
def root(tmp_path):
    write_video(tmp_path, LABELS)
    (tmp_path / "val.txt").write_text("0_wH\n")
    rows = [{"id": i, "name": f"c{i}", "isthing": int(i == 60)} for i in range(124)]
    (tmp_path / "panoVIPSeg_categories.json").write_text(json.dumps(rows))
    return tmp_path


def write_video(root, labels):
    for folder in ("imgs", "panomasks"):
        (root / folder / "0_wH").mkdir(parents=True, exist_ok=True)
    for stem, frame in zip(STEMS, labels, strict=True):
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


def test_read_thing_class_without_instance_is_kept_with_a_warning(root, caplog):
    labels = LABELS.copy()
    labels[1, 0, 0] = 61
    write_video(root, labels)
    objects = read_only(root).record.objects
    assert [(t.source_id, t.category_id) for t in objects if t.source_id == "61"] == [("61", 60)]
    assert caplog.messages == ["0_wH: thing class 61 without an instance number, kept as one object"]


def test_category_of_value_every_value_of_the_real_table_follows_the_rule():
    things = {class_id for class_id in range(124) if class_id % 3 == 1}
    rows = tuple(Category(category_id=i, name=str(i), is_thing=i in things) for i in range(124))
    space = LabelSpace(name="vipseg", categories=rows)
    for value in range(1, 20_000):
        instance_class = value // 100 - 1 if value // 100 - 1 in things else None
        expected = value - 1 if value <= 124 else instance_class
        assert category_of_value(value, space) == expected


def test_read_palette_label_is_e130(root):
    Image.new("P", (3, 2)).save(root / f"panomasks/0_wH/{STEMS[1]}.png")
    assert rejection(root)[0] == "E130"


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
    assert [len(list(SOURCE.scan(root, split))) for split in ("train", "val")] == [2806, 343]
    space = SOURCE.label_space(root)
    assert (len(space.categories), sum(space.is_thing)) == (124, 58)
    assert (space.categories[0].category_id, space.names[0]) == (0, "wall")
