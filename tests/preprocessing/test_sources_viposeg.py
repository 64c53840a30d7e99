import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from PIL import Image

from preprocessing.errors import Finding, ItemError, SourceError
from preprocessing.masks import decode_mask, encode_mask
from preprocessing.miniature import MiniatureConfig, build
from preprocessing.sources.catalog import require_source
from preprocessing.validate import validate
from preprocessing.worlds import WorldConfig

SOURCE = require_source("viposeg")
VIDEO = "1001_3iE"
STEMS = ("00002058", "00002061", "00002064")
LABELS = np.array([[[1, 1, 0], [0, 0, 0]], [[1, 2, 2], [0, 0, 7]], [[0, 2, 0], [0, 0, 7]]], dtype=np.uint8)
FIRST = {0: LABELS[0], 1: np.array([[0, 2, 2], [0, 0, 7]], dtype=np.uint8)}
CLASSES = {"1": 60, "2": 0, "7": 123}
FRAMES_OF = {"1": STEMS[:2], "2": STEMS[1:], "7": STEMS[1:]}


def write_masks(folder, labels):
    folder.mkdir(parents=True, exist_ok=True)
    for index, frame in labels.items():
        Image.fromarray(frame).save(folder / f"{STEMS[index]}.png")


@pytest.fixture
def root(tmp_path):
    for name, labels in (("train/Annotations", LABELS), ("valid/Annotations_gt", LABELS)):
        write_masks(tmp_path / name / VIDEO, dict(enumerate(labels)))
    write_masks(tmp_path / "valid/Annotations" / VIDEO, FIRST)
    for folder in ("train", "valid"):
        images = tmp_path / folder / "JPEGImages" / VIDEO
        images.mkdir(parents=True)
        for stem in STEMS:
            Image.new("RGB", (3, 2)).save(images / f"{stem}.jpg")
    write_tables(tmp_path)
    return tmp_path


def write_tables(root, classes=CLASSES, frames_of=FRAMES_OF):
    for folder in ("train", "valid"):
        (root / folder / "obj_class.json").write_text(json.dumps({VIDEO: classes}))
    objects = {i: {"frames": list(frames)} for i, frames in frames_of.items()}
    (root / "valid/meta.json").write_text(json.dumps({"videos": {VIDEO: {"objects": objects}}}))


def read_only(root, split):
    (item,) = SOURCE.scan(root, split)
    return SOURCE.read(root, split, item)


def rejection(root, split="val"):
    with pytest.raises(ItemError) as caught:
        validate(read_only(root, split))
    return caught.value.code, caught.value.message


def paint(record, index):
    """Give a frame's official label image back."""
    values = np.zeros((record.height, record.width), dtype=np.uint8)
    for track in record.objects:
        if track.rles[index]:
            values[decode_mask(track.rles[index], *values.shape)] = int(track.source_id)
    return values


def paint_first(record):
    """Give the official images of first masks back, by frame."""
    given = {}
    for prompt in record.prompts:
        track = record.objects[prompt.object_id - 1]
        mask = decode_mask(track.rles[prompt.frame_index], record.height, record.width)
        image = given.setdefault(prompt.frame_index, np.zeros(mask.shape, dtype=np.uint8))
        image[mask] = int(track.source_id)
    return given


def test_read_train_gives_objects_with_vipseg_classes(root):
    record = validate(read_only(root, "train")).record
    assert [(t.source_id, t.category_id, t.states, t.extra) for t in record.objects] == [
        ("1", 60, "VVA", ""),
        ("2", 0, "AVV", ""),
        ("7", 123, "AVV", ""),
    ]
    for index, labels in enumerate(LABELS):
        np.testing.assert_array_equal(paint(record, index), labels)
    assert (record.ground_truth, record.prompts, record.regions) == ("full", (), ())
    assert (record.group, record.label_space) == (f"vipseg:{VIDEO}", "viposeg")


