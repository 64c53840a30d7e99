import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from preprocessing.errors import Finding, ItemError, MissingFileError, SourceError
from preprocessing.layouts import coco_instances
from preprocessing.masks import decode_mask
from preprocessing.sources.coco_instances import CocoInstances
from preprocessing.validate import validate
from preprocessing.worlds import WorldConfig, render_world
from univs.schema import Completeness, Frame

SOURCE = CocoInstances()
SQUARE = [1, 1, 3, 1, 3, 3, 1, 3]
CATEGORIES = [
    {"supercategory": "animal", "id": 17, "name": "cat"},
    {"supercategory": "person", "id": 1, "name": "person"},
]
LICENSES = [{"id": 3, "name": "Attribution", "url": "http://cc.org/by"}]
SAMPLES = os.environ.get("UNIVS_SAMPLES_DIR")
needs_samples = pytest.mark.skipif(SAMPLES is None, reason="needs UNIVS_SAMPLES_DIR: real samples")


@pytest.fixture
def body():
    image = {"id": 42, "file_name": "000000000042.jpg", "height": 4, "width": 5}
    crowd = {"size": [4, 5], "counts": [12, 4, 4]}
    return {
        "images": [
            {**image, "license": 3, "coco_url": "http://images.cocodataset.org/x", "flickr_url": "http://f"},
            {**image, "id": 7, "file_name": "000000000007.jpg"},
        ],
        "annotations": [
            {"id": 900, "image_id": 42, "category_id": 1, "iscrowd": 1, "area": 4, "bbox": [3, 0, 1, 4]}
            | {"segmentation": crowd},
            {
                "id": 31,
                "image_id": 42,
                "category_id": 17,
                "iscrowd": 0,
                "area": 3.9,
                "bbox": [1.0, 1.0, 2.1, 2.0],
            }
            | {"segmentation": [SQUARE]},
        ],
        "categories": CATEGORIES,
        "licenses": LICENSES,
    }


@pytest.fixture
def root(tmp_path):
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations").mkdir()
    for image_id in (42, 7):
        Image.new("RGB", (5, 4), (9, 9, 9)).save(tmp_path / "val2017" / f"{image_id:012d}.jpg")
    return tmp_path


def write(root, body, name="instances_val2017"):
    (root / "annotations" / f"{name}.json").write_text(json.dumps(body))


def read_all(root, split="val"):
    return {item.item_id: SOURCE.read(root, split, item) for item in SOURCE.scan(root, split)}


def rejection(root, body):
    write(root, body)
    results = []
    for item in SOURCE.scan(root, "val"):
        try:
            SOURCE.read(root, "val", item)
        except ItemError as error:
            results.append((error.code, error.message, error.file, error.pointer))
    assert len(results) == 1
    assert results[0][2] == "annotations/instances_val2017.json"
    code, message, _, pointer = results[0]
    return code, message, pointer


def source_error(root, split="val"):
    with pytest.raises(SourceError) as caught:
        list(SOURCE.scan(root, split))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def runs_of(counts, size):
    """Measure the runs of a decoded mask, column by column, background first."""
    flat = decode_mask(counts, *size).ravel(order="F")
    runs, value, length = [], False, 0
    for pixel in flat:
        if pixel != value:
            runs.append(length)
            value, length = pixel, 0
        length += 1
    return [*runs, length]


def to_official(record):
    """Write a record as an image and its annotations again."""
    size = (record.height, record.width)
    extra = json.loads(record.extra or "{}")
    left_out = extra.pop("left_out", [])
    image = {"id": int(record.item_id), "height": size[0], "width": size[1]}
    image |= {"file_name": record.frames[0].name} | extra
    annotations = []
    for track in record.objects:
        mask = decode_mask(track.rles[0], *size)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        polygons = [list(polygon) for polygon in track.polygons[0]] if track.polygons else None
        annotations.append(
            {
                "id": int(track.source_id),
                "image_id": int(record.item_id),
                "category_id": track.category_id,
                "iscrowd": int(track.is_crowd),
                "area": track.areas[0] if track.areas else mask.sum(),
                "bbox": list(track.boxes[0]) if track.boxes else box,
                "segmentation": polygons or {"size": list(size), "counts": runs_of(track.rles[0], size)},
                **json.loads(track.extra or "{}"),
            }
        )
    return image, annotations + left_out


