"""Every layout is read back with plain code of this file and compared with the worlds it was written from."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from preprocessing.layouts import coco_panoptic, davis_2017, refytvos, sa_1b, vipseg, vspw, ytvis_2021
from preprocessing.layouts.encoding import box, compressed_rle, uncompressed_rle, write_palette_png
from preprocessing.worlds import CLASS_NAMES, THING_NAMES, World, WorldConfig, render_world

CONFIG = WorldConfig(height=64, width=96, num_frames=8, min_objects=3, visitor_rate=1.0)
SPLITS = ["train", "val"]
OFFICIAL_FOLDER = {"train": "train", "val": "valid"}


def worlds_of(split: str) -> list[World]:
    return [render_world(CONFIG, split, index, 31) for index in range(4)]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def load(path: Path):
    return json.loads(path.read_text())


def assert_same_picture(path: Path, frame: np.ndarray) -> None:
    """JPEG of high quality: close, and not shifted, swapped in color or of another frame."""
    with Image.open(path) as image:
        assert (image.format, image.mode) == ("JPEG", "RGB")
        difference = np.abs(np.asarray(image).astype(int) - frame)
    assert difference.mean() < 4


def mask_of_counts(counts: list[int], size: list[int]) -> np.ndarray:
    """Decode uncompressed RLE run by run."""
    flat = []
    for place, count in enumerate(counts):
        flat += [place % 2] * count
    return np.array(flat, dtype=bool).reshape(size[1], size[0]).T


def counts_of_text(text: str) -> list[int]:
    """Decode COCO's compressed counts: little-endian base 32, sign bit, differences from two runs before."""
    counts: list[int] = []
    place = 0
    while place < len(text):
        value = shift = 0
        more = True
        while more:
            part = ord(text[place]) - 48
            value |= (part & 31) << shift
            shift, place, more = shift + 5, place + 1, bool(part & 32)
            if not more and part & 16:
                value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
    return counts


def assert_box(values: list[float], mask: np.ndarray) -> None:
    x, y, width, height = (int(value) for value in values)
    inside = mask[y : y + height, x : x + width]
    assert inside.sum() == mask.sum()
    assert inside[0].any()
    assert inside[-1].any()
    assert inside[:, 0].any()
    assert inside[:, -1].any()


@pytest.mark.parametrize("split", SPLITS)
def test_coco_panoptic_reads_back_as_the_worlds(tmp_path, split):
    worlds = worlds_of(split)
    coco_panoptic.write(tmp_path, split, worlds)
    body = load(tmp_path / "annotations" / f"panoptic_{split}2017.json")
    categories = {entry["id"]: entry for entry in body["categories"]}
    segment_ids = [segment["id"] for entry in body["annotations"] for segment in entry["segments_info"]]
    assert len(set(segment_ids)) == len(segment_ids)
    assert [entry["id"] for entry in body["images"]] == [entry["image_id"] for entry in body["annotations"]]
    for world, image, entry in zip(worlds, body["images"], body["annotations"], strict=True):
        assert image["file_name"] == f"{image['id']:012d}.jpg"
        assert entry["file_name"] == f"{image['id']:012d}.png"
        assert_same_picture(tmp_path / f"{split}2017" / image["file_name"], world.frames[0])
        png = pixels(tmp_path / "annotations" / f"panoptic_{split}2017" / entry["file_name"]).astype(int)
        ids = png[..., 0] + 256 * png[..., 1] + 65536 * png[..., 2]
        assert set(np.unique(ids)) == {segment["id"] for segment in entry["segments_info"]}
        for segment in entry["segments_info"]:
            mask = ids == segment["id"]
            (object_id,) = np.unique(world.ids[0][mask])
            owner = world.objects[object_id - 1]
            assert np.array_equal(mask, world.ids[0] == object_id)
            assert categories[segment["category_id"]]["name"] == owner.class_name
            assert categories[segment["category_id"]]["isthing"] == owner.is_thing
            assert (segment["area"], segment["iscrowd"]) == (mask.sum(), 0)
            assert_box(segment["bbox"], mask)


