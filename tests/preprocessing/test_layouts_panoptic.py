"""EntitySeg, ADE20K, VIPSeg at 720p and VIPOSeg, read back with plain code and compared with their worlds."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from preprocessing.layouts import ade20k, entityseg, viposeg, vipseg, vipseg_720p
from preprocessing.worlds import CLASS_NAMES, THING_NAMES, WorldConfig, render_world

CONFIG = WorldConfig(height=64, width=96, num_frames=8, min_objects=3, visitor_rate=1.0)
SPLITS = ["train", "val"]
VALID = {"train": "train", "val": "valid"}


def worlds_of(split):
    return [render_world(CONFIG, split, index, 31) for index in range(4)]


def pixels(path):
    with Image.open(path) as image:
        return np.array(image)


def mode(path):
    with Image.open(path) as image:
        return image.format, image.mode


def assert_same_picture(path, frame):
    """JPEG of high quality: close, and not of another frame."""
    assert np.abs(pixels(path).astype(int) - frame).mean() < 4


@pytest.mark.parametrize("split", SPLITS)
def test_entityseg_reads_back_as_the_worlds(tmp_path, split):
    worlds = worlds_of(split)
    entityseg.write(tmp_path, split, worlds)
    file = tmp_path / f"annotations/entity_segmentation/entityv2_010203_entity_{split}.json"
    body = json.loads(file.read_text())
    categories = {row["id"]: (row["name"], row["type"]) for row in body["categories"]}
    assert categories == {0: ("unknown", "thing")} | {
        i: (name, "thing" if name in THING_NAMES else "stuff") for i, name in enumerate(CLASS_NAMES, start=1)
    }
    assert len({entry["id"] for entry in body["annotations"]}) == len(body["annotations"])
    for world, image in zip(worlds, body["images"], strict=True):
        assert image["file_name"] == f"entity_01_11580/{world.video_id}.jpg"
        assert (image["height"], image["width"]) == (64, 96)
        assert_same_picture(tmp_path / "images" / image["file_name"], world.frames[0])
        entries = [entry for entry in body["annotations"] if entry["image_id"] == image["id"]]
        covered = np.zeros((64, 96), dtype=int)
        for entry in entries:
            mask = coco_mask.decode(entry["segmentation"]).astype(bool)
            (object_id,) = np.unique(world.ids[0][mask])
            assert np.array_equal(mask, world.ids[0] == object_id)
            assert categories[entry["category_id"]][0] == world.objects[object_id - 1].class_name
            assert (entry["area"], entry["iscrowd"]) == (mask.sum(), 0)
            assert entry["bbox"] == coco_mask.toBbox(entry["segmentation"]).tolist()
            covered += mask
        assert np.array_equal(covered, np.ones_like(covered))


@pytest.mark.parametrize("split", SPLITS)
def test_ade20k_reads_back_as_the_worlds(tmp_path, split):
    worlds = worlds_of(split)
    ade20k.write(tmp_path, split, worlds)
    with (tmp_path / "objectInfo150.txt").open() as stream:
        names = {int(row["Idx"]): row["Name"] for row in csv.DictReader(stream, delimiter="\t")}
    rows = (tmp_path / "ade20k_instance_catid_mapping.txt").read_text().splitlines()
    class_of = {int(row.split()[0]): int(row.split()[1]) for row in rows[1:]}
    assert {names[number] for number in class_of.values()} == set(THING_NAMES)
    assert list(class_of.values()) == sorted(class_of.values())
    folder = {"train": "training", "val": "validation"}[split]
    for number, world in enumerate(worlds, start=1):
        name = f"{folder}/ADE_{split}_{number:08d}"
        assert_same_picture(tmp_path / f"images/{name}.jpg", world.frames[0])
        semantic = pixels(tmp_path / f"annotations/{name}.png")
        assert mode(tmp_path / f"annotations/{name}.png") == ("PNG", "L")
        red, green, blue = np.moveaxis(pixels(tmp_path / f"annotations_instance/{name}.png"), 2, 0)
        for entry in world.objects:
            mask = world.ids[0] == entry.object_id
            assert {names[value] for value in np.unique(semantic[mask])} <= {entry.class_name}
            instances = set(zip(red[mask].tolist(), green[mask].tolist(), strict=True))
            if not entry.is_thing:
                assert instances <= {(0, 0)}
            elif mask.any():
                ((instance_class, instance),) = instances
                assert names[class_of[instance_class]] == entry.class_name
                assert np.array_equal(green == instance, mask)
        assert not blue.any()


def test_ade20k_table_counts_the_images_of_both_splits(tmp_path):
    worlds = {split: worlds_of(split) for split in SPLITS}
    for split in SPLITS:
        ade20k.write(tmp_path, split, worlds[split])
    with (tmp_path / "objectInfo150.txt").open() as stream:
        rows = {row["Name"]: row for row in csv.DictReader(stream, delimiter="\t")}
    assert sorted(rows) == sorted(CLASS_NAMES)
    for name, row in rows.items():
        for split in SPLITS:
            shown = sum(
                any(
                    entry.class_name == name and (world.ids[0] == entry.object_id).any()
                    for entry in world.objects
                )
                for world in worlds[split]
            )
            assert int(row[split.capitalize()]) == shown
    assert sum(float(row["Ratio"]) for row in rows.values()) == pytest.approx(1, abs=0.001)


@pytest.mark.parametrize("split", SPLITS)
def test_vipseg_720p_holds_the_files_of_vipseg_in_its_own_folder(tmp_path, split):
    worlds = worlds_of(split)
    vipseg.write(tmp_path / "original", split, worlds)
    vipseg_720p.write(tmp_path / "scaled", split, worlds)
    names = {"VIPSeg_720P/images": "imgs", "VIPSeg_720P/panomasks": "panomasks"}

    def files(root):
        return {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}

    original = files(tmp_path / "original")
    for name, path in files(tmp_path / "scaled").items():
        folder = next((new for new in names if name.startswith(new)), None)
        other = name if folder is None else name.replace(folder, names[folder])
        assert path.read_bytes() == original.pop(other).read_bytes()
    assert original == {}


@pytest.mark.parametrize("split", SPLITS)
def test_viposeg_reads_back_as_the_worlds(tmp_path, split):
    worlds = worlds_of(split)
    viposeg.write(tmp_path, split, worlds)
    folder = tmp_path / VALID[split]
    classes = json.loads((folder / "obj_class.json").read_text())
    table = {row["id"]: row for row in json.loads((tmp_path / "panoVIPSeg_categories.json").read_text())}
    assert list(classes) == [world.video_id for world in worlds]
    for world in worlds:
        for entry in world.objects:
            category = table[classes[world.video_id][str(entry.object_id)]]
            assert (category["name"], bool(category["isthing"])) == (entry.class_name, entry.is_thing)
        frames = sorted((folder / "JPEGImages" / world.video_id).iterdir())
        full = folder / ("Annotations" if split == "train" else "Annotations_gt") / world.video_id
        masks = sorted(full.iterdir())
        assert [path.stem for path in frames] == [path.stem for path in masks]
        for picture, mask, frame, ids in zip(frames, masks, world.frames, world.ids, strict=True):
            assert_same_picture(picture, frame)
            assert mode(mask) == ("PNG", "P")
            assert np.array_equal(pixels(mask), ids)


def test_viposeg_valid_gives_each_object_once_in_its_first_frame(tmp_path):
    worlds = worlds_of("val")
    viposeg.write(tmp_path, "val", worlds)
    videos = json.loads((tmp_path / "valid/meta.json").read_text())["videos"]
    late = 0
    for world in worlds:
        objects = videos[world.video_id]["objects"]
        stems = [path.stem for path in sorted((tmp_path / "valid/JPEGImages" / world.video_id).iterdir())]
        given = {}
        for path in sorted((tmp_path / "valid/Annotations" / world.video_id).iterdir()):
            image, ids = pixels(path), world.ids[stems.index(path.stem)]
            for value in np.unique(image[image > 0]).tolist():
                assert value not in given
                given[value] = path.stem
                assert np.array_equal(image == value, ids == value)
        for entry in world.objects:
            seen = [
                stem for stem, ids in zip(stems, world.ids, strict=True) if (ids == entry.object_id).any()
            ]
            assert objects[str(entry.object_id)] == {"frames": seen}
            assert given[entry.object_id] == seen[0]
            late += seen[0] != stems[0]
    assert late
