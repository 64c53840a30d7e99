import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import Finding, ItemError, SourceError
from preprocessing.layouts import coco_panoptic
from preprocessing.masks import decode_mask
from preprocessing.sources.coco_panoptic import CocoPanoptic
from preprocessing.sources.source import Item
from preprocessing.validate import validate
from preprocessing.worlds import WorldConfig, render_world
from univs.schema import Frame, Region

SOURCE = CocoPanoptic()
IDS = np.array([[0, 0, 70000, 70000], [300, 300, 300, 70000], [300, 5, 5, 5]])
CATEGORIES = [
    {"id": 17, "name": "cat", "isthing": 1},
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 151, "name": "roof", "isthing": 0},
]


@pytest.fixture
def body():
    segments = [
        {"id": 70000, "category_id": 151, "iscrowd": 0},
        {"id": 300, "category_id": 17, "iscrowd": 0},
        {"id": 5, "category_id": 1, "iscrowd": 1},
    ]
    return {
        "images": [{"id": 42, "file_name": "000000000042.jpg", "height": 3, "width": 4}],
        "annotations": [{"image_id": 42, "file_name": "000000000042.png", "segments_info": segments}],
        "categories": [dict(category) for category in CATEGORIES],
    }


def write_label(path, ids):
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(rgb).save(path)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "val2017").mkdir()
    (tmp_path / "annotations" / "panoptic_val2017").mkdir(parents=True)
    Image.new("RGB", (4, 3), (9, 9, 9)).save(tmp_path / "val2017" / "000000000042.jpg")
    write_label(tmp_path / "annotations" / "panoptic_val2017" / "000000000042.png", IDS)
    return tmp_path


def write(root, body):
    (root / "annotations" / "panoptic_val2017.json").write_text(json.dumps(body))


def read_first(root, body):
    write(root, body)
    (item,) = SOURCE.scan(root, "val")
    return SOURCE.read(root, "val", item)


def rejection(root, body):
    write(root, body)
    results = []
    for item in SOURCE.scan(root, "val"):
        try:
            SOURCE.read(root, "val", item)
        except ItemError as error:
            results.append((error.code, error.message))
    assert len(results) == 1
    return results[0]


def source_error(root, split="val"):
    with pytest.raises(SourceError) as caught:
        list(SOURCE.scan(root, split))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_read_image_gives_segments_by_id_with_their_categories(root, body):
    video = read_first(root, body)
    record = video.record
    assert [(t.object_id, t.source_id, t.category_id, t.is_crowd, t.states) for t in record.objects] == [
        (1, "5", 1, True, "V"),
        (2, "300", 17, False, "V"),
        (3, "70000", 151, False, "V"),
    ]
    for track in record.objects:
        np.testing.assert_array_equal(decode_mask(track.rles[0], 3, 4), int(track.source_id) == IDS)
    assert [region.kind for region in record.regions] == ["void"]
    np.testing.assert_array_equal(decode_mask(record.regions[0].rles[0], 3, 4), IDS == 0)
    assert record.frames == (Frame(index=0, name="000000000042.jpg", extension="jpg"),)
    assert (record.item_id, record.height, record.width) == ("000000000042", 3, 4)
    assert record.is_partition
    assert video.frame_paths == (root / "val2017" / "000000000042.jpg",)
    validate(video)


def test_read_image_without_void_has_no_region(root, body):
    write_label(root / "annotations/panoptic_val2017/000000000042.png", np.where(IDS == 0, 5, IDS))
    assert read_first(root, body).record.regions == ()


def test_label_space_is_sorted_by_id(root, body):
    write(root, body)
    space = SOURCE.label_space(root)
    assert (space.name, space.names, space.is_thing) == (
        "coco_panoptic",
        ("person", "cat", "roof"),
        (True, True, False),
    )


def test_read_id_only_in_the_png_is_e135(root, body):
    del body["annotations"][0]["segments_info"][1]
    assert rejection(root, body) == ("E135", "000000000042: id 300 in the PNG only (1 such ids)")


def test_read_id_only_in_the_json_is_e135(root, body):
    body["annotations"][0]["segments_info"].append({"id": 9, "category_id": 1, "iscrowd": 0})
    assert rejection(root, body) == ("E135", "000000000042: id 9 in segments_info only (1 such ids)")


def test_read_unknown_category_is_e123(root, body):
    body["annotations"][0]["segments_info"][0]["category_id"] = 645
    assert rejection(root, body) == ("E123", "000000000042: category_id 645 not in categories[]")


def test_read_annotation_of_unknown_image_is_e122(root, body):
    body["annotations"].append({"image_id": 77, "file_name": "x.png", "segments_info": []})
    assert rejection(root, body) == (
        "E122",
        "000000000077: annotation of an image that images[] does not list",
    )