def test_coco_panoptic_splits_share_no_image_id_and_no_segment_id(tmp_path):
    for split in SPLITS:
        coco_panoptic.write(tmp_path, split, worlds_of(split))
    bodies = [load(tmp_path / "annotations" / f"panoptic_{split}2017.json") for split in SPLITS]
    images = [{entry["id"] for entry in body["images"]} for body in bodies]
    segments = [{s["id"] for entry in body["annotations"] for s in entry["segments_info"]} for body in bodies]
    assert not images[0] & images[1]
    assert not segments[0] & segments[1]


def test_sa_1b_reads_back_as_the_worlds(tmp_path):
    worlds = worlds_of("train")
    sa_1b.write(tmp_path, "train", worlds)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == sorted(f"sa_{n}.{suffix}" for n in (1, 2, 3, 4) for suffix in ("jpg", "json"))
    for number, world in enumerate(worlds, start=1):
        body = load(tmp_path / f"sa_{number}.json")
        assert body["image"] == {
            "image_id": number,
            "width": 96,
            "height": 64,
            "file_name": f"sa_{number}.jpg",
        }
        assert_same_picture(tmp_path / body["image"]["file_name"], world.frames[0])
        found = set()
        for annotation in body["annotations"]:
            rle = annotation["segmentation"]
            mask = mask_of_counts(counts_of_text(rle["counts"]), rle["size"])
            (object_id,) = np.unique(world.ids[0][mask])
            found.add(object_id)
            assert np.array_equal(mask, world.ids[0] == object_id)
            assert annotation["area"] == mask.sum()
            assert_box(annotation["bbox"], mask)
            ((x, y),) = annotation["point_coords"]
            assert mask[int(y), int(x)]
            assert annotation["crop_box"] == [0, 0, 96, 64]
            assert {"predicted_iou", "stability_score", "id"} < set(annotation)
            assert "category_id" not in annotation
        assert found == set(np.unique(world.ids[0]))


def test_sa_1b_validation_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="only the split 'train', got 'val'"):
        sa_1b.write(tmp_path, "val", [])


@pytest.mark.parametrize("split", SPLITS)
def test_ytvis_2021_reads_back_as_the_worlds(tmp_path, split):
    worlds = worlds_of(split)
    ytvis_2021.write(tmp_path, split, worlds)
    folder = tmp_path / OFFICIAL_FOLDER[split]
    body = load(folder / "instances.json")
    assert [(c["id"], c["name"]) for c in body["categories"]] == list(enumerate(THING_NAMES, start=1))
    names = {category["id"]: category["name"] for category in body["categories"]}
    assert [a["id"] for a in body["annotations"]] == list(range(1, len(body["annotations"]) + 1))
    has_null = False
    for world, video in zip(worlds, body["videos"], strict=True):
        assert (video["length"], video["height"], video["width"]) == (8, 64, 96)
        assert video["file_names"] == [f"{world.video_id}/{5 * frame:05d}.jpg" for frame in range(8)]
        for name, frame in zip(video["file_names"], world.frames, strict=True):
            assert_same_picture(folder / "JPEGImages" / name, frame)
        tracks = [a for a in body["annotations"] if a["video_id"] == video["id"]]
        for thing, track in zip(world.things, tracks, strict=True):
            assert names[track["category_id"]] == thing.class_name
            lists = zip(track["segmentations"], track["bboxes"], track["areas"], strict=True)
            for ids, (rle, bbox, area) in zip(world.ids, lists, strict=True):
                mask = ids == thing.object_id
                if not mask.any():
                    assert (rle, bbox, area) == (None, None, None)
                    has_null = True
                    continue
                assert np.array_equal(mask_of_counts(rle["counts"], rle["size"]), mask)
                assert area == mask.sum()
                assert_box(bbox, mask)
    assert has_null


