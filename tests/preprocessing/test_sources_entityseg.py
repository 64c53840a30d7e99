import json
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_mask

from preprocessing.errors import ItemError, MissingFileError, SourceError
from preprocessing.masks import compress_counts, encode_mask, mask_area
from preprocessing.miniature import MiniatureConfig, build
from preprocessing.sources.catalog import require_source
from preprocessing.validate import validate

SOURCE = require_source("entityseg")
NAME = "entity_01_11580/ab.c.jpg"
WHOLE = "annotations/entity_segmentation/entityv2_010203_entity_{}.json"
CATEGORIES = [
    {"supercategory": "entity", "id": 0, "name": "unknown", "c_name": "未知物", "type": "thing"},
    {"supercategory": "person", "id": 1, "name": "man", "c_name": "男人", "type": "thing"},
    {"supercategory": "sky", "id": 3, "name": "sky", "c_name": "天空", "type": "stuff"},
]


def make_body(name=NAME, image_id=7):
    man = np.array([[1, 1, 0], [0, 0, 0]], dtype=np.bool_)
    annotations = [
        {
            "id": 12,
            "image_id": image_id,
            "category_id": 3,
            "iscrowd": 0,
            "area": 4,
            "bbox": [0, 0, 3, 2],
            "segmentation": {"size": [2, 3], "counts": encode_mask(~man)},
        },
        {
            "id": 2,
            "image_id": image_id,
            "category_id": 1,
            "iscrowd": 1,
            "area": 2,
            "bbox": [0, 0, 1.5, 1],
            "segmentation": {"size": [2, 3], "counts": [0, 1, 1, 1, 3]},
            "attribute": "occluded",
        },
    ]
    image = {"id": image_id, "file_name": name, "height": 2, "width": 3, "url_image": "https://x"}
    return {"images": [image], "annotations": annotations, "categories": CATEGORIES}


def write_json(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body))


