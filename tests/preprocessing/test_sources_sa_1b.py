import gzip
import io
import json
import os
import shutil
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from pycocotools import mask as coco_mask

from preprocessing.errors import Finding, ItemError, SourceError
from preprocessing.masks import decode_mask, encode_mask, mask_area
from preprocessing.miniature import MiniatureConfig, build
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


def test_read_keeps_scores_prompts_and_what_masks_do_not_say(root, body):
    first, second = body["annotations"]
    first |= {"bbox": [0.0, 0.0, 5.0, 2.0], "area": 10, "point_coords": [[1.5, 0.25], [3, 1]]}
    second |= {"bbox": [1.0, 1.0, 1.0, 0.0], "area": 2, "predicted_iou": 0.75, "note": "seen"}
    record = validate(read_only(root, body)).record
    small, large = record.objects
    assert (small.source_id, small.boxes, small.areas) == ("4", ((1.0, 1.0, 1.0, 0.0),), ())
    assert (small.predicted_iou, small.stability_score) == (0.75, 0.98)
    assert json.loads(small.extra) == {"crop_box": [0.0, 0.0, 5.0, 3.0], "note": "seen"}
    assert (large.source_id, large.boxes, large.areas) == ("30", (), ())
    assert [(p.kind, p.object_id, p.frame_index, p.coordinates) for p in record.prompts] == [
        ("point", 1, 0, (1.0, 1.0)),
        ("point", 2, 0, (1.5, 0.25)),
        ("point", 2, 0, (3, 1)),
    ]
    assert json.loads(record.extra) == {"image": {"image_id": 10, "file_name": "sa_10.jpg"}}
    assert record.group == "sa_1b:sa_10"


def test_read_mask_of_area_zero_is_left_out_with_a_warning(root, body):
    empty = body["annotations"][0]
    empty["segmentation"]["counts"] = encode_mask(np.zeros((3, 5), dtype=np.bool_))
    video = read_only(root, body)
    assert [track.source_id for track in video.record.objects] == ["4"]
    assert [prompt.object_id for prompt in video.record.prompts] == [1]
    assert json.loads(video.record.extra)["left_out"] == [empty]
    assert video.findings == (
        Finding(
            code="W114",
            message="sa_10: annotation 30: area 0",
            file="sa_10.json",
            pointer="/annotations/0/segmentation",
        ),
    )


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


def test_read_repeated_annotation_id_is_e120(root, body):
    body["annotations"] *= 2
    assert rejection(root, body) == ("E120", "sa_10: id 30 twice")


NEEDS = (
    "expected sa_*.tar, or sa_*.jpg with sa_*.json side by side, or images/sa_*.jpg with "
    "annotations/sa_*.json; point it at either of them"
)


def test_scan_empty_folder_raises(tmp_path):
    with pytest.raises(SourceError) as caught:
        list(SOURCE.scan(tmp_path, "train"))
    assert str(caught.value) == f"--source {tmp_path}: no *.tar and no *.jpg found; {NEEDS}"


def test_scan_tars_beside_unpacked_images_raises(root):
    write_tar(root / "sa_000000.tar", {"sa_10.jpg": b""})
    with pytest.raises(SourceError) as caught:
        list(SOURCE.scan(root, "train"))
    assert str(caught.value) == f"--source {root}: 1 tars and 1 unpacked items found; {NEEDS}"


def write_tar(path, members):
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


@pytest.fixture
def tars(root, body, tmp_path_factory):
    """Two tars: a whole pair in each, an image alone, an annotation alone."""
    folder, picture = tmp_path_factory.mktemp("tars"), (root / "sa_10.jpg").read_bytes()
    content = json.dumps(body).encode()
    write_tar(folder / "sa_000000.tar", {"sa_9.json": content, "sa_10.jpg": picture, "sa_10.json": content})
    write_tar(folder / "sa_000001.tar", {"LICENSE": b"-", "sa_2.jpg": picture, "sa_11.jpg": picture})
    return folder


def test_scan_tars_lists_one_after_the_other(tars):
    assert [item.item_id for item in SOURCE.scan(tars, "train")] == ["sa_9", "sa_10", "sa_2", "sa_11"]