def test_read_val_prompts_with_the_first_masks(root):
    record = validate(read_only(root, "val")).record
    assert [(p.kind, p.object_id, p.frame_index) for p in record.prompts] == [
        ("mask", 1, 0),
        ("mask", 2, 1),
        ("mask", 3, 1),
    ]
    assert [t.states for t in record.objects] == ["VVA", "AVV", "AVV"]
    assert [json.loads(t.extra)["frames"] for t in record.objects] == [list(f) for f in FRAMES_OF.values()]
    assert (record.ground_truth, record.extra) == ("full", "")
    for index, labels in FIRST.items():
        np.testing.assert_array_equal(paint_first(record)[index], labels)


def test_read_val_without_full_masks_knows_the_first_only(root):
    shutil.rmtree(root / "valid/Annotations_gt")
    record = validate(read_only(root, "val")).record
    assert record.ground_truth == "first_frame"
    assert [t.states for t in record.objects] == ["VUU", "UVU", "UVU"]
    assert [frame.labelled for frame in record.frames] == [True, True, False]
    given = paint_first(record)
    assert sorted(given) == [0, 1]
    for index, labels in FIRST.items():
        np.testing.assert_array_equal(given[index], labels)


def test_read_val_first_mask_other_than_the_full_one_is_kept_with_a_warning(root):
    other = np.array([[0, 2, 0], [0, 0, 7]], dtype=np.uint8)
    write_masks(root / "valid/Annotations" / VIDEO, {1: other})
    video = read_only(root, "val")
    assert json.loads(video.record.extra) == {
        "first_masks": {f"{STEMS[1]}.jpg": {"2": encode_mask(other == 2)}}
    }
    assert video.findings == (
        Finding(
            code="W139",
            message=f"{VIDEO}/{STEMS[1]}: first mask of object 2 is not that of Annotations_gt",
            file=f"valid/Annotations/{VIDEO}/{STEMS[1]}.png",
        ),
    )


def test_read_val_first_mask_of_no_object_is_e137(root):
    write_masks(root / "valid/Annotations" / VIDEO, {0: np.full((2, 3), 9, dtype=np.uint8)})
    assert rejection(root) == ("E137", f"{VIDEO}: id 9 is in Annotations, but not in Annotations_gt")


def test_read_val_masks_of_two_sizes_is_e131(root):
    for index in FIRST:
        write_masks(root / "valid/Annotations" / VIDEO, {index: np.ones((3, 3), dtype=np.uint8)})
    assert rejection(root) == (
        "E131",
        f"{VIDEO}: Annotations 3x3, Annotations_gt 3x2 (w x h); expected one size",
    )


@pytest.mark.parametrize(("split", "folder"), [("train", "Annotations"), ("val", "Annotations_gt")])
def test_read_missing_mask_is_e151(root, split, folder):
    (root / {"train": "train", "val": "valid"}[split] / folder / VIDEO / f"{STEMS[2]}.png").unlink()
    assert rejection(root, split) == (
        "E151",
        f"{VIDEO}: 3 jpg, 2 png; frame {STEMS[2]} has no label file",
    )


def test_read_val_without_first_masks_is_e151(root):
    shutil.rmtree(root / "valid/Annotations" / VIDEO)
    assert rejection(root) == ("E151", f"{VIDEO}: 3 frames, 0 of them with a PNG in Annotations")


def test_read_rgb_mask_is_e130(root):
    Image.new("RGB", (3, 2)).save(root / "train/Annotations" / VIDEO / f"{STEMS[0]}.png")
    assert rejection(root, "train") == (
        "E130",
        f"{VIDEO}: label image {STEMS[0]}.png has mode RGB; expected P or L",
    )


def test_read_class_outside_the_table_is_e123(root):
    write_tables(root, {**CLASSES, "2": 124})
    with pytest.raises(ItemError) as caught:
        read_only(root, "train")
    assert (caught.value.code, caught.value.message) == (
        "E123",
        f"{VIDEO}: object 2 has class 124, not one of 0..123",
    )
    assert (caught.value.file, caught.value.pointer) == ("train/obj_class.json", f"/{VIDEO}/2")