def write_image(path, size=(3, 2)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


@pytest.fixture
def root(tmp_path):
    write_image(tmp_path / "images" / NAME)
    write_json(tmp_path / WHOLE.format("train"), make_body())
    return tmp_path


def read_only(root, body=None, split="train"):
    if body is not None:
        write_json(root / WHOLE.format(split), body)
    (item,) = SOURCE.scan(root, split)
    return SOURCE.read(root, split, item)


def rejected(root, body=None):
    with pytest.raises(ItemError) as caught:
        validate(read_only(root, body))
    return caught.value


def rejection(root, body=None):
    error = rejected(root, body)
    return error.code, error.message


def rebuild(record):
    """Write a record back as the image and the annotations of the official file."""
    rest = json.loads(record.extra)
    size = [record.height, record.width]
    annotations = {entry["id"]: entry for entry in rest.pop("left_out", [])}
    image = {"file_name": record.frames[0].name, "height": size[0], "width": size[1], **rest}
    for track in record.objects:
        rle = {"size": size, "counts": track.rles[0].encode()}
        annotations[int(track.source_id)] = {
            "id": int(track.source_id),
            "image_id": image["id"],
            "category_id": track.category_id,
            "iscrowd": int(track.is_crowd),
            "area": track.areas[0] if track.areas else mask_area(track.rles[0], *size),
            "bbox": list(track.boxes[0]) if track.boxes else coco_mask.toBbox(rle).tolist(),
            "segmentation": {"size": size, "counts": track.rles[0]},
            **json.loads(track.extra or "{}"),
        }
    return image, [annotations[i] for i in sorted(annotations)]


def official(body):
    """Give the image and the annotations as the test compares them: by id, run lengths compressed."""
    annotations = json.loads(json.dumps(body["annotations"]))
    for entry in annotations:
        rle = entry["segmentation"]
        if isinstance(rle["counts"], list):
            rle["counts"] = compress_counts(rle["counts"], *rle["size"])
    return body["images"][0], sorted(annotations, key=lambda entry: entry["id"])


def test_read_image_gives_things_and_stuff_by_id(root):
    record = validate(read_only(root)).record
    assert [(t.source_id, t.category_id, t.is_crowd, t.boxes, t.areas) for t in record.objects] == [
        ("2", 1, True, ((0, 0, 1.5, 1),), ()),
        ("12", 3, False, (), ()),
    ]
    assert (record.item_id, record.group) == ("entity_01_11580/ab.c", "entityseg:entity_01_11580/ab.c")
    assert (record.label_space, record.is_partition) == ("entityseg_panoptic", False)
    assert rebuild(record) == official(make_body())


def test_label_space_reads_types_and_counts_from_0(root):
    space = SOURCE.label_space(root)
    assert space.name == "entityseg_panoptic"
    assert [(c.category_id, c.name, c.is_thing) for c in space.categories] == [
        (0, "unknown", True),
        (1, "man", True),
        (3, "sky", False),
    ]


def test_read_class_agnostic_file_takes_the_class_from_its_other_field(root):
    body = make_body()
    for entry, value in zip(body["annotations"], ("3", 1), strict=True):
        entry |= {"category_id": 0, "category_id_ori": value}
    record = read_only(root, body).record
    assert [(t.category_id, json.loads(t.extra)["class_agnostic_id"]) for t in record.objects] == [
        (1, 0),
        (3, 0),
    ]
    assert [json.loads(t.extra)["category_id_ori"] for t in record.objects] == [1, "3"]


LAYOUTS = {
    "whole": ("annotations/entity_segmentation/entityv2_010203_entity_train.json", "images"),
    "part": ("annotations/entity_segmentation/entityv2_01_entity_train.json", "images"),
    "univs": ("annotations/entityseg_train_01.json", "images"),
    "unpacked": ("entity_segmentation/entityv2_01_entity_train.json", "images"),
    "small": ("annotations/entity_segmentation/entityv2_010203_entity_train_lr.json", "images_lr"),
    "small release": ("annotations/entityseg_train_lr.json", "images_lr"),
}


@pytest.mark.parametrize(("file", "images"), LAYOUTS.values(), ids=LAYOUTS)
def test_read_finds_files_and_images_under_their_names(root, tmp_path_factory, file, images):
    other = tmp_path_factory.mktemp("other")
    write_json(other / file, make_body())
    write_image(other / images / NAME)
    video = read_only(other)
    assert validate(video).record == validate(read_only(root)).record
    assert video.frame_paths == (other / images / NAME,)


@pytest.mark.parametrize(
    "prefix", ["annotations/entityseg_train", "annotations/entity_segmentation/entityv2"]
)
def test_scan_parts_with_bare_names_lists_each_folder(tmp_path, prefix):
    is_new = prefix.endswith("v2")
    for part, folder in (("01", "entity_01_11580"), ("03", "entity_03_10049")):
        file = f"{prefix}_{part}_entity_train.json" if is_new else f"{prefix}_{part}.json"
        write_json(tmp_path / file, make_body("ab.c.jpg"))
        write_image(tmp_path / "images" / folder / "ab.c.jpg")
    items = list(SOURCE.scan(tmp_path, "train"))
    assert [item.item_id for item in items] == ["entity_01_11580/ab.c", "entity_03_10049/ab.c"]
    for item in items:
        record = validate(SOURCE.read(tmp_path, "train", item)).record
        assert record.frames[0].name == f"{item.item_id}.jpg"
        assert json.loads(record.extra)["file_name"] == "ab.c.jpg"


def test_scan_prefers_the_files_whose_images_are_there(root):
    write_json(root / "annotations/entityseg_train_lr.json", make_body("small.jpg"))
    assert [item.item_id for item in SOURCE.scan(root, "train")] == ["entity_01_11580/ab.c"]
    (root / "images").rename(root / "images_lr")
    assert [item.item_id for item in SOURCE.scan(root, "train")] == ["small"]


def test_scan_without_files_raises(tmp_path):
    with pytest.raises(MissingFileError) as caught:
        list(SOURCE.scan(tmp_path, "val"))
    assert str(caught.value) == (
        f"--source {tmp_path}: no entityv2_*_entity_val*.json and no entityseg_val*.json found in "
        "annotations/entity_segmentation, entity_segmentation, annotations; "
        "expected EntitySeg's annotations; take them from its repository"
    )


def test_scan_files_of_different_tables_raises(root):
    body = make_body()
    body["categories"] = CATEGORIES[:1]
    write_json(root / WHOLE.format("val"), body)
    with pytest.raises(SourceError) as caught:
        list(SOURCE.scan(root, "train"))
    assert str(caught.value) == (
        f"--source {root}: {WHOLE.format('train')} lists 3 categories that differ from the 1 of another "
        "file; expected one table; take all files from one release"
    )


@pytest.mark.parametrize("rows", [3, [], [1], [{"id": 1}], [{"id": "x", "name": "a", "type": "thing"}]])
def test_label_space_malformed_categories_raise(root, rows):
    write_json(root / WHOLE.format("train"), {**make_body(), "categories": rows})
    with pytest.raises(
        SourceError, match=r"entity_train.json: categories are malformed \(\w+: .*\); expected"
    ):
        SOURCE.label_space(root)


@pytest.mark.parametrize("field", ["images", "annotations", "categories"])
def test_scan_file_without_a_field_raises(root, field):
    body = make_body()
    del body[field]
    write_json(root / WHOLE.format("train"), body)
    with pytest.raises(SourceError, match=f"entity_train.json has no field '{field}'; expected EntitySeg's"):
        list(SOURCE.scan(root, "train"))


@pytest.mark.parametrize("field", ["images", "annotations"])
def test_scan_repeated_id_raises(root, field):
    body = make_body()
    body[field] *= 2
    write_json(root / WHOLE.format("train"), body)
    with pytest.raises(
        SourceError, match=r"malformed image or annotation \(DuplicateIdError: id \d+ twice\)"
    ):
        list(SOURCE.scan(root, "train"))


def test_read_image_of_other_resolution_is_e103(root):
    write_image(root / "images" / NAME, (6, 4))
    assert rejection(root) == ("E103", "entity_01_11580/ab.c: image 6x4; expected 3x2 (w x h)")


def test_read_missing_image_is_e101(root):
    (root / "images" / NAME).unlink()
    assert rejection(root) == (
        "E101",
        "entity_01_11580/ab.c: entity_01_11580/ab.c.jpg not found; unpack the images completely",
    )


def test_read_mask_of_other_size_is_e111(root):
    body = make_body()
    body["annotations"][0]["segmentation"]["size"] = [3, 2]
    error = rejected(root, body)
    assert (error.code, error.message) == (
        "E111",
        "entity_01_11580/ab.c: annotation 12: rle.size [3, 2], expected [2, 3]; looks transposed",
    )
    assert error.file == WHOLE.format("train")
    assert error.pointer == "/annotations/0"


@pytest.mark.parametrize("counts", ["zz", [1, 2], 7])
def test_read_corrupt_mask_is_e112(root, counts):
    body = make_body()
    body["annotations"][0]["segmentation"]["counts"] = counts
    code, message = rejection(root, body)
    assert code == "E112"
    assert message.startswith("entity_01_11580/ab.c: annotation 12: ")


def test_read_unknown_class_is_e123(root):
    body = make_body()
    body["annotations"][1]["category_id"] = 644
    error = rejected(root, body)
    assert (error.code, error.message, error.pointer) == (
        "E123",
        "entity_01_11580/ab.c: category_id 644 not in categories[]",
        "/annotations/1/category_id",
    )


def test_read_annotation_of_an_unlisted_image_is_e122(root):
    body = make_body()
    body["images"] = []
    write_json(root / WHOLE.format("train"), body)
    (item,) = SOURCE.scan(root, "train")
    assert item.item_id == "entityv2_010203_entity_train-7"
    assert rejection(root) == (
        "E122",
        "entityv2_010203_entity_train-7: annotation of an image that images[] does not list",
    )


def test_read_unsafe_name_is_e190(root):
    assert rejection(root, make_body("../x.jpg")) == (
        "E190",
        "../x: '../x.jpg'; expected a path inside the dataset",
    )


@pytest.mark.parametrize("name", [None, 3, ""])
def test_read_image_without_a_name_is_e190(root, name):
    code, message = rejection(root, make_body(name))
    where = "entityv2_010203_entity_train-7"
    assert (code, message) == ("E190", f"{where}: {name!r}; expected a path inside the dataset")


def test_read_image_without_a_size_is_e100(root):
    body = make_body()
    del body["images"][0]["height"]
    assert rejection(root, body) == ("E100", "entity_01_11580/ab.c: KeyError: 'height'")


def test_read_empty_mask_is_left_out_with_a_warning(root):
    body = make_body()
    empty = body["annotations"][0]
    empty["segmentation"]["counts"] = encode_mask(np.zeros((2, 3), dtype=np.bool_))
    video = read_only(root, body)
    assert [track.source_id for track in video.record.objects] == ["2"]
    assert [(f.code, f.pointer) for f in video.findings] == [("W114", "/annotations/0")]
    assert rebuild(video.record) == official(body)


def test_read_image_without_entities_is_kept(root):
    assert validate(read_only(root, {**make_body(), "annotations": []})).record.objects == ()


@pytest.mark.parametrize("split", ["train", "val"])
def test_round_trip_of_the_miniature_gives_the_official_file(tmp_path, packed_items, split):
    root = build(tmp_path, MiniatureConfig(train_images=3, val_images=2), ["entityseg"])["entityseg"]
    body = json.loads((root / WHOLE.format(split)).read_bytes())
    items = packed_items(SOURCE, root, split)
    found = [rebuild(item.record) for item in items.values()]
    assert sorted((image for image, _ in found), key=lambda image: image["id"]) == body["images"]
    annotations = [entry for _, entries in found for entry in entries]
    assert sorted(annotations, key=lambda entry: entry["id"]) == body["annotations"]
    for item in items.values():
        assert item.frame_bytes == ((root / "images" / item.record.frames[0].name).read_bytes(),)


@settings(deadline=None, max_examples=40)
@given(st.data())
def test_round_trip_of_any_annotations_gives_them_back(data):
    number = st.integers(-100, 100) | st.floats(-1e6, 1e6)
    body = make_body()
    body["annotations"] = [
        {
            "id": source_id,
            "image_id": 7,
            "category_id": data.draw(st.sampled_from([0, 1, 3])),
            "iscrowd": data.draw(st.integers(0, 1)),
            "area": data.draw(number),
            "bbox": data.draw(st.lists(number, min_size=4, max_size=4)),
            "segmentation": {"size": [2, 3], "counts": encode_mask(data.draw(arrays(np.bool_, (2, 3))))},
            **data.draw(st.dictionaries(st.sampled_from(["attribute", "c"]), st.text() | number)),
        }
        for source_id in data.draw(st.lists(st.integers(0, 10**9), max_size=5, unique=True))
    ]
    with TemporaryDirectory() as name:
        write_image(Path(name) / "images" / NAME)
        record = validate(read_only(Path(name), body)).record
    assert rebuild(record) == official(body)
