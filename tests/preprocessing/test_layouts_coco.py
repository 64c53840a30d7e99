"""The layouts over COCO images, read back with plain code of this file and compared with their worlds."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import ndimage

from preprocessing.layouts import coco_instances, lvis, refcoco
from preprocessing.layouts.coco_json import outlines
from preprocessing.masks import decode_mask, rasterize_polygons
from preprocessing.worlds import THING_NAMES, WorldConfig, render_world

CONFIG = WorldConfig(height=48, width=64, num_frames=1, min_objects=3, twin_rate=0.8)
SPLITS = ["train", "val"]


def worlds_of(split):
    return [render_world(CONFIG, split, index, 31) for index in range(10)]


def filled(mask):
    return ndimage.binary_fill_holes(mask)


def inside(polygons, height, width):
    """Fill by crossing edges from every pixel center to the right, one polygon after the other."""
    y, x = np.mgrid[:height, :width] + 0.5
    total = np.zeros((height, width), dtype=bool)
    for polygon in polygons:
        points = np.reshape(polygon, (-1, 2))
        odd = np.zeros((height, width), dtype=bool)
        for (ax, ay), (bx, by) in zip(points, np.roll(points, -1, axis=0), strict=True):
            crosses = (ay > y) != (by > y)
            with np.errstate(divide="ignore", invalid="ignore"):
                odd ^= crosses & (x < ax + (y - ay) * (bx - ax) / (by - ay))
        total |= odd
    return total


def runs_to_mask(counts, size):
    flat = np.repeat(np.arange(len(counts)) % 2, counts).astype(bool)
    return flat.reshape(size[1], size[0]).T


def assert_same_picture(path: Path, frame):
    with Image.open(path) as image:
        assert np.abs(np.asarray(image).astype(int) - frame).mean() < 4


def assert_numbers(annotation, mask):
    x, y, width, height = annotation["bbox"]
    rows, columns = np.nonzero(mask)
    assert (x, y) == (columns.min(), rows.min())
    assert (x + width, y + height) == (columns.max() + 1, rows.max() + 1)
    assert annotation["area"] == mask.sum()


@settings(max_examples=200, deadline=None)
@given(mask=arrays(bool, st.tuples(st.integers(1, 7), st.integers(1, 7)), elements=st.booleans()))
def test_outlines_fill_to_the_mask_without_its_holes(mask):
    polygons = outlines(mask)
    np.testing.assert_array_equal(inside(polygons, *mask.shape), filled(mask))
    if mask.any():
        rle = rasterize_polygons(polygons, *mask.shape)
        np.testing.assert_array_equal(decode_mask(rle, *mask.shape), filled(mask))


def test_outline_of_a_square_has_its_four_corners():
    mask = np.zeros((5, 6), dtype=bool)
    mask[1:3, 2:5] = True
    (polygon,) = outlines(mask)
    assert sorted(zip(polygon[::2], polygon[1::2], strict=True)) == [(2, 1), (2, 3), (5, 1), (5, 3)]


@pytest.mark.parametrize("split", SPLITS)
def test_coco_instances_reads_back_as_the_worlds(tmp_path, split):
    worlds = worlds_of(split)
    coco_instances.write(tmp_path, split, worlds)
    body = json.loads((tmp_path / "annotations" / f"instances_{split}2017.json").read_text())
    names = {category["id"]: category["name"] for category in body["categories"]}
    assert list(names.values()) == list(THING_NAMES)
    ids = [annotation["id"] for annotation in body["annotations"]]
    assert len(set(ids)) == len(ids)
    num_groups = 0
    for world, image in zip(worlds, body["images"], strict=True):
        assert image["file_name"] == f"{image['id']:012d}.jpg"
        assert_same_picture(tmp_path / f"{split}2017" / image["file_name"], world.frames[0])
        left = {thing.object_id: thing.class_name for thing in world.things}
        for annotation in (entry for entry in body["annotations"] if entry["image_id"] == image["id"]):
            name = names[annotation["category_id"]]
            if annotation["iscrowd"]:
                mask = runs_to_mask(**annotation["segmentation"])
                members = [i for i, of in left.items() if of == name]
                np.testing.assert_array_equal(mask, np.isin(world.ids[0], members))
                assert len(members) > 1
                num_groups += 1
            else:
                drawn = inside(annotation["segmentation"], CONFIG.height, CONFIG.width)
                members = [
                    i
                    for i, of in left.items()
                    if of == name and np.array_equal(filled(world.ids[0] == i), drawn)
                ]
                mask = world.ids[0] == members[0]
                members = members[:1]
            assert_numbers(annotation, mask)
            for member in members:
                del left[member]
        assert not left
    assert num_groups


@pytest.mark.parametrize(("write", "name"), [(lvis.write_v1, "lvis_v1"), (lvis.write_v05, "lvis_v0.5")])
@pytest.mark.parametrize("split", SPLITS)
def test_lvis_reads_back_as_the_worlds(tmp_path, write, name, split):
    worlds = worlds_of(split)
    write(tmp_path, split, worlds)
    body = json.loads((tmp_path / f"{name}_{split}.json").read_text())
    names = {category["id"]: category["name"] for category in body["categories"]}
    folders, num_partial = set(), 0
    for world, image in zip(worlds, body["images"], strict=True):
        folder, file_name = image["coco_url"].split("/")[-2:]
        folders.add(folder)
        assert_same_picture(tmp_path / folder / file_name, world.frames[0])
        assert ("file_name" in image) == (name == "lvis_v0.5")
        own = [entry for entry in body["annotations"] if entry["image_id"] == image["id"]]
        found = [names[entry["category_id"]] for entry in own]
        there = [thing.class_name for thing in world.things]
        assert sorted(found) == sorted(set(there))
        assert not {names[i] for i in image["neg_category_ids"]} & set(there)
        partial = {names[i] for i in image["not_exhaustive_category_ids"]}
        assert partial == {of for of in there if there.count(of) > 1}
        num_partial += len(partial)
        for entry in own:
            assert "iscrowd" not in entry
            drawn = inside(entry["segmentation"], CONFIG.height, CONFIG.width)
            assert any(
                np.array_equal(filled(world.ids[0] == thing.object_id), drawn)
                for thing in world.things
                if thing.class_name == names[entry["category_id"]]
            )
    assert num_partial
    assert folders == ({"train2017"} if split == "train" else {"train2017", "val2017"})


@pytest.mark.parametrize(
    ("write", "folder", "partition"),
    [
        (refcoco.write_refcoco, "refcoco", "unc"),
        (refcoco.write_refcocoplus, "refcoco+", "unc"),
        (refcoco.write_refcocog, "refcocog", "umd"),
    ],
)
def test_refcoco_reads_back_as_the_worlds_of_both_splits(tmp_path, write, folder, partition):
    for split in SPLITS:
        write(tmp_path, split, worlds_of(split))
    body = json.loads((tmp_path / folder / "instances.json").read_text())
    content = (tmp_path / folder / f"refs({partition}).p").read_bytes()
    assert content[:2] == b"\x80\x02"  # the newest protocol that Python 2 reads
    refs = pickle.loads(content)
    assert [ref["ref_id"] for ref in refs] == list(range(len(refs)))
    sent_ids = [sent_id for ref in refs for sent_id in ref["sent_ids"]]
    assert sent_ids == list(range(len(sent_ids)))
    worlds = [(split, world) for split in SPLITS for world in worlds_of(split)]
    for (split, world), image in zip(worlds, body["images"], strict=True):
        assert_same_picture(tmp_path / "train2014" / image["file_name"], world.frames[0])
        own = [entry for entry in body["annotations"] if entry["image_id"] == image["id"]]
        for thing, entry in zip(world.things, own, strict=True):
            drawn = inside(entry["segmentation"], CONFIG.height, CONFIG.width)
            np.testing.assert_array_equal(drawn, filled(world.ids[0] == thing.object_id))
            said = [ref for ref in refs if ref["ann_id"] == entry["id"]]
            assert len(said) == bool(thing.expressions)
            for ref in said:
                assert (ref["split"], ref["image_id"]) == (split, image["id"])
                assert ref["category_id"] == entry["category_id"]
                assert tuple(s["sent"] for s in ref["sentences"]) == thing.expressions
                assert [s["sent_id"] for s in ref["sentences"]] == ref["sent_ids"]


def test_image_ids_of_the_miniatures_over_coco_differ(tmp_path):
    worlds = worlds_of("train")[:1]
    coco_instances.write(tmp_path, "train", worlds)
    lvis.write_v1(tmp_path, "train", worlds)
    lvis.write_v05(tmp_path, "train", worlds)
    refcoco.write_refcoco(tmp_path, "train", worlds)
    refcoco.write_refcocoplus(tmp_path, "train", worlds)
    refcoco.write_refcocog(tmp_path, "train", worlds)
    files = list(tmp_path.rglob("*.json"))
    ids = [json.loads(path.read_text())["images"][0]["id"] for path in files]
    assert len(set(ids)) == len(ids) == 6