def test_read_in_a_tar_gives_the_record_and_the_bytes_of_the_unpacked_files(root, body, tars):
    unpacked = validate(read_only(root, body))
    item = next(item for item in SOURCE.scan(tars, "train") if item.item_id == "sa_10")
    in_tar = validate(SOURCE.read(tars, "train", item))
    assert in_tar == unpacked


def test_read_in_a_tar_names_the_member(body, tars):
    body["annotations"][1]["segmentation"]["size"] = [5, 3]
    write_tar(tars / "sa_000000.tar", {"sa_3.jpg": b"", "sa_3.json": json.dumps(body).encode()})
    with pytest.raises(ItemError) as caught:
        SOURCE.read(tars, "train", next(SOURCE.scan(tars, "train")))
    assert (caught.value.code, caught.value.file) == ("E111", "sa_000000.tar/sa_3.json")
    assert caught.value.pointer == "/annotations/1/segmentation"


def test_read_half_a_pair_in_a_tar_is_rejected(tars):
    found = {}
    for item in SOURCE.scan(tars, "train"):
        if item.item_id != "sa_10":
            with pytest.raises(ItemError) as caught:
                SOURCE.read(tars, "train", item)
            found[item.item_id] = (caught.value.code, caught.value.message, caught.value.file)
    again = "download the tar again"
    assert found == {
        "sa_9": ("E101", f"sa_9: sa_9.jpg not found in sa_000000.tar; {again}", "sa_000000.tar"),
        "sa_2": ("E151", f"sa_2: sa_2.json not found in sa_000001.tar; {again}", "sa_000001.tar"),
        "sa_11": ("E151", f"sa_11: sa_11.json not found in sa_000001.tar; {again}", "sa_000001.tar"),
    }


def scan_error(tars):
    with pytest.raises(SourceError) as caught:
        list(SOURCE.scan(tars, "train"))
    return str(caught.value)


@pytest.mark.parametrize("size", [0, 100, 512, 600, 1024, 1536, 2000])
def test_scan_truncated_tar_raises(tars, size):
    path = tars / "sa_000000.tar"
    path.write_bytes(path.read_bytes()[:size])
    message = scan_error(tars)
    assert message.startswith(f"--source {tars}: sa_000000.tar is not a whole tar (")
    assert message.endswith(f", {size} bytes); download it again")


def test_scan_tar_with_a_damaged_header_raises(tars):
    path = tars / "sa_000001.tar"
    content = path.read_bytes()
    path.write_bytes(content[:1024] + b"\7" * 60 + content[1084:])
    assert scan_error(tars) == (
        f"--source {tars}: sa_000001.tar is not a whole tar "
        "(neither a member nor the end at byte 1024, 10240 bytes); download it again"
    )


def test_scan_compressed_tar_raises(tars):
    path = tars / "sa_000000.tar"
    path.write_bytes(gzip.compress(path.read_bytes()))
    assert "sa_000000.tar is not a whole tar (" in scan_error(tars)


def rebuild(record):
    """Write a record back as SA-1B's JSON."""
    rest = json.loads(record.extra)
    entries = {}
    for track in record.objects:
        area = mask_area(track.rles[0], record.height, record.width)
        size = [record.height, record.width]
        box = coco_mask.toBbox({"size": size, "counts": track.rles[0].encode()}).tolist()
        entries[int(track.source_id)] = {
            "id": int(track.source_id),
            "segmentation": {"size": size, "counts": track.rles[0]},
            "bbox": list(track.boxes[0]) if track.boxes else box,
            "area": track.areas[0] if track.areas else area,
            "predicted_iou": track.predicted_iou,
            "stability_score": track.stability_score,
            "point_coords": [list(p.coordinates) for p in record.prompts if p.object_id == track.object_id],
            **json.loads(track.extra),
        }
    entries |= {entry["id"]: entry for entry in rest.pop("left_out", [])}
    image = {**rest.pop("image"), "width": record.width, "height": record.height}
    return {**rest, "image": image, "annotations": [entries[i] for i in sorted(entries)]}


def in_order(body):
    return {**body, "annotations": sorted(body["annotations"], key=lambda entry: entry["id"])}


