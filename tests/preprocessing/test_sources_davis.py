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
from univs.schema import OfficialPrompt

DAVIS_2017, DAVIS_2016 = require_source("davis_2017"), require_source("davis_2016")
LABELS = np.array(
    [[[0, 1, 1, 255], [0, 0, 3, 3]], [[0, 0, 0, 0], [3, 3, 3, 0]], [[0, 1, 0, 0], [0, 0, 0, 255]]], np.uint8
)


@pytest.fixture
def root(tmp_path):
    for sequence in ("camel", "bear"):
        (tmp_path / "JPEGImages/480p" / sequence).mkdir(parents=True)
        (tmp_path / "Annotations/480p" / sequence).mkdir(parents=True)
        for index, labels in enumerate(LABELS):
            Image.new("RGB", (4, 2)).save(tmp_path / f"JPEGImages/480p/{sequence}/{index:05d}.jpg")
            image = Image.fromarray(labels)
            image.putpalette(list(range(256)) * 3)
            image.save(tmp_path / f"Annotations/480p/{sequence}/{index:05d}.png")
    for year in (2016, 2017):
        (tmp_path / f"ImageSets/{year}").mkdir(parents=True)
        (tmp_path / f"ImageSets/{year}/val.txt").write_text("camel\nbear")
    return tmp_path


def scan(source, root):
    return {item.item_id: item for item in source.scan(root, "val")}


def rejection(source, root, name="bear"):
    with pytest.raises(ItemError) as caught:
        validate(source.read(root, "val", scan(source, root)[name]))
    return caught.value.code, caught.value.message


def test_scan_lists_sequences_by_name_with_their_lengths(root):
    items = list(DAVIS_2017.scan(root, "val"))
    assert [(item.item_id, item.num_frames) for item in items] == [("bear", 3), ("camel", 3)]


def test_read_2017_gives_palette_ids_and_void(root):
    video = DAVIS_2017.read(root, "val", scan(DAVIS_2017, root)["bear"])
    record = validate(video).record
    assert [(t.object_id, t.source_id, t.category_id, t.states) for t in record.objects] == [
        (1, "1", None, "VAV"),
        (2, "3", None, "VVA"),
    ]
    for track in record.objects:
        for labels, counts in zip(LABELS, track.rles, strict=True):
            expected = labels == int(track.source_id)
            mask = np.zeros_like(expected) if counts is None else decode_mask(counts, 2, 4)
            np.testing.assert_array_equal(mask, expected)
    (void,) = record.regions
    assert void.kind == "void"
    assert [counts is None for counts in void.rles] == [False, True, False]
    np.testing.assert_array_equal(decode_mask(void.rles[2], 2, 4), LABELS[2] == 255)
    assert [frame.name for frame in record.frames] == ["00000.jpg", "00001.jpg", "00002.jpg"]
    assert not record.is_partition


def test_read_2016_any_nonzero_value_is_the_one_object(root):
    record = validate(DAVIS_2016.read(root, "val", scan(DAVIS_2016, root)["bear"])).record
    assert [(t.source_id, t.states) for t in record.objects] == [("1", "VVV")]
    assert record.regions == ()
    for labels, counts in zip(LABELS, record.objects[0].rles, strict=True):
        np.testing.assert_array_equal(decode_mask(counts, 2, 4), labels > 0)


def test_scan_2016_list_of_image_and_mask_pairs_gives_the_sequences(root):
    (root / "ImageSets/2016/val.txt").unlink()
    (root / "ImageSets/480p").mkdir()
    pairs = [
        f"/JPEGImages/480p/{name}/{i:05d}.jpg /Annotations/480p/{name}/{i:05d}.png\n"
        for name in ("camel", "bear")
        for i in range(3)
    ]
    (root / "ImageSets/480p/val.txt").write_text("".join(pairs))
    assert [item.item_id for item in DAVIS_2016.scan(root, "val")] == ["bear", "camel"]


def test_read_rgb_label_is_e130(root):
    Image.new("RGB", (4, 2)).save(root / "Annotations/480p/bear/00001.png")
    assert rejection(DAVIS_2017, root) == (
        "E130",
        "bear: label image 00001.png has mode RGB; expected P or L",
    )


def test_read_label_of_other_size_is_e131(root):
    Image.new("L", (4, 3)).save(root / "Annotations/480p/bear/00001.png")
    assert rejection(DAVIS_2017, root) == ("E131", "bear/00001.png: label image 4x3; expected 4x2 (w x h)")


def test_read_missing_label_is_e151(root):
    (root / "Annotations/480p/bear/00001.png").unlink()
    assert rejection(DAVIS_2017, root) == ("E151", "bear: 3 jpg, 2 png; frame 00001 has no label file")


