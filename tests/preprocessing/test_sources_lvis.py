import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import ItemError, SourceError
from preprocessing.layouts import lvis
from preprocessing.masks import decode_mask
from preprocessing.sources.lvis import LVIS_V05, LVIS_V1
from preprocessing.validate import validate
from preprocessing.worlds import WorldConfig, render_world
from univs.schema import Completeness

SAMPLES = os.environ.get("UNIVS_SAMPLES_DIR")
WORLD = WorldConfig(height=48, width=64, num_frames=1, min_objects=3, twin_rate=0.9)
OUTLINE = [1, 1, 3, 1, 3, 3, 1, 3]
LISTS = ("neg_category_ids", "not_exhaustive_category_ids")


@pytest.fixture
def body():
    image = {
        "id": 42,
        "height": 4,
        "width": 5,
        "coco_url": "http://images.cocodataset.org/train2017/000000000042.jpg",
    }
    return {
        "images": [{**image, "neg_category_ids": [9, 3], "not_exhaustive_category_ids": [7]}],
        "annotations": [
            {"id": 31, "image_id": 42, "category_id": 7, "area": 3.9, "bbox": [1.0, 1.0, 2.1, 2.0]}
            | {"segmentation": [OUTLINE]}
        ],
        "categories": [
            {"id": i, "name": name, "synset": f"{name}.n.01", "frequency": "r"}
            for i, name in ((9, "zebra"), (3, "apple"), (7, "cow"))
        ],
        "licenses": [],
    }


@pytest.fixture
def root(tmp_path):
    (tmp_path / "train2017").mkdir()
    Image.new("RGB", (5, 4), (9, 9, 9)).save(tmp_path / "train2017" / "000000000042.jpg")
    return tmp_path


def write(root, body, name="lvis_v1_val"):
    (root / f"{name}.json").write_text(json.dumps(body))


def read_only(root, source=LVIS_V1, split="val"):
    (item,) = source.scan(root, split)
    return source.read(root, split, item)


def rejection(root, body):
    write(root, body)
    with pytest.raises(ItemError) as caught:
        read_only(root)
    assert caught.value.file == "lvis_v1_val.json"
    return caught.value.code, caught.value.message, caught.value.pointer


def to_official(record):
    """Write a record as an image and its annotations again."""
    size, extra = (record.height, record.width), json.loads(record.extra)
    left_out = extra.pop("left_out", [])
    complete = record.completeness
    lists = dict(
        zip(LISTS, (complete.negative_category_ids, complete.not_exhaustive_category_ids), strict=True)
    )
    image = {"id": int(record.item_id), "height": size[0], "width": size[1], **extra}
    image |= {name: list(values) for name, values in lists.items()}
    annotations = []
    for track in record.objects:
        mask = decode_mask(track.rles[0], *size)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        annotations.append(
            {
                "id": int(track.source_id),
                "image_id": int(record.item_id),
                "category_id": track.category_id,
                "area": track.areas[0] if track.areas else mask.sum(),
                "bbox": list(track.boxes[0]) if track.boxes else box,
                "segmentation": [list(polygon) for polygon in track.polygons[0]],
            }
        )
    return image, annotations + left_out


def assert_round_trip(records, body):
    found = [to_official(record) for record in records]
    assert {image["id"]: image for image, _ in found} == {image["id"]: image for image in body["images"]}
    annotations = {entry["id"]: entry for _, entries in found for entry in entries}
    assert annotations == {entry["id"]: entry for entry in body["annotations"]}


def test_read_v1_image_finds_its_file_by_the_address(root, body):
    write(root, body)
    video = read_only(root)
    record = video.record
    assert video.frame_paths == (root / "train2017/000000000042.jpg",)
    assert (record.item_id, record.group) == ("000000000042", "coco:000000000042")
    assert record.frames[0].name == "train2017/000000000042.jpg"
    assert record.completeness == Completeness(
        is_federated=True, negative_category_ids=(9, 3), not_exhaustive_category_ids=(7,)
    )
    (track,) = record.objects
    assert (track.source_id, track.category_id, track.is_crowd) == ("31", 7, False)
    square = np.zeros((4, 5), dtype=bool)
    square[1:3, 1:3] = True
    np.testing.assert_array_equal(decode_mask(track.rles[0], 4, 5), square)
    assert record.label_space == "lvis"
    validate(video)


def test_label_spaces_of_the_versions_have_their_own_names_and_ids(root, body):
    write(root, body)
    write(root, body, "lvis_v0.5_val")
    v1, v05 = LVIS_V1.label_space(root), LVIS_V05.label_space(root)
    assert (v1.name, v05.name) == ("lvis", "lvis_v0.5")
    assert v1.names == ("apple", "cow", "zebra")
    assert all(v1.is_thing)