@pytest.mark.parametrize("split", SPLITS)
def test_vipseg_reads_back_as_the_worlds(tmp_path, split):
    worlds = worlds_of(split)
    vipseg.write(tmp_path, split, worlds)
    categories = load(tmp_path / "panoVIPSeg_categories.json")
    assert [category["id"] for category in categories] == list(range(len(CLASS_NAMES)))
    assert (tmp_path / f"{split}.txt").read_text() == "".join(f"{world.video_id}\n" for world in worlds)
    for world in worlds:
        masks = sorted((tmp_path / "panomasks" / world.video_id).iterdir())
        frames = sorted((tmp_path / "imgs" / world.video_id).iterdir())
        numbers = [int(path.stem) for path in masks]
        assert numbers == [int(path.stem) for path in frames]
        assert np.diff(numbers).tolist() == [3] * 7
        assert all(len(path.stem) == 8 for path in masks)
        owner_of: dict[int, set[int]] = {}
        for frame, (mask, picture) in enumerate(zip(masks, frames, strict=True)):
            assert_same_picture(picture, world.frames[frame])
            values = pixels(mask)
            assert mask.read_bytes()[24] == 16  # bit depth in the PNG header
            for value in np.unique(values):
                assert len(np.unique(world.ids[frame][values == value])) == 1
                owner_of.setdefault(int(value), set()).update(np.unique(world.ids[frame][values == value]))
        assert sorted(owner_of.values(), key=min) == [{entry.object_id} for entry in world.objects]
        for value, (object_id,) in owner_of.items():
            entry = world.objects[object_id - 1]
            category = categories[(value // 100 if value >= 125 else value) - 1]
            assert (category["name"], bool(category["isthing"])) == (entry.class_name, entry.is_thing)
            assert (value >= 125) == entry.is_thing


@pytest.mark.parametrize("split", SPLITS)
def test_vspw_reads_back_as_the_worlds(tmp_path, split):
    worlds = worlds_of(split)
    vspw.write(tmp_path, split, worlds)
    names = {int(number): name for name, number in load(tmp_path / "label_num_dic_final.json").items()}
    assert sorted(names) == list(range(len(CLASS_NAMES) + 1))
    assert names[0] == "others"
    assert (tmp_path / f"{split}.txt").read_text().split() == [world.video_id for world in worlds]
    for world in worlds:
        folder = tmp_path / "data" / world.video_id
        masks, frames = sorted((folder / "mask").iterdir()), sorted((folder / "origin").iterdir())
        assert [path.stem for path in masks] == [path.stem for path in frames]
        for frame, (mask, picture) in enumerate(zip(masks, frames, strict=True)):
            assert_same_picture(picture, world.frames[frame])
            values = pixels(mask)
            assert values.dtype == np.uint8
            classes = np.array([0] + [entry.class_index for entry in world.objects])[world.ids[frame]]
            for value in np.unique(values):
                assert np.array_equal(values == value, classes == CLASS_NAMES.index(names[int(value)]))


@pytest.mark.parametrize("split", SPLITS)
def test_refytvos_reads_back_as_the_worlds(tmp_path, split):
    worlds = worlds_of(split)
    refytvos.write(tmp_path, split, worlds)
    folder = tmp_path / OFFICIAL_FOLDER[split]
    expressions = load(tmp_path / "meta_expressions" / OFFICIAL_FOLDER[split] / "meta_expressions.json")
    meta = load(folder / "meta.json")["videos"]
    assert list(expressions["videos"]) == [world.video_id for world in worlds]
    for world in worlds:
        entry, objects = expressions["videos"][world.video_id], meta[world.video_id]["objects"]
        assert entry["frames"] == [f"{5 * frame:05d}" for frame in range(8)]
        for frame, name in enumerate(entry["frames"]):
            assert_same_picture(folder / "JPEGImages" / world.video_id / f"{name}.jpg", world.frames[frame])
            ids = pixels(folder / "Annotations" / world.video_id / f"{name}.png")
            for thing in world.things:
                assert np.array_equal(ids == thing.object_id, world.ids[frame] == thing.object_id)
            assert set(np.unique(ids)) <= {0, *(thing.object_id for thing in world.things)}
            shown = {number for number, value in objects.items() if name in value["frames"]}
            assert shown == {str(value) for value in np.unique(ids) if value}
        assert {n: v["category"] for n, v in objects.items()} == {
            str(thing.object_id): thing.class_name for thing in world.things
        }
        said = [(value["exp"], int(value["obj_id"])) for value in entry["expressions"].values()]
        assert said == [(text, thing.object_id) for thing in world.things for text in thing.expressions]
        assert list(entry["expressions"]) == [str(number) for number in range(len(said))]


@pytest.mark.parametrize("split", SPLITS)
def test_davis_2017_reads_back_as_the_objects_of_the_first_frame(tmp_path, split):
    worlds = worlds_of(split)
    davis_2017.write(tmp_path, split, worlds)
    listed = (tmp_path / "ImageSets" / "2017" / f"{split}.txt").read_text().split()
    assert listed == [world.video_id for world in worlds]
    left_out = 0
    for world in worlds:
        first = [t.object_id for t in world.things if (world.ids[0] == t.object_id).sum() >= 16]
        left_out += len(world.things) - len(first)
        for frame in range(8):
            name = f"480p/{world.video_id}/{frame:05d}"
            assert_same_picture(tmp_path / "JPEGImages" / f"{name}.jpg", world.frames[frame])
            ids = pixels(tmp_path / "Annotations" / f"{name}.png")
            expected = np.zeros_like(ids)
            for number, object_id in enumerate(first, start=1):
                expected[world.ids[frame] == object_id] = number
            assert np.array_equal(ids, expected)
    assert left_out > 0


def test_palette_png_keeps_ids_and_has_the_official_first_colors(tmp_path):
    ids = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_palette_png(tmp_path / "ids.png", ids)
    with Image.open(tmp_path / "ids.png") as image:
        assert image.mode == "P"
        assert np.array_equal(np.array(image), ids)
        colors = np.array(image.getpalette()).reshape(-1, 3)
    # bear and blackswan of DAVIS 2017: black, maroon, green, olive, navy, purple, teal, gray
    expected = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 128, 0], [0, 0, 128], [128, 0, 128], [0, 128, 128]]
    assert colors[:7].tolist() == expected
    assert colors[8].tolist() == [64, 0, 0]
    assert len({tuple(color) for color in colors}) == 256


