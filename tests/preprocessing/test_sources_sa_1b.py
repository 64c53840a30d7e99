import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from preprocessing.errors import ItemError, SourceError
from preprocessing.masks import decode_mask, encode_mask
from preprocessing.sources.catalog import require_source
from preprocessing.validate import validate

SOURCE = require_source("sa_1b")
MASKS = {30: (slice(0, 2), slice(0, 5)), 4: (slice(1, 2), slice(1, 3))}


def make_mask(area):
    mask = np.zeros((3, 5), dtype=np.bool_)
    mask[area] = True
    return mask


@pytest.fixture
def body():
    entries = [
        {
            "id": source_id,
            "segmentation": {"size": [3, 5], "counts": encode_mask(make_mask(area))},
            "bbox": [0.0, 0.0, 1.0, 1.0],
            "area": 1,
            "predicted_iou": 0.9,
            "stability_score": 0.98,
            "crop_box": [0.0, 0.0, 5.0, 3.0],
            "point_coords": [[1.0, 1.0]],
        }
        for source_id, area in MASKS.items()
    ]
    image = {"image_id": 10, "width": 5, "height": 3, "file_name": "sa_10.jpg"}
    return {"image": image, "annotations": entries}


@pytest.fixture
def root(tmp_path):
    Image.new("RGB", (5, 3)).save(tmp_path / "sa_10.jpg")
    return tmp_path


def read_only(root, body):
    (root / "sa_10.json").write_text(json.dumps(body))
    (item,) = SOURCE.scan(root, "train")
    return SOURCE.read(root, "train", item)


def rejection(root, body):
    with pytest.raises(ItemError) as caught:
        validate(read_only(root, body))
    return caught.value.code, caught.value.message


def test_read_flat_layout_gives_overlapping_class_less_masks_by_id(root, body):
    record = validate(read_only(root, body)).record
    assert [(t.object_id, t.source_id, t.category_id, t.states) for t in record.objects] == [
        (1, "4", None, "V"),
        (2, "30", None, "V"),
    ]
    for track in record.objects:
        expected = make_mask(MASKS[int(track.source_id)])
        np.testing.assert_array_equal(decode_mask(track.rles[0], 3, 5), expected)
    assert record.item_id == "sa_10"
    assert record.label_space is None
    assert not record.is_partition


def test_read_folders_layout_gives_the_same_record(root, body):
    flat = read_only(root, body).record
    (root / "images").mkdir()
    (root / "annotations").mkdir()
    shutil.move(root / "sa_10.jpg", root / "images")
    shutil.move(root / "sa_10.json", root / "annotations")
    (item,) = SOURCE.scan(root, "train")
    video = SOURCE.read(root, "train", item)
    assert video.record == flat
    assert video.frame_paths == (root / "images" / "sa_10.jpg",)


def test_scan_orders_naturally_and_lists_either_half(root):
    for name in ("sa_9.json", "sa_223.jpg"):
        (root / name).write_text("")
    assert [item.item_id for item in SOURCE.scan(root, "train")] == ["sa_9", "sa_10", "sa_223"]


def test_read_mask_of_area_zero_is_left_out_with_a_warning(root, body, caplog):
    body["annotations"][0]["segmentation"]["counts"] = encode_mask(np.zeros((3, 5), dtype=np.bool_))
    record = read_only(root, body).record
    assert [track.source_id for track in record.objects] == ["4"]
    assert caplog.messages == ["sa_10: 1 of 2 masks have area 0, left out"]


def test_read_only_masks_of_area_zero_is_e113(root, body):
    for entry in body["annotations"]:
        entry["segmentation"]["counts"] = encode_mask(np.zeros((3, 5), dtype=np.bool_))
    assert rejection(root, body) == ("E113", "sa_10: all 2 masks have area 0")


def test_read_image_without_masks_is_kept(root, body):
    assert read_only(root, {**body, "annotations": []}).record.objects == ()


def test_read_missing_image_is_e101(root, body):
    (root / "sa_10.jpg").unlink()
    expected = f"sa_10: {root.name}/sa_10.jpg not found; unpack the images completely"
    assert rejection(root, body) == ("E101", expected)


