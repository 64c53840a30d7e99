"""Make one case for all metrics: objects that move before two halves of background, predicted a little off.

Folders ``vipseg``, ``vspw``, ``davis``, ``viposeg`` and ``ytvis``, each with ground truth and predictions.
Everything is seeded.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from univs.draw import palette

CATEGORIES = [{"id": c, "name": f"c{c}", "isthing": int(c < 12), "color": [0, 0, 0]} for c in range(124)]
NUM_TRACK_CLASSES = 5
NUM_GUESSES = 10
"""Predicted tracks per object: one on it, and others with other objects' masks."""
VOID_ROWS = 20
LEFT, RIGHT, FIRST_OBJECT = 101, 102, 1000


@dataclass(frozen=True, kw_only=True)
class CaseSize:
    """How large a case is."""

    num_videos: int = 4
    num_frames: int = 20
    num_objects: int = 6
    height: int = 240
    width: int = 426


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One video: [T, H, W] object numbers, 0 for background, true and predicted."""

    name: str
    truth: np.ndarray
    prediction: np.ndarray
    classes: list[int]
    """Of the objects."""


def write_case(root: Path, size: CaseSize, seed: int = 7) -> None:
    """Write all layouts."""
    rng = np.random.default_rng(seed)
    scenes = [_draw(f"v{v:03d}", size, rng) for v in range(size.num_videos)]
    names = "".join(f"{scene.name}\n" for scene in scenes)
    for path in (root / "davis/gt/ImageSets/2017/val.txt", root / "vspw/gt/val.txt"):
        path.parent.mkdir(parents=True)
        path.write_text(names)
    for scene in scenes:
        _write_maps(root, scene)
    classes = {s.name: {str(n + 1): str(c) for n, c in enumerate(s.classes)} for s in scenes}
    _dump(root / "viposeg/gt/obj_class.json", classes)
    (root / "viposeg/gt/Annotations_gt").symlink_to((root / "davis/gt/Annotations/480p").resolve())
    _write_vipseg(root / "vipseg", scenes)
    _write_tracks(root / "ytvis", scenes, rng)


def _draw(name: str, size: CaseSize, rng: np.random.Generator) -> Scene:
    shape = (size.num_frames, size.height, size.width)
    maps, shifted = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    for number in range(1, size.num_objects + 1):
        at, step = rng.uniform(0.2, 0.8, 2) * shape[1:], rng.normal(0, 1.5, 2)
        axes = (rng.uniform(0.06, 0.16, 2) * size.height).astype(int).tolist()
        for t in range(size.num_frames):
            y, x = (at + t * step).astype(int).tolist()
            dy, dx = rng.integers(-3, 4, 2).tolist()
            cv2.ellipse(maps[t], (x, y), axes, 4 * t, 0, 360, number, -1)
            cv2.ellipse(shifted[t], (x + dx, y + dy), axes, 4 * t, 0, 360, number, -1)
    return Scene(
        name=name, truth=maps, prediction=shifted, classes=rng.integers(0, 12, size.num_objects).tolist()
    )


def _write_maps(root: Path, scene: Scene) -> None:
    for t, (true, found) in enumerate(zip(scene.truth, scene.prediction, strict=True)):
        _save_palette(root / f"davis/gt/Annotations/480p/{scene.name}/{t:05d}.png", true)
        _save_palette(root / f"davis/pred/{scene.name}/{t:05d}.png", found)
        if t == 0:
            _save_palette(root / f"viposeg/gt/Annotations/{scene.name}/{t:05d}.png", true)
        for folder, ids, first in (
            ("vspw/gt/data/{}/mask", _segments(true, is_truth=True), 1),
            ("vspw/pred/{}", _segments(found, is_truth=False), 0),
        ):
            labels = np.zeros(true.shape, np.uint8)
            for number, category in _categories(scene).items():
                labels[ids == number] = category + first
            _save(root / folder.format(scene.name) / f"{t:08d}.png", Image.fromarray(labels))


def _write_vipseg(root: Path, scenes: list[Scene]) -> None:
    bodies = {True: [], False: []}
    for scene in scenes:
        for is_truth, maps, folder in (
            (True, scene.truth, "gt/panomasksRGB"),
            (False, scene.prediction, "pred/pan_pred"),
        ):
            frames = []
            for t, numbers in enumerate(maps):
                ids = _segments(numbers, is_truth=is_truth)
                colors = np.stack([ids & 255, ids >> 8 & 255, ids >> 16 & 255], -1).astype(np.uint8)
                _save(root / folder / scene.name / f"{t:08d}.png", Image.fromarray(colors))
                frames.append(_frame_row(t, ids, _categories(scene)))
            bodies[is_truth].append({"video_id": scene.name, "annotations": frames})
    videos = [{"video_id": s.name, "images": [_image_row(t, s) for t in range(len(s.truth))]} for s in scenes]
    body = {"videos": videos, "annotations": bodies[True], "categories": CATEGORIES}
    _dump(root / "gt/panoptic_gt.json", body)
    _dump(root / "pred/pred.json", {"annotations": bodies[False]})


def _frame_row(t: int, ids: np.ndarray, categories: dict[int, int]) -> dict[str, object]:
    values, areas = np.unique(ids, return_counts=True)
    infos = [
        {"id": value, "category_id": categories[value], "iscrowd": 0, "area": area}
        for value, area in zip(values.tolist(), areas.tolist(), strict=True)
        if value
    ]
    return {"image_id": f"{t:08d}", "file_name": f"{t:08d}.png", "segments_info": infos}


def _image_row(t: int, scene: Scene) -> dict[str, object]:
    height, width = scene.truth.shape[1:]
    return {"id": f"{t:08d}", "file_name": f"{t:08d}.png", "width": width, "height": height}


def _segments(numbers: np.ndarray, *, is_truth: bool) -> np.ndarray:
    """Number the segments of a frame: two halves, objects, and a strip of void in truth."""
    middle = numbers.shape[1] // 2 + (0 if is_truth else 3)
    ids = np.where(np.arange(numbers.shape[1]) < middle, LEFT, RIGHT) + np.zeros_like(numbers, np.int32)
    if is_truth:
        ids[:VOID_ROWS] = 0
    return np.where(numbers > 0, FIRST_OBJECT + numbers.astype(np.int32), ids)


def _categories(scene: Scene) -> dict[int, int]:
    objects = {FIRST_OBJECT + n + 1: category for n, category in enumerate(scene.classes)}
    return {LEFT: 20, RIGHT: 21, **objects}


def _write_tracks(root: Path, scenes: list[Scene], rng: np.random.Generator) -> None:
    annotations, results, videos = [], [], []
    for v, scene in enumerate(scenes, start=1):
        num_frames, height, width = scene.truth.shape
        names = [f"{scene.name}/{t:05d}.jpg" for t in range(num_frames)]
        videos.append({"id": v, "width": width, "height": height, "length": num_frames, "file_names": names})
        guesses = [_track(scene.prediction == n) for n in range(1, len(scene.classes) + 1)]
        for n, masks in enumerate(scene.truth == n for n in range(1, len(scene.classes) + 1)):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "video_id": v,
                    "category_id": n % NUM_TRACK_CLASSES + 1,
                    "iscrowd": 0,
                    "segmentations": [_runs(mask) if mask.any() else None for mask in masks],
                    "areas": [int(mask.sum()) or None for mask in masks],
                    "bboxes": [None] * num_frames,
                }
            )
            results.extend(
                {
                    "video_id": v,
                    "category_id": (n + int(k > 5) * int(rng.integers(5))) % NUM_TRACK_CLASSES + 1,
                    "score": float(rng.random()),
                    "segmentations": guesses[(n + k) % len(guesses)],
                }
                for k in range(NUM_GUESSES)
            )
    categories = [{"id": k + 1, "name": str(k)} for k in range(NUM_TRACK_CLASSES)]
    _dump(root / "gt.json", {"videos": videos, "annotations": annotations, "categories": categories})
    _dump(root / "results.json", results)


def _track(masks: np.ndarray) -> list[dict[str, object] | None]:
    return [_run_lengths(mask) if mask.any() else None for mask in masks]


def _runs(mask: np.ndarray) -> dict[str, object]:
    """Give lengths as a list, the form of the official ground truth."""
    pixels = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(pixels, prepend=False, append=pixels[-1]))
    return {"size": list(mask.shape), "counts": np.diff(edges, prepend=0, append=pixels.size).tolist()}


def _run_lengths(mask: np.ndarray) -> dict[str, object]:
    whole = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": whole["counts"].decode()}


def _save_palette(path: Path, numbers: np.ndarray) -> None:
    image = Image.fromarray(numbers)
    image.putpalette(palette().tobytes())
    _save(path, image)


def _save(path: Path, image: Image.Image) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


def _dump(path: Path, body: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body))