def assert_round_trip(records, body):
    images = {image["id"]: image for image in body["images"]}
    found = [to_official(record) for record in records.values()]
    assert {image["id"]: image for image, _ in found} == images
    annotations = {entry["id"]: entry for _, entries in found for entry in entries}
    assert annotations == {entry["id"]: entry for entry in body["annotations"]}


def test_read_image_gives_polygons_and_a_crowd_by_id(root, body):
    write(root, body)
    video = read_all(root)["000000000042"]
    record = video.record
    assert [(t.object_id, t.source_id, t.category_id, t.is_crowd, t.states) for t in record.objects] == [
        (1, "31", 17, False, "V"),
        (2, "900", 1, True, "V"),
    ]
    square = np.zeros((4, 5), dtype=bool)
    square[1:3, 1:3] = True
    cat, crowd = record.objects
    np.testing.assert_array_equal(decode_mask(cat.rles[0], 4, 5), square)
    assert cat.polygons == ((tuple(SQUARE),),)
    assert (cat.boxes, cat.areas) == (((1.0, 1.0, 2.1, 2.0),), (3.9,))
    np.testing.assert_array_equal(decode_mask(crowd.rles[0], 4, 5), np.indices((4, 5))[1] == 3)
    assert (crowd.polygons, crowd.boxes, crowd.areas) == ((), (), ())
    assert record.frames == (Frame(index=0, name="000000000042.jpg", extension="jpg"),)
    assert (record.item_id, record.group) == ("000000000042", "coco:000000000042")
    assert (record.label_space, record.ground_truth, record.is_partition) == ("coco", "full", False)
    assert record.completeness == Completeness()
    assert record.license == "CC-BY-4.0 (annotations); image: Attribution http://cc.org/by"
    assert video.frame_paths == (root / "val2017" / "000000000042.jpg",)
    assert video.findings == ()
    validate(video)


def test_read_image_without_annotations_is_kept_with_no_object(root, body):
    write(root, body)
    record = read_all(root)["000000000007"].record
    assert (record.objects, record.ground_truth) == ((), "full")
    assert record.license == "CC-BY-4.0 (annotations); images under their Flickr licenses"
    assert record.frames[0].labelled


def test_scan_lists_images_by_id_with_only_their_own_annotations(root, body):
    write(root, body)
    items = list(SOURCE.scan(root, "val"))
    assert [item.item_id for item in items] == ["000000000007", "000000000042"]
    assert json.loads(items[0].payload)["entry"]["annotations"] == []
    assert [a["id"] for a in json.loads(items[1].payload)["entry"]["annotations"]] == [31, 900]


def test_read_test_split_has_no_truth(root, body):
    (root / "val2017").rename(root / "test2017")
    write(root, {name: body[name] for name in ("images", "categories", "licenses")}, "image_info_test2017")
    videos = read_all(root, "test")
    assert len(videos) == 2
    record = videos["000000000042"].record
    assert (record.ground_truth, record.objects, record.frames[0].labelled) == ("none", (), False)
    assert SOURCE.label_space(root).names == ("person", "cat")
    validate(videos["000000000042"])


def test_label_space_keeps_sparse_ids_and_is_all_things(root, body):
    write(root, body)
    space = SOURCE.label_space(root)
    assert (space.name, space.names, space.is_thing) == ("coco", ("person", "cat"), (True, True))
    assert space.label_of == {1: 0, 17: 1}