def test_read_object_without_class_is_e137_unless_it_is_noise(root):
    write_tables(root, {"1": 60, "2": 0})
    large = np.zeros((8, 8), dtype=np.uint8)
    large[:4, :4] = 7
    video = read_only(root, "train")
    assert [t.category_id for t in video.record.objects] == [60, 0, None]
    assert [(f.code, f.pointer) for f in video.findings] == [("W137", f"/{VIDEO}")]
    write_masks(root / "train/Annotations" / VIDEO, dict.fromkeys(range(3), large))
    assert rejection(root, "train") == ("E137", f"{VIDEO}: id 7 (16 px) is not among 1, 2")


def test_read_object_that_is_never_visible_is_left_out_with_a_warning(root):
    write_tables(root, {**CLASSES, "9": 3}, {**FRAMES_OF, "9": ["00002070"]})
    video = read_only(root, "val")
    assert [t.source_id for t in video.record.objects] == ["1", "2", "7"]
    assert json.loads(video.record.extra) == {"never_visible": {"9": [3, {"frames": ["00002070"]}]}}
    assert [(f.code, f.message) for f in video.findings] == [
        ("W138", f"{VIDEO}: declared object 9 is never visible, left out")
    ]


def test_scan_lists_videos_on_disk_in_either_table(root):
    (root / "valid/JPEGImages/0_disk").mkdir()
    (root / "valid/obj_class.json").write_text(json.dumps({"2_class": {}, VIDEO: CLASSES}))
    (root / "valid/meta.json").write_text(json.dumps({"videos": {"3_meta": {"objects": {}}}}))
    items = list(SOURCE.scan(root, "val"))
    assert [item.item_id for item in items] == ["0_disk", VIDEO, "2_class", "3_meta"]
    for item in (items[0], *items[2:]):
        with pytest.raises(ItemError) as caught:
            SOURCE.read(root, "val", item)
        problem = "no frames on disk; check the split list and unpack the images"
        assert (caught.value.code, caught.value.message) == ("E153", f"{item.item_id}: {problem}")


def test_read_unsafe_name_is_e190(root):
    (root / "train/obj_class.json").write_text(json.dumps({"../x": {"1": 1}}))
    item = next(SOURCE.scan(root, "train"))
    with pytest.raises(ItemError) as caught:
        SOURCE.read(root, "train", item)
    assert (caught.value.code, caught.value.message) == (
        "E190",
        "../x: '../x'; expected a path inside the dataset",
    )


def test_scan_without_classes_raises(root):
    (root / "train/obj_class.json").unlink()
    with pytest.raises(SourceError) as caught:
        list(SOURCE.scan(root, "train"))
    assert str(caught.value) == (
        f"--source {root}: train/obj_class.json not found; expected a table of objects by video; "
        "take it from the VIPOSeg archive"
    )


@pytest.mark.parametrize("content", ["[]", '{"a": 1}', "3"])
def test_scan_malformed_classes_raises(root, content):
    (root / "train/obj_class.json").write_text(content)
    with pytest.raises(SourceError, match=r"train/obj_class.json is malformed; expected {video: {object: cl"):
        list(SOURCE.scan(root, "train"))


def test_label_space_is_the_built_in_one_or_that_of_the_file(root):
    space = SOURCE.label_space(root)
    assert (space.name, len(space.categories), sum(space.is_thing)) == ("viposeg", 124, 58)
    assert (space.names[0], space.names[60], space.names[98]) == ("wall", "person", "other_machine")
    rows = [{"id": 0, "name": "own", "isthing": 1}]
    (root / "panoVIPSeg_categories.json").write_text(json.dumps(rows))
    assert SOURCE.label_space(root).names == ("own",)