def test_read_test_split_has_no_truth(root, body):
    del body["annotations"]
    for name in LISTS:
        del body["images"][0][name]
    write(root, body, "lvis_v1_image_info_test_dev")
    video = read_only(root, split="test")
    assert (video.record.ground_truth, video.record.objects) == ("none", ())
    assert not video.record.frames[0].labelled
    assert video.record.completeness == Completeness(is_federated=True)
    validate(video)


def test_read_v05_keeps_the_name_of_2014_in_extra(root, body):
    body["images"][0]["file_name"] = "COCO_train2014_000000000042.jpg"
    write(root, body, "lvis_v0.5_val")
    record = read_only(root, LVIS_V05).record
    assert json.loads(record.extra)["file_name"] == "COCO_train2014_000000000042.jpg"
    assert record.frames[0].name == "train2017/000000000042.jpg"


@pytest.mark.parametrize("name", LISTS)
def test_read_unknown_listed_category_is_e123(root, body, name):
    body["images"][0][name] = [9, 1204]
    expected = "000000000042: category_id 1204 not in categories[]"
    assert rejection(root, body) == ("E123", expected, f"/images/0/{name}/1")


def test_read_unknown_category_of_an_object_is_e123(root, body):
    body["annotations"][0]["category_id"] = "7"
    expected = "000000000042: category_id 7 not in categories[]"
    assert rejection(root, body) == ("E123", expected, "/annotations/0/category_id")


def test_read_polygon_of_two_points_is_e117(root, body):
    body["annotations"][0]["segmentation"] = [[1, 1, 3, 3]]
    expected = "000000000042: annotation 31: polygon 0 has 4 values, expected an even number >= 6"
    assert rejection(root, body) == ("E117", expected, "/annotations/0")


def test_read_image_without_address_is_e100(root, body):
    del body["images"][0]["coco_url"]
    assert rejection(root, body) == ("E100", "000000000042: KeyError: 'coco_url'", "/images/0")


def test_read_address_that_leaves_the_folder_is_e190(root, body):
    body["images"][0]["coco_url"] = "http://x/../42.jpg"
    expected = "000000000042: '../42.jpg'; expected a path inside the dataset"
    assert rejection(root, body) == ("E190", expected, "/images/0")


def test_scan_lists_that_are_none_raises(root, body):
    body["images"][0]["neg_category_ids"] = None
    write(root, body)
    with pytest.raises(SourceError) as caught:
        read_only(root)
    assert str(caught.value) == (
        f"--source {root}: lvis_v1_val.json has a malformed image or annotation "
        "(TypeError: 'NoneType' object is not iterable); expected the LVIS annotations; "
        "put lvis_v1_val.json there"
    )


@pytest.mark.parametrize(
    ("source", "write_layout", "name"),
    [(LVIS_V1, lvis.write_v1, "lvis_v1"), (LVIS_V05, lvis.write_v05, "lvis_v0.5")],
)
@pytest.mark.parametrize("split", ["train", "val"])
def test_round_trip_of_the_miniature_is_exact(tmp_path, packed_records, source, write_layout, name, split):
    write_layout(tmp_path, split, [render_world(WORLD, split, index, 3) for index in range(10)])
    official = json.loads((tmp_path / f"{name}_{split}.json").read_text())
    assert any(image["not_exhaustive_category_ids"] for image in official["images"])
    assert_round_trip(packed_records(source, tmp_path, split).values(), official)


@pytest.fixture(scope="module")
def real_root(tmp_path_factory):
    if SAMPLES is None:
        pytest.skip("needs UNIVS_SAMPLES_DIR: real samples")
    root = tmp_path_factory.mktemp("lvis")
    shutil.copy(Path(SAMPLES) / "lvis/lvis_v0.5_val_sample.json", root / "lvis_v0.5_val.json")
    shutil.copytree(Path(SAMPLES) / "lvis/val2017", root / "val2017")
    return root


def test_round_trip_of_real_lvis_annotations_is_exact(real_root):
    official = json.loads((real_root / "lvis_v0.5_val.json").read_text())
    videos = [LVIS_V05.read(real_root, "val", item) for item in LVIS_V05.scan(real_root, "val")]
    assert sum(len(video.record.objects) for video in videos) == len(official["annotations"]) == 479
    assert_round_trip([video.record for video in videos], official)
    assert len(LVIS_V05.label_space(real_root).categories) == 1230


def test_round_trip_of_real_lvis_images_is_exact(real_root, tmp_path, packed_records):
    shutil.copytree(real_root / "val2017", tmp_path / "val2017")
    official = json.loads((real_root / "lvis_v0.5_val.json").read_text())
    there = {int(path.stem) for path in (tmp_path / "val2017").iterdir()}
    official["images"] = [image for image in official["images"] if image["id"] in there]
    official["annotations"] = [entry for entry in official["annotations"] if entry["image_id"] in there]
    write(tmp_path, official, "lvis_v0.5_val")
    records = packed_records(LVIS_V05, tmp_path, "val")
    assert len(records) == 2
    assert_round_trip(records.values(), official)