def test_read_outline_without_a_pixel_is_left_out_with_w114_and_kept_in_extra(root, body):
    thin = {**body["annotations"][1], "id": 32, "segmentation": [[1, 1, 1.1, 1, 1.1, 1.1]]}
    body["annotations"].append(thin)
    write(root, body)
    video = read_all(root)["000000000042"]
    assert [track.source_id for track in video.record.objects] == ["31", "900"]
    assert video.findings == (
        Finding(
            code="W114",
            message="000000000042: annotation 32: no pixel of 5x4 lies in it",
            file="annotations/instances_val2017.json",
            pointer="/annotations/2",
        ),
    )
    assert json.loads(video.record.extra)["left_out"] == [thin]


def test_read_unknown_fields_go_to_extra(root, body):
    body["annotations"][1]["score"] = 0.25
    body["images"][0]["rotation"] = [1]
    write(root, body)
    record = read_all(root)["000000000042"].record
    assert json.loads(record.objects[0].extra) == {"score": 0.25}
    assert json.loads(record.extra)["rotation"] == [1]


def test_read_unknown_category_is_e123(root, body):
    body["annotations"][1]["category_id"] = 12
    expected = "000000000042: category_id 12 not in categories[]"
    assert rejection(root, body) == ("E123", expected, "/annotations/1/category_id")


def test_read_annotation_of_unknown_image_is_e122(root, body):
    body["annotations"][0]["image_id"] = 77
    expected = "000000000077: annotation of an image that images[] does not list"
    assert rejection(root, body) == ("E122", expected, "/annotations/0/image_id")


@pytest.mark.parametrize(
    ("segmentation", "code", "found"),
    [
        ([], "E117", "no polygon, expected at least one"),
        ([[1, 1, 2, 2]], "E117", "polygon 0 has 4 values, expected an even number >= 6"),
        ([SQUARE, [1, 1, 2, 2, 3, 3, 4]], "E117", "polygon 1 has 7 values, expected an even number >= 6"),
        ([[0, 0, 900, 0, 5, 5]], "E117", "polygon 0 has a value that is not within -20..20"),
        ({"size": [5, 4], "counts": [20]}, "E111", "rle.size [5, 4], expected [4, 5]; looks transposed"),
        ({"size": [4, 5], "counts": [12, 4]}, "E112", "runs sum to 16, expected 4 x 5 = 20"),
        (None, "E100", "TypeError: 'NoneType' object is not subscriptable"),
    ],
)
def test_read_malformed_segmentation_is_rejected(root, body, segmentation, code, found):
    body["annotations"][1]["segmentation"] = segmentation
    expected = f"000000000042: annotation 31: {found}"
    assert rejection(root, body) == (code, expected, "/annotations/1")


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("bbox", [1, 2, 3], "ValueError: not enough values to unpack (expected 4, got 3)"),
        ("bbox", [1, 2, 3, "4"], "TypeError: '4' is not a number"),
        ("area", "large", "TypeError: 'large' is not a number"),
    ],
)
def test_read_malformed_number_is_e100(root, body, field, value, found):
    body["annotations"][1][field] = value
    expected = f"000000000042: annotation 31: {found}"
    assert rejection(root, body) == ("E100", expected, "/annotations/1")


def test_read_malformed_image_is_e100(root, body):
    body["images"][0]["height"] = None
    found = "TypeError: int() argument must be a string, a bytes-like object or a real number, not 'NoneType'"
    assert rejection(root, body) == ("E100", f"000000000042: {found}", "/images/0")


@pytest.mark.parametrize(
    ("height", "found"), [(0, "5x0"), (-4, "5x-4"), (10**30, "5x1e+30"), (65536, "5x65536")]
)
def test_read_image_of_impossible_size_is_e100_at_once(root, body, height, found):
    body["images"][0]["height"] = height
    expected = f"000000000042: ValueError: size {found} (w x h); expected sides of 1 to 65535"
    assert rejection(root, body) == ("E100", expected, "/images/0")


def test_read_file_name_that_leaves_the_folder_is_e190(root, body):
    body["images"][0]["file_name"] = "../../x.jpg"
    expected = "000000000042: '../../x.jpg'; expected a path inside the dataset"
    assert rejection(root, body) == ("E190", expected, "/images/0")