@pytest.mark.skipif("UNIVS_SAMPLES_DIR" not in os.environ, reason="needs UNIVS_SAMPLES_DIR: real samples")
def test_palette_equals_the_one_davis_ships(tmp_path):
    real = Path(os.environ["UNIVS_SAMPLES_DIR"]) / "davis2017/DAVIS/Annotations/480p/bear/00000.png"
    write_palette_png(tmp_path / "ids.png", np.zeros((2, 2), dtype=np.uint8))
    with Image.open(real) as theirs, Image.open(tmp_path / "ids.png") as ours:
        assert ours.mode == theirs.mode
        assert ours.getpalette() == theirs.getpalette()


def test_run_lengths_of_hand_made_mask():
    mask = np.array([[1, 0, 0], [1, 1, 0]], dtype=bool)
    assert uncompressed_rle(mask) == {"size": [2, 3], "counts": [0, 2, 1, 1, 2]}
    assert uncompressed_rle(~mask)["counts"] == [2, 1, 1, 2]
    assert uncompressed_rle(np.zeros((2, 3), dtype=bool))["counts"] == [6]
    assert counts_of_text(compressed_rle(mask)["counts"]) == [0, 2, 1, 1, 2]
    assert box(mask) == [0, 0, 2, 2]
    assert box(~mask) == [1, 0, 2, 2]
