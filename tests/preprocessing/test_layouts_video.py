"""Layouts of the video datasets, read back with plain code of this file and compared with their worlds."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from preprocessing.layouts import burst, davis_2016, mose, ovis, refdavis, ytvis_2019, ytvis_2022, ytvos
from preprocessing.worlds import THING_NAMES, World, WorldConfig, render_world

CONFIG = WorldConfig(height=64, width=96, num_frames=8, min_objects=3, visitor_rate=1.0)
SPLITS = ["train", "val"]
OFFICIAL_FOLDER = {"train": "train", "val": "valid"}


@pytest.fixture(params=SPLITS)
def split(request):
    return request.param


@pytest.fixture
def worlds(split):
    return [render_world(CONFIG, split, index, 47) for index in range(3)]


def load(path: Path):
    return json.loads(path.read_text())


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def decode(rle, shape):
    if isinstance(rle["counts"], list):
        rle = coco_mask.frPyObjects(rle, *shape)
    return coco_mask.decode(rle).astype(bool)


def assert_same_picture(path: Path, frame: np.ndarray) -> None:
    """JPEG of high quality: close, and not shifted or of another frame."""
    assert np.abs(pixels(path).astype(int) - frame).mean() < 4


def first_ids(world: World) -> np.ndarray:
    """Number the things with 16 pixels or more in frame 0, by their order."""
    ids = np.zeros(len(world.objects) + 1, dtype=int)
    given = [t.object_id for t in world.things if (world.ids[0] == t.object_id).sum() >= 16]
    ids[given] = np.arange(1, len(given) + 1)
    return ids


def assert_tracks(body, worlds, images, frame_name):
    names = {category["id"]: category["name"] for category in body["categories"]}
    for world, video in zip(worlds, body["videos"], strict=True):
        assert video["file_names"] == [f"{world.video_id}/{frame_name(frame)}" for frame in range(8)]
        for name, frame in zip(video["file_names"], world.frames, strict=True):
            assert_same_picture(images / name, frame)
        tracks = [a for a in body["annotations"] if a["video_id"] == video["id"]]
        for thing, track in zip(world.things, tracks, strict=True):
            assert names[track["category_id"]] == thing.class_name
            for ids, rle in zip(world.ids, track["segmentations"], strict=True):
                mask = ids == thing.object_id
                assert (rle is None) == (not mask.any())
                if rle is not None:
                    assert np.array_equal(decode(rle, mask.shape), mask)


def test_ytvis_2019_has_ids_of_its_own_and_lists_beside_the_folders(tmp_path, split, worlds):
    ytvis_2019.write(tmp_path, split, worlds)
    folder = OFFICIAL_FOLDER[split]
    body = load(tmp_path / f"{folder}.json")
    assert [c["name"] for c in body["categories"]] == sorted(THING_NAMES) != list(THING_NAMES)
    assert_tracks(body, worlds, tmp_path / folder / "JPEGImages", lambda frame: f"{5 * frame:05d}.jpg")


@pytest.mark.parametrize("split", ["val"], indirect=True)
def test_ytvis_2022_is_a_validation_set_of_2021(tmp_path, split, worlds):
    ytvis_2022.write(tmp_path, split, worlds)
    body = load(tmp_path / "valid/instances.json")
    assert [c["name"] for c in body["categories"]] == list(THING_NAMES)
    assert_tracks(body, worlds, tmp_path / "valid/JPEGImages", lambda frame: f"{5 * frame:05d}.jpg")
    with pytest.raises(ValueError, match="only the split 'val', got 'train'"):
        ytvis_2022.write(tmp_path, "train", [])


def test_ovis_numbers_frames_from_one_and_tells_occlusion(tmp_path, split, worlds):
    ovis.write(tmp_path, split, worlds)
    folder = OFFICIAL_FOLDER[split]
    body = load(tmp_path / f"annotations_{folder}.json")
    assert_tracks(body, worlds, tmp_path / folder, lambda frame: f"img_{frame + 1:07d}.jpg")
    levels = Counter()
    for track in body["annotations"]:
        assert all(isinstance(rle["counts"], str) for rle in track["segmentations"] if rle)
        areas = [area or 0 for area in track["areas"]]
        for level, area in zip(track["occlusion"], areas, strict=True):
            fraction = area / max(areas)
            expected = "severe" if fraction < 0.5 else "slight" if fraction < 0.9 else "no"
            assert level == (f"{expected}_occlusion" if area else None)
            levels[level] += 1
    assert set(levels) == {"no_occlusion", "slight_occlusion", "severe_occlusion", None}


def test_ytvos_reads_back_as_the_worlds(tmp_path, split, worlds):
    ytvos.write(tmp_path, split, worlds)
    folder = tmp_path / OFFICIAL_FOLDER[split]
    meta = load(folder / "meta.json")["videos"]
    assert list(meta) == [world.video_id for world in worlds]
    for world in worlds:
        objects = meta[world.video_id]["objects"]
        assert {int(n): v["category"] for n, v in objects.items()} == {
            thing.object_id: thing.class_name for thing in world.things
        }
        for frame, (picture, ids) in enumerate(zip(world.frames, world.ids, strict=True)):
            name = f"{5 * frame:05d}"
            assert_same_picture(folder / "JPEGImages" / world.video_id / f"{name}.jpg", picture)
            labels = pixels(folder / "Annotations" / world.video_id / f"{name}.png")
            assert np.array_equal(labels, np.where(ids <= len(world.things), ids, 0))
            shown = {int(number) for number, value in objects.items() if name in value["frames"]}
            assert shown == set(np.unique(labels)) - {0}


def test_mose_reads_back_as_the_objects_of_the_first_frame(tmp_path, split, worlds):
    mose.write(tmp_path, split, worlds)
    folder = tmp_path / OFFICIAL_FOLDER[split]
    assert sorted(path.name for path in folder.iterdir()) == ["Annotations", "JPEGImages"]
    for world in worlds:
        for frame, (picture, ids) in enumerate(zip(world.frames, world.ids, strict=True)):
            assert_same_picture(folder / f"JPEGImages/{world.video_id}/{frame:05d}.jpg", picture)
            labels = pixels(folder / f"Annotations/{world.video_id}/{frame:05d}.png")
            assert np.array_equal(labels, 2 * first_ids(world)[ids])


def test_davis_2016_is_one_object_and_lists_pairs(tmp_path, split, worlds):
    davis_2016.write(tmp_path, split, worlds)
    lines = (tmp_path / f"ImageSets/480p/{split}.txt").read_text().splitlines()
    assert len(lines) == 8 * len(worlds)
    pairs = iter(lines)
    for world in worlds:
        for picture, ids in zip(world.frames, world.ids, strict=True):
            image, label = (tmp_path / path.lstrip("/") for path in next(pairs).split())
            assert_same_picture(image, picture)
            assert np.array_equal(pixels(label), np.where(first_ids(world)[ids] > 0, 255, 0))


def test_refdavis_lines_name_the_objects_of_the_masks(tmp_path):
    worlds = {split: [render_world(CONFIG, split, index, 47) for index in range(3)] for split in SPLITS}
    for split in SPLITS:
        refdavis.write(tmp_path, split, worlds[split])
    texts = {
        path.name: path.read_text().splitlines() for path in (tmp_path / "davis_text_annotations").iterdir()
    }
    assert len(texts) == 4
    by_id = {world.video_id: world for split in SPLITS for world in worlds[split]}
    for file, lines in texts.items():
        said = set()
        for line in lines:
            name, number, text = line.split(" ", 2)
            world = by_id[name]
            (object_id,) = np.flatnonzero(first_ids(world) == int(number))
            expressions = world.things[object_id - 1].expressions
            assert text.strip('"') == expressions[-1 if "annot2" in file else 0]
            said.add((name, object_id))
        assert said == {
            (world.video_id, thing.object_id)
            for world in by_id.values()
            for thing in world.things
            if thing.expressions and first_ids(world)[thing.object_id]
        }
    assert any(texts["Davis17_annot1.txt"][i] != line for i, line in enumerate(texts["Davis17_annot2.txt"]))


def test_burst_reads_back_as_the_worlds(tmp_path, split, worlds):
    burst.write(tmp_path, split, worlds)
    body = load(tmp_path / f"annotations/{split}/all_classes.json")
    names = {category["id"]: category["name"] for category in body["categories"]}
    assert (body["split"], sorted(names.values())) == (split, sorted(THING_NAMES))
    step = 2 if split == "val" else 1
    for world, sequence in zip(worlds, body["sequences"], strict=True):
        folder = tmp_path / "frames" / split / sequence["dataset"] / world.video_id
        for name, picture in zip(sequence["all_image_paths"], world.frames, strict=True):
            assert_same_picture(folder / name, picture)
        assert sequence["annotated_image_paths"] == sequence["all_image_paths"][::step]
        tracks = {int(track): names[c] for track, c in sequence["track_category_ids"].items()}
        for ids, masks in zip(world.ids[::step], sequence["segmentations"], strict=True):
            shown = {thing.object_id for thing in world.things if (ids == thing.object_id).any()}
            assert {int(track) for track in masks} == shown <= tracks.keys()
            for track, mask in masks.items():
                rle = {"size": list(ids.shape), "counts": mask["rle"]}
                assert np.array_equal(decode(rle, ids.shape), ids == int(track))
                assert mask["is_gt"] or mask["score"] == 0.75
        assert all(world.things[track - 1].class_name == name for track, name in tracks.items())
        present = set(sequence["track_category_ids"].values())
        assert not present & set(sequence["neg_category_ids"])
        assert set(sequence["not_exhaustive_category_ids"]) <= present
    machine_made = [
        m for s in body["sequences"] for f in s["segmentations"] for m in f.values() if not m["is_gt"]
    ]
    assert bool(machine_made) == (split == "train")


@pytest.mark.parametrize("split", ["val"], indirect=True)
def test_burst_first_frame_annotations_are_each_tracks_first_mask(tmp_path, split, worlds):
    burst.write(tmp_path, split, worlds)
    folder = tmp_path / "annotations/val"
    full, first = (
        load(folder / f"{name}.json")["sequences"] for name in ("all_classes", "first_frame_annotations")
    )
    for world, whole, given in zip(worlds, full, first, strict=True):
        seen = set()
        for ids, masks, kept in zip(
            world.ids[::2], whole["segmentations"], given["segmentations"], strict=True
        ):
            assert kept.keys() == masks.keys() - seen
            seen |= masks.keys()
            for track, body in kept.items():
                mask = ids == int(track)
                assert body["rle"] == masks[track]["rle"]
                x, y = body["point"]
                assert mask[y, x]
                x, y, width, height = body["bbox"]
                assert mask[y : y + height, x : x + width].sum() == mask.sum()
                assert mask[y].any()
                assert mask[:, x + width - 1].any()
    assert not (tmp_path / "annotations/train").exists()