def test_read_image_without_annotation_is_e151(root, body):
    body["images"].append({"id": 77, "file_name": "x.jpg", "height": 3, "width": 4})
    assert rejection(root, body) == (
        "E151",
        "000000000077: images[] lists it, but no panoptic annotation does",
    )


def test_read_missing_png_is_e151(root, body):
    (root / "annotations/panoptic_val2017/000000000042.png").unlink()
    assert rejection(root, body) == ("E151", "000000000042: label image 000000000042.png not found")


def test_read_palette_png_is_e130(root, body):
    Image.new("P", (4, 3)).save(root / "annotations/panoptic_val2017/000000000042.png")
    assert rejection(root, body) == (
        "E130",
        "000000000042: label image 000000000042.png has mode P; expected RGB",
    )


def test_read_png_of_other_size_is_e131(root, body):
    write_label(root / "annotations/panoptic_val2017/000000000042.png", IDS.T)
    assert rejection(root, body) == ("E131", "000000000042: label image 3x4; expected 4x3 (w x h)")


def test_read_png_truncated_before_its_last_pixel_is_e102(root, body):
    path = root / "annotations/panoptic_val2017/000000000042.png"
    content = path.read_bytes()
    whole = read_first(root, body).record
    num_rejected = 0
    for size in range(1, len(content)):
        path.write_bytes(content[:size])
        try:
            assert read_first(root, body).record == whole  # only a checksum or the end mark is cut
        except ItemError as error:
            num_rejected += 1
            assert error.code == "E102"  # noqa: PT017 - a pass is fine too
            assert error.message.startswith("000000000042: label image 000000000042.png: ")  # noqa: PT017
    assert num_rejected > len(content) // 2


@pytest.mark.parametrize(
    "name", ["../../x.jpg", "/etc/passwd", "a/../../x.jpg", "..\\x.jpg", "C:\\x.jpg", "", "a\0b"]
)
def test_read_file_name_that_leaves_the_folder_is_e190(root, body, name):
    body["images"][0]["file_name"] = name
    assert rejection(root, body) == ("E190", f"000000000042: {name!r}; expected a path inside the dataset")


@pytest.mark.parametrize(
    ("field", "value", "found"),
    [
        ("segments_info", None, "TypeError: 'NoneType' object is not iterable"),
        ("segments_info", [{"id": 5, "category_id": 1}] * 2, "id 5 twice"),
        ("segments_info", ["a"], "TypeError: string indices must be integers, not 'str'"),
        ("file_name", 3, None),
    ],
)
def test_read_malformed_annotation_is_an_item_error(root, body, field, value, found):
    body["annotations"][0][field] = value
    code, message = rejection(root, body)
    assert code == (
        "E190" if field == "file_name" else "E120" if isinstance(value, list) and len(value) == 2 else "E100"
    )
    if found:
        assert message == f"000000000042: {found}"


def test_scan_unknown_split_raises(root):
    expected = "--split testA: coco_panoptic has no such split; expected one of train, val, test"
    assert source_error(root, "testA") == expected


def test_scan_missing_root_raises(tmp_path):
    expected = f"--source {tmp_path / 'gone'}: not found; expected the dataset's folder; check the path"
    assert source_error(tmp_path / "gone") == expected


def test_scan_missing_annotation_file_raises(root):
    assert source_error(root, "train") == (
        f"--source {root}: annotations/panoptic_train2017.json not found; expected the COCO 2017 panoptic "
        "annotations; unzip panoptic_annotations_trainval2017.zip there"
    )


def test_scan_truncated_annotation_file_raises(root, body):
    write(root, body)
    path = root / "annotations" / "panoptic_val2017.json"
    path.write_text(path.read_text()[:100])
    assert source_error(root).startswith(
        f"--source {root}: annotations/panoptic_val2017.json is not whole JSON (100 characters, "
    )


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"[]", b'{"images": [], "annotations": []}', b"[" * 100_000, b"NaN", b"[1e999]"],
)
def test_scan_annotation_file_of_another_kind_raises(root, content):
    (root / "annotations" / "panoptic_val2017.json").write_bytes(content)
    assert source_error(root).startswith(f"--source {root}: annotations/panoptic_val2017.json ")


def test_scan_repeated_image_id_raises(root, body):
    body["images"] *= 2
    write(root, body)
    assert "has a malformed image or annotation (DuplicateIdError: id 42 twice)" in source_error(root)


def test_scan_categories_differing_between_splits_raises(root, body):
    write(root, body)
    other = {**body, "categories": CATEGORIES[:2]}
    (root / "annotations" / "panoptic_train2017.json").write_text(json.dumps(other))
    assert "panoptic_train2017.json lists 2 categories that differ from the 3" in source_error(root, "train")