def test_read_missing_annotation_is_e151(root):
    (item,) = SOURCE.scan(root, "train")
    with pytest.raises(
        ItemError, match="^E151 .*: sa_10: sa_10.json not found; expected one beside each image$"
    ):
        SOURCE.read(root, "train", item)


def test_read_image_size_other_than_json_is_e103(root, body):
    Image.new("RGB", (4, 3)).save(root / "sa_10.jpg")
    assert rejection(root, body) == ("E103", "sa_10: image 4x3; expected 5x3 (w x h)")


def test_read_transposed_rle_is_e111(root, body):
    body["annotations"][0]["segmentation"]["size"] = [5, 3]
    expected = "sa_10: annotation 30: rle.size [5, 3], expected [3, 5]; looks transposed"
    assert rejection(root, body) == ("E111", expected)


@pytest.mark.parametrize("counts", ["", "0", "zzzz", "\u00e9", 7, None, ["a"]])
def test_read_corrupt_rle_is_e112(root, body, counts):
    body["annotations"][0]["segmentation"]["counts"] = counts
    code, message = rejection(root, body)
    assert code == "E112"
    assert message.startswith("sa_10: annotation 30: ")


def test_read_truncated_json_is_e100(root, body):
    text = json.dumps(body)[:80]
    (root / "sa_10.json").write_text(text)
    (item,) = SOURCE.scan(root, "train")
    with pytest.raises(ItemError) as caught:
        SOURCE.read(root, "train", item)
    assert caught.value.code == "E100"
    assert caught.value.message.startswith("sa_10: sa_10.json (80 bytes) is not JSON: ")


@pytest.mark.parametrize("field", ["image", "annotations"])
def test_read_json_without_a_field_is_e100(root, body, field):
    del body[field]
    assert rejection(root, body) == ("E100", f"sa_10: KeyError: '{field}'")


def test_read_repeated_annotation_id_is_e100(root, body):
    body["annotations"] *= 2
    assert rejection(root, body) == ("E100", "sa_10: ValueError: id 30 twice")


def test_scan_empty_folder_raises(tmp_path):
    with pytest.raises(
        SourceError, match=r"no \*.jpg found; expected sa_\*.jpg with sa_\*.json side by side"
    ):
        list(SOURCE.scan(tmp_path, "train"))


def test_scan_val_split_raises(root):
    with pytest.raises(SourceError, match="^--split val: sa_1b has no such split; expected one of train$"):
        list(SOURCE.scan(root, "val"))


def test_read_real_fragments_decode_to_the_stated_areas(tmp_path):
    samples = os.environ.get("UNIVS_SAMPLES_DIR")
    if not samples:
        pytest.skip("UNIVS_SAMPLES_DIR is not set")
    fragments = Path(samples) / "sa_1b_fragments"
    for path in fragments.glob("*.json"):
        shutil.copy(path, tmp_path)
    items = list(SOURCE.scan(tmp_path, "train"))
    assert [item.item_id for item in items] == ["sa_1", "sa_560"]
    for item in items:
        official = json.loads((fragments / f"{item.item_id}.json").read_bytes())
        record = SOURCE.read(tmp_path, "train", item).record
        by_id = {str(entry["id"]): entry for entry in official["annotations"]}
        assert [track.source_id for track in record.objects] == sorted(by_id, key=int)
        for track in record.objects:
            mask = decode_mask(track.rles[0], record.height, record.width)
            entry = by_id[track.source_id]
            np.testing.assert_array_equal(mask, coco_mask.decode(entry["segmentation"]))
            assert mask.sum() == entry["area"]


def test_read_datumaro_sample_accepts_the_sound_half_and_names_the_other():
    samples = os.environ.get("UNIVS_SAMPLES_DIR")
    if not samples:
        pytest.skip("UNIVS_SAMPLES_DIR is not set")
    root = Path(samples) / "sa_1b_synthetic_datumaro"
    first, second = SOURCE.scan(root, "train")
    record = validate(SOURCE.read(root, "train", first)).record
    official = json.loads((root / "a.json").read_bytes())
    assert len(record.objects) == len(official["annotations"])
    with pytest.raises(ItemError, match=r"^E111 .*: b: annotation 1: rle.size \[5, 10\], expected \[10, 5\]"):
        SOURCE.read(root, "train", second)
