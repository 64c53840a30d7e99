import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preprocessing.errors import Finding, ItemError, SourceError
from preprocessing.layouts import refcoco
from preprocessing.masks import decode_mask
from preprocessing.sources.refcoco import REFCOCO, REFCOCO_PLUS, REFCOCOG
from preprocessing.validate import validate
from preprocessing.worlds import WorldConfig, render_world
from univs.schema import Completeness, Expression

SAMPLES = os.environ.get("UNIVS_SAMPLES_DIR")
needs_samples = pytest.mark.skipif(SAMPLES is None, reason="needs UNIVS_SAMPLES_DIR: real samples")
OUTLINE = [1, 1, 3, 1, 3, 3, 1, 3]
PICKLE = "refcoco/refs(unc).p"


def sentence(sent_id, text, **other):
    return {"sent_id": sent_id, "sent": text, "raw": text.upper(), "tokens": text.split(), **other}


def ref(ref_id, ann_id, *sentences, image_id=42, split="train", **other):
    return {
        "ref_id": ref_id,
        "ann_id": ann_id,
        "image_id": image_id,
        "category_id": 17,
        "split": split,
        "file_name": f"COCO_train2014_{image_id:012d}_{ref_id}.jpg",
        "sent_ids": [entry["sent_id"] for entry in sentences],
        "sentences": list(sentences),
        **other,
    }


@pytest.fixture
def refs():
    return [
        ref(0, 31, sentence(0, "left cat"), sentence(1, "cat on the left")),
        ref(1, 32, sentence(2, "right cat"), split="testA"),
        ref(2, 32, sentence(3, "dark cat")),
    ]


@pytest.fixture
def body():
    image = {"height": 4, "width": 9, "license": 1}
    annotation = {"iscrowd": 0, "area": 3.9, "category_id": 17, "bbox": [1.0, 1.0, 2.0, 2.0]}
    second = [value + 4 * (place % 2 == 0) for place, value in enumerate(OUTLINE)]
    return {
        "images": [
            {**image, "id": 42, "file_name": "COCO_train2014_000000000042.jpg"},
            {**image, "id": 7, "file_name": "COCO_train2014_000000000007.jpg"},
        ],
        "annotations": [
            {**annotation, "id": 32, "image_id": 42, "segmentation": [second]},
            {**annotation, "id": 31, "image_id": 42, "segmentation": [OUTLINE]},
            {**annotation, "id": 33, "image_id": 42, "segmentation": [[0, 0, 9, 0, 9, 4, 0, 4]]},
            {**annotation, "id": 40, "image_id": 7, "segmentation": [OUTLINE]},
        ],
        "categories": [{"supercategory": "animal", "id": 17, "name": "cat"}],
    }


@pytest.fixture
def root(tmp_path):
    (tmp_path / "train2014").mkdir()
    (tmp_path / "refcoco").mkdir()
    for image_id in (42, 7):
        path = tmp_path / "train2014" / f"COCO_train2014_{image_id:012d}.jpg"
        Image.new("RGB", (9, 4), (9, 9, 9)).save(path)
    return tmp_path


def write(root, body, refs, folder="refcoco", partition="unc"):
    (root / folder / "instances.json").write_text(json.dumps(body))
    (root / folder / f"refs({partition}).p").write_bytes(pickle.dumps(refs, protocol=2))


def read_all(root, split="train", source=REFCOCO):
    return {item.item_id: source.read(root, split, item) for item in source.scan(root, split)}


def rejection(root, body, refs):
    write(root, body, refs)
    results = []
    for item in REFCOCO.scan(root, "train"):
        try:
            REFCOCO.read(root, "train", item)
        except ItemError as error:
            results.append((error.code, error.message, error.file, error.pointer))
    assert len(results) == 1
    return results[0]