def test_round_trip_of_the_miniature_gives_the_official_files(tmp_path, packed_items):
    root = build(tmp_path, MiniatureConfig(train_images=3), ["sa_1b"])["sa_1b"]
    items = packed_items(SOURCE, root, "train")
    assert sorted(items) == ["sa_1", "sa_2", "sa_3"]
    for item_id, item in items.items():
        assert rebuild(item.record) == in_order(json.loads((root / f"{item_id}.json").read_bytes()))
        assert item.frame_bytes == ((root / f"{item_id}.jpg").read_bytes(),)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_round_trip_of_any_annotation_gives_it_back(data):
    number = st.integers(-100, 100) | st.floats(-1e6, 1e6)
    with TemporaryDirectory() as name:
        root = Path(name)
        Image.new("RGB", (4, 3)).save(root / "sa_1.jpg")
        entries = []
        for source_id in data.draw(st.lists(st.integers(0, 10**10), max_size=5, unique=True)):
            mask = data.draw(arrays(np.bool_, (3, 4)))
            segmentation = {"size": [3, 4], "counts": encode_mask(mask)}
            entry = {"id": source_id, "segmentation": segmentation, "crop_box": data.draw(st.lists(number))}
            entry |= {"bbox": data.draw(st.tuples(*[number] * 4).map(list)), "area": data.draw(number)}
            entry |= {"predicted_iou": data.draw(number), "stability_score": data.draw(number)}
            entry["point_coords"] = [[data.draw(number), data.draw(number)] for _ in range(2)]
            entries.append(entry)
        body = {"image": {"image_id": 1, "width": 4, "height": 3}, "annotations": entries}
        (root / "sa_1.json").write_text(json.dumps(body))
        (item,) = SOURCE.scan(root, "train")
        if entries and not any(coco_mask.area(entry["segmentation"]) for entry in entries):
            with pytest.raises(ItemError, match="^E113"):
                SOURCE.read(root, "train", item)
        else:
            assert rebuild(validate(SOURCE.read(root, "train", item)).record) == in_order(body)


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
        assert rebuild(record) == in_order(official)


def test_read_datumaro_sample_accepts_the_sound_half_and_names_the_other():
    samples = os.environ.get("UNIVS_SAMPLES_DIR")
    if not samples:
        pytest.skip("UNIVS_SAMPLES_DIR is not set")
    root = Path(samples) / "sa_1b_synthetic_datumaro"
    first, second = SOURCE.scan(root, "train")
    record = validate(SOURCE.read(root, "train", first)).record
    official = json.loads((root / "a.json").read_bytes())
    assert rebuild(record) == official
    with pytest.raises(ItemError, match=r"^E111 .*: b: annotation 1: rle.size \[5, 10\], expected \[10, 5\]"):
        SOURCE.read(root, "train", second)


def test_read_real_image_without_its_annotation_is_e151():
    samples = os.environ.get("UNIVS_SAMPLES_DIR")
    if not samples:
        pytest.skip("UNIVS_SAMPLES_DIR is not set")
    (item,) = SOURCE.scan(Path(samples) / "sa_1b", "train")
    with pytest.raises(ItemError) as caught:
        SOURCE.read(Path(samples) / "sa_1b", "train", item)
    assert (caught.value.code, caught.value.file) == ("E151", "annotations/sa_1002.json")
    assert caught.value.message == "sa_1002: sa_1002.json not found; expected one beside each image"


def test_real_image_and_fragments_of_annotation_survive_tar_and_shard(tmp_path, packed_items):
    samples = os.environ.get("UNIVS_SAMPLES_DIR")
    if not samples:
        pytest.skip("UNIVS_SAMPLES_DIR is not set")
    picture = (Path(samples) / "sa_1b/images/sa_1002.jpg").read_bytes()
    fragment = (Path(samples) / "sa_1b_fragments/sa_560.json").read_bytes()
    write_tar(tmp_path / "sa_000020.tar", {"sa_560.jpg": picture, "sa_560.json": fragment})
    item = packed_items(SOURCE, tmp_path, "train")["sa_560"]
    assert item.frame_bytes == (picture,)
    assert rebuild(item.record) == in_order(json.loads(fragment))