def test_scan_malformed_categories_raises(root, body):
    del body["categories"][0]["isthing"]
    write(root, body)
    assert "categories are malformed (KeyError: 'isthing')" in source_error(root)


def test_read_payload_of_another_source_is_an_item_error(root):
    with pytest.raises(ItemError, match="^E100 "):
        SOURCE.read(root, "val", Item(item_id="1", num_frames=1, payload="{}"))


def official_numbers(ids, segment_id):
    rows, columns = np.nonzero(ids == segment_id)
    x, y = int(columns.min()), int(rows.min())
    return {"area": len(rows), "bbox": [x, y, int(columns.max()) - x + 1, int(rows.max()) - y + 1]}


def add_numbers(body):
    for segment in body["annotations"][0]["segments_info"]:
        segment.update(official_numbers(IDS, segment["id"]))


def to_official(record):
    """Write a record as its image, its annotation and its [H, W] segment ids again."""
    size, extra = (record.height, record.width), json.loads(record.extra or "{}")
    more = extra.pop("annotation", {})
    image_id, ids, segments = int(record.item_id), np.zeros(size, dtype=np.int64), []
    for track in record.objects:
        ids[decode_mask(track.rles[0], *size)] = int(track.source_id)
        own = official_numbers(ids, int(track.source_id))
        segment = {
            "id": int(track.source_id),
            "category_id": track.category_id,
            "iscrowd": int(track.is_crowd),
            "area": track.areas[0] if track.areas else own["area"],
            "bbox": list(track.boxes[0]) if track.boxes else own["bbox"],
        }
        segments.append(segment | json.loads(track.extra or "{}"))
    image = {"id": image_id, "file_name": record.frames[0].name, "height": size[0], "width": size[1]}
    annotation = {
        "image_id": image_id,
        "file_name": f"{image_id:012d}.png",
        **more,
        "segments_info": segments,
    }
    return image | extra, annotation, ids


def assert_round_trip(records, body, folder):
    images = {image["id"]: image for image in body["images"]}
    annotations = {entry["image_id"]: entry for entry in body["annotations"]}
    assert {int(item_id) for item_id in records} == images.keys()
    for record in records.values():
        image, annotation, ids = to_official(record)
        assert image == images[image["id"]]
        expected = annotations[image["id"]]
        by_id = sorted(expected["segments_info"], key=lambda segment: segment["id"])
        assert annotation == {**expected, "segments_info": by_id}
        with Image.open(folder / expected["file_name"]) as png:
            np.testing.assert_array_equal(ids, np.asarray(png).astype(np.int64) @ [1, 256, 65536])


def test_read_image_names_its_group_and_license(root, body):
    body["licenses"] = [{"id": 4, "name": "Attribution", "url": "http://cc.org/by"}]
    body["images"][0]["license"] = 4
    record = read_first(root, body).record
    assert record.group == "coco:000000000042"
    assert record.license == "CC-BY-4.0 (annotations); image: Attribution http://cc.org/by"
    assert json.loads(record.extra) == {"license": 4}


def test_read_numbers_of_the_masks_are_not_kept_twice(root, body):
    add_numbers(body)
    video = read_first(root, body)
    assert {(track.boxes, track.areas) for track in video.record.objects} == {((), ())}
    assert video.findings == ()


def test_read_numbers_that_differ_are_kept_with_w136(root, body):
    add_numbers(body)
    body["annotations"][0]["segments_info"][1]["area"] = 5
    body["annotations"][0]["segments_info"][2]["bbox"] = [1, 2, 2, 0]
    video = read_first(root, body)
    five, three_hundred, _ = video.record.objects
    assert (five.boxes, five.areas) == (((1, 2, 2, 0),), ())
    assert (three_hundred.boxes, three_hundred.areas) == ((), (5,))
    assert video.findings == (
        Finding(
            code="W136",
            message="000000000042: area or bbox of 2 of 3 segments, the first is 5",
            file="annotations/panoptic_val2017.json",
            pointer="/annotations/0/segments_info",
        ),
    )


def test_read_rejections_say_where(root, body):
    del body["annotations"][0]["segments_info"][1]
    write(root, body)
    (item,) = SOURCE.scan(root, "val")
    with pytest.raises(ItemError) as caught:
        SOURCE.read(root, "val", item)
    assert caught.value.file == "annotations/panoptic_val2017/000000000042.png"
    body["annotations"][0]["segments_info"] = [{"id": 5, "category_id": 99}]
    write(root, body)
    (item,) = SOURCE.scan(root, "val")
    with pytest.raises(ItemError) as caught:
        SOURCE.read(root, "val", item)
    assert caught.value.file == "annotations/panoptic_val2017.json"
    assert caught.value.pointer == "/annotations/0/segments_info/0/category_id"