def test_read_missing_image_is_e151(root):
    (root / "JPEGImages/480p/bear/00002.jpg").unlink()
    assert rejection(DAVIS_2017, root) == ("E151", "bear: 2 jpg, 3 png; frame 00002 has no image file")


def test_read_image_of_other_size_is_e104(root):
    Image.new("RGB", (5, 2)).save(root / "JPEGImages/480p/bear/00001.jpg")
    assert rejection(DAVIS_2017, root)[0] == "E104"


@pytest.fixture
def test_dev(root):
    """Turn the sequences into those of a test set: labels of the first frame alone."""
    for path in root.glob("Annotations/480p/*/*.png"):
        if path.stem != "00000":
            path.unlink()
    (root / "ImageSets/2017/val.txt").rename(root / "ImageSets/2017/test-dev.txt")
    return root


def test_read_test_set_knows_nothing_beyond_the_first_frame(test_dev):
    item = next(DAVIS_2017.scan(test_dev, "test-dev"))
    record = validate(DAVIS_2017.read(test_dev, "test-dev", item)).record
    assert record.ground_truth == "first_frame"
    assert [track.states for track in record.objects] == ["VUU", "VUU"]
    assert [frame.labelled for frame in record.frames] == [True, False, False]
    assert record.prompts == tuple(
        OfficialPrompt(kind="mask", object_id=object_id, frame_index=0) for object_id in (1, 2)
    )


def test_read_test_set_without_any_label_is_e151(test_dev):
    (test_dev / "Annotations/480p/bear/00000.png").unlink()
    item = next(DAVIS_2017.scan(test_dev, "test-dev"))
    with pytest.raises(ItemError) as caught:
        DAVIS_2017.read(test_dev, "test-dev", item)
    assert (caught.value.code, caught.value.message) == (
        "E151",
        "bear: 3 frames, 0 of them with a PNG in 480p",
    )


def test_scan_2016_has_no_test_sets(root):
    with pytest.raises(
        SourceError, match="--split test-dev: davis_2016 has no such split; expected one of train, val"
    ):
        next(DAVIS_2016.scan(root, "test-dev"))


def test_read_val_prompts_each_object_by_its_first_mask(root):
    record = DAVIS_2017.read(root, "val", scan(DAVIS_2017, root)["bear"]).record
    assert [(p.kind, p.object_id, p.frame_index) for p in record.prompts] == [("mask", 1, 0), ("mask", 2, 0)]
    assert (record.group, record.completeness.is_partial) == ("davis:bear", True)


def test_read_train_has_no_prompts(root):
    (root / "ImageSets/2017/val.txt").rename(root / "ImageSets/2017/train.txt")
    item = next(DAVIS_2017.scan(root, "train"))
    assert DAVIS_2017.read(root, "train", item).record.prompts == ()


def test_read_full_resolution_where_it_lies_alone(root):
    for folder in ("JPEGImages", "Annotations"):
        (root / folder / "480p").rename(root / folder / "Full-Resolution")
    video = DAVIS_2017.read(root, "val", scan(DAVIS_2017, root)["bear"])
    assert validate(video).record.num_frames == 3
    assert video.frame_paths[0] == root / "JPEGImages/Full-Resolution/bear/00000.jpg"


def test_read_480p_where_both_resolutions_lie(root):
    (root / "JPEGImages/Full-Resolution").mkdir()
    video = DAVIS_2017.read(root, "val", scan(DAVIS_2017, root)["bear"])
    assert video.frame_paths[0] == root / "JPEGImages/480p/bear/00000.jpg"


def write_scribbles(root, *frames, file="001.json"):
    folder = root / "Scribbles/bear"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text(json.dumps({"scribbles": frames, "sequence": "bear"}))


def stroke(object_id, *path):
    return {"path": [list(point) for point in path], "object_id": object_id, "start_time": 7, "end_time": 9}


def test_read_scribbles_become_prompts_in_pixels(root):
    write_scribbles(root, [], [stroke(3, (0, 0), (1, 1)), stroke(0, (0.5, 0.25))], [])
    write_scribbles(root, [stroke(1, (1, 0))], [], [], file="002.json")
    record = validate(DAVIS_2017.read(root, "val", scan(DAVIS_2017, root)["bear"])).record
    strokes = [prompt for prompt in record.prompts if prompt.kind == "scribble"]
    assert [(p.object_id, p.frame_index, p.coordinates) for p in strokes] == [
        (2, 1, (0, 0, 3, 1)),
        (0, 1, (1.5, 0.25)),
        (1, 0, (3, 0)),
    ]
    times = {"start_time": 7, "end_time": 9}
    assert json.loads(record.extra) == {
        "scribbles": {
            "001.json": {"sequence": "bear", "strokes": [times, times]},
            "002.json": {"sequence": "bear", "strokes": [times]},
        }
    }