def to_official(record):
    """Write a record as its image, its annotations and its refs again."""
    size, extra = (record.height, record.width), json.loads(record.extra or "{}")
    extra.pop("left_out", None)
    image = {
        "id": int(record.item_id),
        "height": size[0],
        "width": size[1],
        "file_name": record.frames[0].name,
    }
    texts = {expression.expression_id: expression for expression in record.expressions}
    annotations, refs = [], []
    for track in record.objects:
        more = json.loads(track.extra or "{}")
        for held in more.pop("refs", []):
            sentences = []
            for entry in held["sentences"]:
                expression = texts.pop(str(entry["sent_id"]))
                assert expression.object_ids == (track.object_id,)
                text = expression.text
                sentences.append({"sent": text, "raw": text, "tokens": text.split(), **entry})
            refs.append(
                {
                    "image_id": int(record.item_id),
                    "ann_id": int(track.source_id),
                    "category_id": track.category_id,
                    "split": expression.origin.split("/")[1],
                    "sent_ids": [entry["sent_id"] for entry in sentences],
                    **held,
                    "sentences": sentences,
                }
            )
        mask = decode_mask(track.rles[0], *size)
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        annotations.append(
            {
                "id": int(track.source_id),
                "image_id": int(record.item_id),
                "category_id": track.category_id,
                "iscrowd": int(track.is_crowd),
                "area": track.areas[0] if track.areas else mask.sum(),
                "bbox": list(track.boxes[0]) if track.boxes else box,
                "segmentation": [list(polygon) for polygon in track.polygons[0]],
                **more,
            }
        )
    assert not texts
    return image | extra, annotations, refs


def assert_round_trip(records, body, refs):
    found = [to_official(record) for record in records]
    expected = {entry["image_id"] for entry in refs}
    assert {image["id"]: image for image, _, _ in found} == {
        image["id"]: image for image in body["images"] if image["id"] in expected
    }
    assert {entry["id"]: entry for _, entries, _ in found for entry in entries} == {
        entry["id"]: entry for entry in body["annotations"] if entry["image_id"] in expected
    }
    assert {entry["ref_id"]: entry for _, _, entries in found for entry in entries} == {
        entry["ref_id"]: entry for entry in refs
    }


def test_read_image_has_all_objects_and_the_expressions_of_its_split(root, body, refs):
    write(root, body, refs)
    videos = read_all(root)
    assert list(videos) == ["000000000042"]
    record = videos["000000000042"].record
    assert [track.source_id for track in record.objects] == ["31", "32", "33"]
    assert record.expressions == (
        Expression(expression_id="0", text="left cat", object_ids=(1,), origin="unc/train"),
        Expression(expression_id="1", text="cat on the left", object_ids=(1,), origin="unc/train"),
        Expression(expression_id="3", text="dark cat", object_ids=(2,), origin="unc/train"),
    )
    square = np.zeros((4, 9), dtype=bool)
    square[1:3, 5:7] = True
    np.testing.assert_array_equal(decode_mask(record.objects[1].rles[0], 4, 9), square)
    assert (record.item_id, record.group) == ("000000000042", "coco:000000000042")
    assert (record.label_space, record.completeness) == ("coco", Completeness(is_partial=True))
    assert videos["000000000042"].frame_paths == (root / "train2014/COCO_train2014_000000000042.jpg",)
    validate(videos["000000000042"])


def test_read_other_split_has_its_own_expressions(root, body, refs):
    write(root, body, refs)
    (video,) = read_all(root, "testA").values()
    assert [(e.text, e.object_ids, e.origin) for e in video.record.expressions] == [
        ("right cat", (2,), "unc/testA")
    ]


def test_read_google_partition_is_splits_of_its_own(root, body, refs):
    write(root, body, refs)
    write(root, body, [ref(9, 40, sentence(5, "a cat"), image_id=7)], partition="google")
    (video,) = read_all(root, "train-google").values()
    assert (video.record.item_id, video.record.split) == ("000000000007", "train-google")
    assert video.record.expressions[0].origin == "google/train"
    assert list(read_all(root)) == ["000000000042"]


@pytest.mark.parametrize(
    ("source", "splits", "files"),
    [
        (
            REFCOCO,
            ("train", "val", "testA", "testB", "train-google", "val-google", "test-google"),
            "unc google",
        ),
        (REFCOCO_PLUS, ("train", "val", "testA", "testB"), "unc"),
        (REFCOCOG, ("train", "val", "test", "train-google", "val-google"), "umd google"),
    ],
)
def test_specs_name_the_official_splits_and_files(source, splits, files):
    assert source.spec.splits == splits
    assert all(f"{source.folder}/refs({partition}).p" in source.spec.needs for partition in files.split())
    assert source.spec.counts["val"].num_items == 1300 + 200 * (source is not REFCOCOG)