def test_read_test_split_has_no_truth_and_the_panoptic_categories(root, body):
    write(root, body)
    (root / "test2017").mkdir()
    Image.new("RGB", (4, 3)).save(root / "test2017" / "000000000042.jpg")
    things = [{"id": 1, "name": "person"}, {"id": 17, "name": "cat"}]
    listing = {"images": body["images"], "categories": things}
    (root / "annotations" / "image_info_test2017.json").write_text(json.dumps(listing))
    (item,) = SOURCE.scan(root, "test")
    video = SOURCE.read(root, "test", item)
    record = video.record
    assert (record.ground_truth, record.objects, record.is_partition) == ("none", (), False)
    assert (record.frames[0].labelled, record.label_space) == (False, "coco_panoptic")
    assert SOURCE.label_space(root).names == ("person", "cat", "roof")
    validate(video)


def test_round_trip_is_exact_with_odd_fields(root, body, packed_records):
    add_numbers(body)
    segments = body["annotations"][0]["segments_info"]
    segments[0].update(area=2.5, note="x")
    segments[2]["bbox"] = [0, 0, 4, 3]
    body["images"][0]["coco_url"] = "http://x"
    body["annotations"][0]["annotator"] = 3
    folder = root / "annotations/panoptic_val2017"
    (folder / "000000000042.png").rename(folder / "label.png")
    body["annotations"][0]["file_name"] = "label.png"
    write(root, body)
    assert_round_trip(packed_records(SOURCE, root, "val"), body, folder)


@pytest.mark.parametrize("split", ["train", "val"])
def test_round_trip_of_the_miniature_is_exact(tmp_path, packed_records, split):
    config = WorldConfig(height=48, width=64, num_frames=1)
    coco_panoptic.write(tmp_path, split, [render_world(config, split, index, 3) for index in range(5)])
    path = tmp_path / "annotations" / f"panoptic_{split}2017"
    official = json.loads(path.with_suffix(".json").read_text())
    assert_round_trip(packed_records(SOURCE, tmp_path, split), official, path)


def samples_folder() -> Path:
    if "UNIVS_SAMPLES_DIR" not in os.environ:
        pytest.skip("needs UNIVS_SAMPLES_DIR: real samples")
    return Path(os.environ["UNIVS_SAMPLES_DIR"])


@pytest.mark.parametrize("split", ["train", "val"])
def test_round_trip_of_real_coco_is_exact(packed_records, split):
    root = samples_folder() / "coco"
    path = root / "annotations" / f"panoptic_{split}2017"
    official = json.loads(path.with_suffix(".json").read_text())
    assert_round_trip(packed_records(SOURCE, root, split), official, path)


def test_round_trip_of_the_sample_of_panopticapi_is_exact(tmp_path, packed_records):
    sample = samples_folder() / "coco_panopticapi_sample"
    (tmp_path / "annotations").mkdir()
    (tmp_path / "val2017").symlink_to(sample / "input_images")
    (tmp_path / "annotations/panoptic_val2017").symlink_to(sample / "panoptic_examples")
    (tmp_path / "annotations/panoptic_val2017.json").symlink_to(sample / "panoptic_examples.json")
    official = json.loads((sample / "panoptic_examples.json").read_text())
    records = packed_records(SOURCE, tmp_path, "val")
    assert_round_trip(records, official, sample / "panoptic_examples")
    assert any(track.boxes or track.areas for record in records.values() for track in record.objects) is False


@pytest.mark.parametrize(("split", "num_images"), [("train", 24), ("val", 12)])
def test_read_real_coco_paints_back_to_the_official_png(split, num_images):
    samples = os.environ.get("UNIVS_SAMPLES_DIR")
    if not samples:
        pytest.skip("UNIVS_SAMPLES_DIR is not set")
    root = Path(samples) / "coco"
    items = list(SOURCE.scan(root, split))
    assert len(items) == num_images
    assert len(SOURCE.label_space(root).categories) == 133
    for item in items:
        video = SOURCE.read(root, split, item)
        validate(video)
        record = video.record
        painted = np.zeros((record.height, record.width), dtype=np.int64)
        for track in record.objects:
            painted[decode_mask(track.rles[0], record.height, record.width)] = int(track.source_id)
        png = root / f"annotations/panoptic_{split}2017" / f"{item.item_id}.png"
        with Image.open(png) as image:
            official = np.asarray(image).astype(np.int64) @ [1, 256, 65536]
        np.testing.assert_array_equal(painted, official)
        if record.regions:
            assert record.regions == (Region(kind="void", rles=record.regions[0].rles),)
            void = decode_mask(record.regions[0].rles[0], record.height, record.width)
            np.testing.assert_array_equal(void, official == 0)
        else:
            assert (official > 0).all()