def scribble_rejection(root):
    with pytest.raises(ItemError) as caught:
        DAVIS_2017.read(root, "val", scan(DAVIS_2017, root)["bear"])
    return caught.value.code, caught.value.message, caught.value.file, caught.value.pointer


def test_read_scribbles_of_another_number_of_frames_is_e110(root):
    write_scribbles(root, [], [])
    assert scribble_rejection(root) == (
        "E110",
        "bear: 001.json has 2 lists of scribbles, 3 frames",
        "Scribbles/bear/001.json",
        "/scribbles",
    )


def test_read_scribble_of_no_object_is_e144(root):
    write_scribbles(root, [], [stroke(1, (0, 0)), stroke(2, (0, 0))], [])
    assert scribble_rejection(root) == (
        "E144",
        "bear: scribble of object 2; expected one of 0, 1, 3",
        "Scribbles/bear/001.json",
        "/scribbles/1/1",
    )


@pytest.mark.parametrize(
    "content", ["", "{}", '{"scribbles": [[{"path": [[1]]}], [], []]}', '{"scribbles": [1, 2, 3]}']
)
def test_read_malformed_scribbles_is_e100(root, content):
    write_scribbles(root, [], [], [])
    (root / "Scribbles/bear/001.json").write_text(content)
    assert scribble_rejection(root)[0] == "E100"


def test_read_2016_takes_no_scribbles(root):
    write_scribbles(root, [], [])
    record = DAVIS_2016.read(root, "val", scan(DAVIS_2016, root)["bear"]).record
    assert {prompt.kind for prompt in record.prompts} == {"mask"}


def test_read_listed_sequence_without_folder_is_e153(root):
    (root / "ImageSets/2017/val.txt").write_text("bear\ngone\n")
    assert rejection(DAVIS_2017, root, "gone") == (
        "E153",
        "gone: no frames on disk; check the split list and unpack the images",
    )


def test_read_listed_sequence_outside_the_dataset_is_e190(root, tmp_path):
    (root / "ImageSets/2017/val.txt").write_text("bear\n../../..\n")
    assert scan(DAVIS_2017, root)["../../.."].num_frames == 0
    assert rejection(DAVIS_2017, root, "../../..") == (
        "E190",
        "../../..: '../../..'; expected a path inside the dataset",
    )


def test_scan_missing_list_raises(root):
    with pytest.raises(SourceError) as caught:
        list(DAVIS_2017.scan(root, "train"))
    assert str(caught.value) == (
        f"--source {root}: ImageSets/2017/train.txt not found; expected the sequence list of DAVIS 2017; "
        "unpack the DAVIS archive with its ImageSets folder"
    )


@pytest.mark.parametrize(("text", "found"), [("\n", "is empty"), ("bear\nbear\n", "names 'bear' twice")])
def test_scan_empty_or_repeating_list_raises(root, text, found):
    (root / "ImageSets/2017/val.txt").write_text(text)
    with pytest.raises(SourceError, match=f"ImageSets/2017/val.txt {found}; expected the sequence list"):
        list(DAVIS_2017.scan(root, "val"))


@pytest.mark.parametrize("source", [DAVIS_2016, DAVIS_2017], ids=lambda source: source.spec.name)
def test_read_real_davis_paints_back_to_the_official_pngs(source, tmp_path):
    samples = os.environ.get("UNIVS_SAMPLES_DIR")
    if not samples:
        pytest.skip("UNIVS_SAMPLES_DIR is not set")
    year = source.year
    official = Path(samples) / f"davis{year}" / "DAVIS"
    for folder in ("JPEGImages", "Annotations"):
        (tmp_path / folder).symlink_to(official / folder)
    names = sorted(path.name for path in (official / "JPEGImages/480p").iterdir())
    (tmp_path / f"ImageSets/{year}").mkdir(parents=True)
    (tmp_path / f"ImageSets/{year}/val.txt").write_text("\n".join(names))
    for item in source.scan(tmp_path, "val"):
        video = source.read(tmp_path, "val", item)
        record = video.record
        assert record.num_frames == len(list((official / "JPEGImages/480p" / item.item_id).iterdir()))
        for index in range(0, record.num_frames, 7):
            painted = np.zeros((record.height, record.width), dtype=np.uint8)
            for track in record.objects:
                if track.rles[index] is not None:
                    painted[decode_mask(track.rles[index], record.height, record.width)] = int(
                        track.source_id
                    )
            with Image.open(official / f"Annotations/480p/{item.item_id}/{index:05d}.png") as image:
                expected = np.asarray(image)
            np.testing.assert_array_equal(painted, expected if year == 2017 else expected > 0)
    assert names