def test_counts_of_expressions_sum_up_to_the_published_totals():
    totals = {
        source.spec.name: sum(
            counts.num_expressions
            for split, counts in source.spec.counts.items()
            if not split.endswith("-google")
        )
        for source in (REFCOCO, REFCOCO_PLUS, REFCOCOG)
    }
    assert totals == {"refcoco": 142_210, "refcocoplus": 141_564, "refcocog": 95_010}


@pytest.mark.parametrize(
    "place",
    [
        "train2014/COCO_train2014_000000000042.jpg",
        "images/mscoco/images/train2014/COCO_train2014_000000000042.jpg",
        "train2017/000000000042.jpg",
    ],
)
def test_read_finds_the_image_under_its_names_of_2014_and_2017(root, body, refs, place):
    shutil.rmtree(root / "train2014")
    (root / place).parent.mkdir(parents=True)
    Image.new("RGB", (9, 4)).save(root / place)
    write(root, body, refs)
    video = read_all(root)["000000000042"]
    assert video.frame_paths == (root / place,)
    assert video.record.frames[0].name == "COCO_train2014_000000000042.jpg"
    validate(video)


def test_read_from_the_datasets_own_folder(root, body, refs):
    write(root, body, refs)
    shutil.move(root / "train2014", root / "refcoco" / "train2014")
    (video,) = read_all(root / "refcoco").values()
    assert len(video.record.expressions) == 3
    validate(video)


def test_read_text_that_is_not_utf_8_is_kept_with_w143(root, body, refs):
    content = pickle.dumps(refs, protocol=2)
    text = b"X\x08\x00\x00\x00left cat"  # BINUNICODE becomes Python 2's BINSTRING
    assert text in content
    write(root, body, refs)
    (root / PICKLE).write_bytes(content.replace(text, b"T\x08\x00\x00\x00left c\xe4t"))
    video = read_all(root)["000000000042"]
    assert video.record.expressions[0].text == "left cät"
    assert video.findings == (
        Finding(code="W143", message="000000000042: ref 0", file=PICKLE, pointer="/0/sentences"),
    )


def test_read_ref_of_unknown_object_is_e140(root, body, refs):
    refs[2]["ann_id"] = 40
    expected = "000000000042: ref 2 names annotation 40, the image has 31, 32, 33"
    assert rejection(root, body, refs) == ("E140", expected, PICKLE, "/2")


def test_read_ref_of_an_object_without_a_pixel_is_e113(root, body, refs):
    body["annotations"][0]["segmentation"] = [[1, 1, 1.1, 1, 1.1, 1.1]]
    expected = "000000000042: ref 2 names annotation 32, in which no pixel lies"
    assert rejection(root, body, refs) == ("E113", expected, PICKLE, "/2")


def test_read_ref_of_unknown_image_is_e122(root, body, refs):
    refs.append(ref(7, 50, sentence(8, "a cat"), image_id=77))
    expected = "000000000077: expressions about an image that images[] does not list"
    assert rejection(root, body, refs) == ("E122", expected, PICKLE, "/3/image_id")


def test_read_unknown_category_is_e123(root, body, refs):
    body["annotations"][0]["category_id"] = 12
    expected = "000000000042: category_id 12 not in categories[]"
    assert rejection(root, body, refs) == (
        "E123",
        expected,
        "refcoco/instances.json",
        "/annotations/0/category_id",
    )


def test_read_repeated_sentence_id_is_e120(root, body, refs):
    refs[2]["sentences"][0]["sent_id"] = 1
    assert rejection(root, body, refs) == ("E120", "000000000042: sent_id 1 twice", PICKLE, "")


@pytest.mark.parametrize(
    ("sentences", "found"),
    [
        ([{"sent_id": 3}], "KeyError: 'sent'"),
        ([{"sent_id": 3, "sent": 5}], "TypeError: sent of sentence 3 is int, expected text"),
        (None, "TypeError: 'NoneType' object is not iterable"),
        ([5], "TypeError: 'int' object is not subscriptable"),
    ],
)
def test_read_malformed_sentence_is_e100(root, body, refs, sentences, found):
    refs[2]["sentences"] = sentences
    assert rejection(root, body, refs) == ("E100", f"000000000042: ref 2: {found}", PICKLE, "/2")


def test_read_file_name_that_leaves_the_folder_is_e190(root, body, refs):
    body["images"][0]["file_name"] = "/etc/passwd"
    expected = "000000000042: '/etc/passwd'; expected a path inside the dataset"
    assert rejection(root, body, refs) == ("E190", expected, "refcoco/instances.json", "/images/0")