def test_scan_repeated_annotation_id_raises(root, body):
    body["annotations"][1]["id"] = 900
    write(root, body)
    assert source_error(root) == (
        f"--source {root}: annotations/instances_val2017.json has a malformed image or annotation "
        "(DuplicateIdError: id 900 twice); expected the COCO 2017 instance annotations; "
        "unzip annotations_trainval2017.zip there"
    )


def test_scan_missing_file_raises_missing_file_error(root):
    with pytest.raises(MissingFileError) as caught:
        list(SOURCE.scan(root, "train"))
    assert str(caught.value) == (
        f"--source {root}: annotations/instances_train2017.json not found; expected the COCO 2017 instance "
        "annotations; unzip annotations_trainval2017.zip there"
    )


def test_scan_test_list_missing_names_the_test_list(root):
    expected = (
        f"--source {root}: annotations/image_info_test2017.json not found; expected the COCO 2017 list of "
    )
    assert source_error(root, "test") == f"{expected}test images; unzip image_info_test2017.zip there"


def test_scan_categories_that_differ_between_splits_raises(root, body):
    write(root, body)
    write(root, {**body, "categories": CATEGORIES[:1]}, "image_info_test2017")
    assert (
        "instances_val2017.json lists 2 categories that differ from the 1 of the other split"
        in source_error(root)
    )


@pytest.mark.parametrize("split", ["train", "val"])
def test_round_trip_of_the_miniature_is_exact(tmp_path, packed_records, split):
    config = WorldConfig(height=48, width=64, num_frames=1, min_objects=3, twin_rate=0.9)
    coco_instances.write(tmp_path, split, [render_world(config, split, index, 3) for index in range(12)])
    official = json.loads((tmp_path / "annotations" / f"instances_{split}2017.json").read_text())
    assert {entry["iscrowd"] for entry in official["annotations"]} == {0, 1}
    assert_round_trip(packed_records(SOURCE, tmp_path, split), official)


def test_round_trip_keeps_what_is_left_out(root, body, packed_records):
    body["annotations"].append(
        {**body["annotations"][1], "id": 32, "segmentation": [[1, 1, 1.1, 1, 1.1, 1.1]], "note": "thin"}
    )
    write(root, body)
    assert_round_trip(packed_records(SOURCE, root, "val"), body)


@settings(max_examples=40, deadline=None)
@given(
    inner=st.lists(st.integers(1, 5), min_size=1, max_size=7),
    box=st.lists(st.floats(-2, 9).map(lambda side: round(side, 2)), min_size=4, max_size=4),
    area=st.floats(0, 30).map(lambda value: round(value, 3)),
)
def test_round_trip_of_any_run_lengths_box_and_area_is_exact(tmp_path_factory, inner, box, area):
    root = tmp_path_factory.mktemp("coco")
    (root / "annotations").mkdir()
    size = {"size": [5, 8], "counts": [*inner, 40 - sum(inner)]}
    annotation = {"id": 5, "image_id": 1, "category_id": 1, "iscrowd": 1, "area": area, "bbox": box}
    image = {"id": 1, "file_name": "000000000001.jpg", "height": 5, "width": 8}
    body = {
        "images": [image],
        "annotations": [{**annotation, "segmentation": size}],
        "categories": CATEGORIES,
    }
    write(root, body)
    assert_round_trip({name: video.record for name, video in read_all(root).items()}, body)


@needs_samples
def test_round_trip_of_real_coco_is_exact(packed_records):
    root = Path(SAMPLES) / "coco"
    official = json.loads((root / "annotations/instances_train2017.json").read_text())
    records = packed_records(SOURCE, root, "train")
    assert len(records) == 24
    assert sum(len(record.objects) for record in records.values()) == 202
    assert_round_trip(records, official)
    assert {entry["iscrowd"] for entry in official["annotations"]} == {0, 1}
    assert len(SOURCE.label_space(root).categories) == 80