@pytest.mark.parametrize("split", ["train", "val"])
def test_round_trip_of_the_miniature_gives_the_official_files(tmp_path, packed_items, split):
    config = MiniatureConfig(train_videos=2, val_videos=3, world=WorldConfig(num_frames=5, visitor_rate=1.0))
    root = build(tmp_path, config, ["viposeg"])["viposeg"]
    folder = root / {"train": "train", "val": "valid"}[split]
    items = packed_items(SOURCE, root, split)
    classes = json.loads((folder / "obj_class.json").read_bytes())
    assert sorted(items) == sorted(classes)
    full = folder / ("Annotations" if split == "train" else "Annotations_gt")
    for item_id, item in items.items():
        record = item.record
        assert {t.source_id: t.category_id for t in record.objects} == classes[item_id]
        for index, path in enumerate(sorted((full / item_id).iterdir())):
            with Image.open(path) as image:
                np.testing.assert_array_equal(paint(record, index), np.asarray(image))
            assert record.frames[index].stem == path.stem
        if split == "val":
            meta = json.loads((folder / "meta.json").read_bytes())["videos"][item_id]["objects"]
            assert {t.source_id: json.loads(t.extra) for t in record.objects} == meta
            given = {record.frames[i].stem: image for i, image in paint_first(record).items()}
            for path in (folder / "Annotations" / item_id).iterdir():
                with Image.open(path) as image:
                    np.testing.assert_array_equal(given.pop(path.stem), np.asarray(image))
            assert given == {}


@settings(deadline=None, max_examples=30)
@given(arrays(np.uint8, array_shapes(min_dims=3, max_dims=3, max_side=4), elements=st.integers(0, 5)))
def test_round_trip_of_any_labels_gives_them_back(labels):
    with TemporaryDirectory() as name:
        root = Path(name)
        for part in ("JPEGImages", "Annotations"):
            (root / "train" / part / "v").mkdir(parents=True)
        for index, frame in enumerate(labels):
            Image.new("RGB", frame.shape[::-1]).save(root / f"train/JPEGImages/v/{index:05d}.jpg")
            Image.fromarray(frame).save(root / f"train/Annotations/v/{index:05d}.png")
        classes = {"v": {str(i): 7 * i for i in range(1, 6)}}
        (root / "train/obj_class.json").write_text(json.dumps(classes))
        video = read_only(root, "train")
        record = validate(video).record
        painted = [paint(record, index) for index in range(len(labels))]
    np.testing.assert_array_equal(painted, labels)
    unseen = sorted({1, 2, 3, 4, 5} - set(np.unique(labels).tolist()))
    assert [finding.pointer for finding in video.findings] == [f"/v/{i}" for i in unseen]


def test_real_frames_and_first_mask_survive_the_shard(tmp_path, packed_items):
    samples = os.environ.get("UNIVS_SAMPLES_DIR")
    if not samples:
        pytest.skip("UNIVS_SAMPLES_DIR is not set")
    official = Path(samples) / "viposeg_style_aot_demo"
    (tmp_path / "valid").mkdir()
    for name in ("JPEGImages", "Annotations"):
        (tmp_path / "valid" / name).symlink_to(official / name)
    (mask,) = (official / "Annotations").rglob("*.png")
    with Image.open(mask) as image:
        labels = np.asarray(image)
    # The sample has no tables: any classes do, and every object is in its one label image.
    ids = [str(value) for value in np.unique(labels).tolist() if value]
    video = mask.parent.name
    (tmp_path / "valid/obj_class.json").write_text(json.dumps({video: {i: int(i) for i in ids}}))
    objects = {i: {"frames": [mask.stem]} for i in ids}
    (tmp_path / "valid/meta.json").write_text(json.dumps({"videos": {video: {"objects": objects}}}))
    item = packed_items(SOURCE, tmp_path, "val")[video]
    images = sorted((official / "JPEGImages" / video).iterdir())
    assert item.frame_bytes == tuple(path.read_bytes() for path in images)
    assert item.record.ground_truth == "first_frame"
    index = [frame.stem for frame in item.record.frames].index(mask.stem)
    np.testing.assert_array_equal(paint(item.record, index), labels)
    np.testing.assert_array_equal(paint_first(item.record)[index], labels)