def source_error(root, split="train"):
    with pytest.raises(SourceError) as caught:
        list(REFCOCO.scan(root, split))
    return str(caught.value)


def test_scan_ref_of_another_split_raises(root, body, refs):
    refs[1]["split"] = "minival"
    write(root, body, refs)
    assert source_error(root) == (
        f"--source {root}: {PICKLE} has a malformed image or annotation "
        "(ValueError: split 'minival' of ref 1); expected the expressions of refcoco; unzip refcoco.zip there"
    )


def test_scan_hostile_pickle_raises_one_line_and_runs_nothing(root, body, refs):
    write(root, body, refs)
    (root / PICKLE).write_bytes(b"cos\nmkdir\n(S'" + bytes(root / "trace") + b"'\ntR.")
    assert source_error(root) == (
        f"--source {root}: {PICKLE} is not a pickled list of refs (UnpicklingError: opcode b'c' is not plain "
        "data, it is not run); expected the expressions of refcoco; unzip refcoco.zip there"
    )
    assert not (root / "trace").exists()


def test_scan_missing_partition_raises(root, body, refs):
    write(root, body, refs)
    assert source_error(root, "val-google") == (
        f"--source {root}: refcoco/refs(google).p not found; expected the expressions of refcoco; "
        "unzip refcoco.zip there"
    )


def test_round_trip_is_exact_with_odd_fields_and_spellings(root, body, refs, packed_records):
    refs[0]["category_id"] = 3
    refs[0]["sent_ids"] = [1, 0]
    refs[0]["note"] = {"a": [1, None]}
    refs[0]["sentences"][0].update(raw="left cat", tokens=["left", "kat"], rating=2)
    write(root, body, refs)
    records = packed_records(REFCOCO, root, "train")
    assert_round_trip(records.values(), body, [refs[0], refs[2]])


WRITERS = [
    (REFCOCO, refcoco.write_refcoco, "refcoco/refs(unc).p"),
    (REFCOCO_PLUS, refcoco.write_refcocoplus, "refcoco+/refs(unc).p"),
    (REFCOCOG, refcoco.write_refcocog, "refcocog/refs(umd).p"),
]


@pytest.mark.parametrize(("source", "write_layout", "name"), WRITERS)
def test_round_trip_of_the_miniature_is_exact(tmp_path, packed_records, source, write_layout, name):
    config = WorldConfig(height=48, width=64, num_frames=1, min_objects=3)
    for split in ("train", "val"):
        write_layout(tmp_path, split, [render_world(config, split, index, 3) for index in range(5)])
    official = json.loads((tmp_path / name).with_name("instances.json").read_text())
    refs = pickle.loads((tmp_path / name).read_bytes())
    for split in ("train", "val"):
        own = [entry for entry in refs if entry["split"] == split]
        assert own
        assert_round_trip(packed_records(source, tmp_path, split).values(), official, own)


@needs_samples
def test_round_trip_of_a_real_ref_and_a_real_annotation_is_exact(root, packed_records):
    folder = Path(SAMPLES) / "refcoco_fragment"
    (real,) = json.loads((folder / "refs_unc_first_record.json").read_text())
    body = json.loads((folder / "instances_first_record.json").read_text())
    (image,), (annotation,) = body["images"], body["annotations"]
    said = sentence(9, "the dog in the boat", raw="The dog in the boat")
    refs = [real, ref(7, annotation["id"], said, image_id=image["id"])]
    # The two quoted records are of different images: what the other needs is made up here.
    name = real["file_name"].rsplit("_", 1)[0] + ".jpg"
    body["images"].append({**image, "id": real["image_id"], "file_name": name})
    body["annotations"].append(
        {**annotation, "id": real["ann_id"], "image_id": real["image_id"], "category_id": 1}
    )
    body["categories"] = [{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}]
    for entry in body["images"]:
        size = (entry["width"], entry["height"])
        Image.new("RGB", size).save(root / "train2014" / entry["file_name"])
    write(root, body, refs)
    records = packed_records(REFCOCO, root, "train")
    assert_round_trip(records.values(), body, refs)
    assert [e.text for e in records["000000581857"].expressions] == [
        "the lady with the blue shirt",
        "lady with back to us",
        "blue shirt",
    ]
