"""Writes small worlds of moving boxes, with predictions, in the official layouts of VOS benchmarks."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

BENCHMARKS = (
    "davis_2016",
    "davis_2017",
    "mose",
    "ytvos_2018",
    "ytvos_2019",
    "refdavis",
    "refytvos",
    "viposeg",
)
CATEGORIES = ("cat", "rope", "dog", "shovel")
SEEN = ("cat", "dog")
CLASSES = (2, 46, 0, 5)
"""A seen and an unseen thing, seen and unseen stuff."""
ANNOTATORS = 4


@dataclass(frozen=True, kw_only=True)
class World:
    """Label maps of videos; every object is there in frame 0."""

    truth: Mapping[str, NDArray[np.uint8]]
    """[T, H, W] by video."""
    prediction: Mapping[str, NDArray[np.uint8]]
    kinds: tuple[int, ...]
    """By object: its place in ``CATEGORIES`` and ``CLASSES``."""


def draw_world(
    rng: np.random.Generator, names: tuple[str, ...] = ("a", "b"), num_frames: int = 5, num_objects: int = 4
) -> World:
    """Draw boxes that wander; the prediction is the truth, shifted and with noise."""
    truth = {name: _draw(rng, num_frames, num_objects) for name in names}
    prediction = {
        name: np.where(
            rng.random(maps.shape) < 0.02,
            rng.integers(0, num_objects + 1, maps.shape),
            np.roll(maps, rng.integers(-2, 3), axis=2),
        ).astype(np.uint8)
        for name, maps in truth.items()
    }
    return World(truth=truth, prediction=prediction, kinds=tuple(range(num_objects)))


def _draw(rng: np.random.Generator, num_frames: int, num_objects: int) -> NDArray[np.uint8]:
    maps = np.zeros((num_frames, 24, 48), np.uint8)
    for n in range(num_objects):
        top, left = rng.integers(0, 14), 12 * n
        for t in range(num_frames):
            top = int(np.clip(top + rng.integers(-2, 3), 0, 16))
            if t == 0 or rng.random() < 0.8:
                maps[t, top : top + 8, left : left + 9] = n + 1
    return maps


def write_case(root: Path, benchmark: str, world: World) -> tuple[Path, Path]:
    """Write ground truth and predictions; give both folders."""
    gt, pred = root / "gt", root / "pred"
    writer = {"davis": _write_davis, "ytvos": _write_ytvos}.get(benchmark.split("_")[0])
    if writer is None:
        writer = {"mose": _write_mose, "refdavis": _write_refdavis, "refytvos": _write_refytvos}.get(
            benchmark
        )
    (writer or _write_viposeg)(gt, pred, world)
    return gt, pred


def stem(frame_index: int) -> str:
    """Name a frame."""
    return f"{frame_index:05d}"


def write_map(path: Path, labels: NDArray[np.uint8]) -> None:
    """Write an indexed PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels)
    image.putpalette([value for i in range(256) for value in (i, 255 - i, i // 2)])
    image.save(path)


def _write_tree(folder: Path, videos: Mapping[str, NDArray[np.uint8]]) -> None:
    for name, maps in videos.items():
        for t, labels in enumerate(maps):
            write_map(folder / name / f"{stem(t)}.png", labels)


def _write_json(path: Path, body: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body))


def _write_lists(gt: Path, world: World) -> None:
    for year in (2016, 2017):
        path = gt / f"DAVIS/ImageSets/{year}/val.txt"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(world.truth) + "\n")


def _write_davis(gt: Path, pred: Path, world: World) -> None:
    _write_lists(gt, world)
    _write_tree(gt / "DAVIS/Annotations/480p", world.truth)
    _write_tree(pred, world.prediction)


def _write_refdavis(gt: Path, pred: Path, world: World) -> None:
    _write_lists(gt, world)
    _write_tree(gt / "DAVIS/Annotations_unsupervised/480p", world.truth)
    for annotator in range(ANNOTATORS):
        _write_tree(pred / f"anno_{annotator}", world.prediction)


def _write_mose(gt: Path, pred: Path, world: World) -> None:
    _write_tree(gt / "Annotations", world.truth)
    _write_tree(pred, world.prediction)


def _write_ytvos(gt: Path, pred: Path, world: World) -> None:
    _write_tree(gt / "Annotations_all", world.truth)
    _write_tree(gt / "valid/Annotations", {name: maps[:1] for name, maps in world.truth.items()})
    videos = {}
    for name, maps in world.truth.items():
        stems = [stem(t) for t in range(len(maps))]
        videos[name] = {
            "objects": {
                str(n + 1): {"category": CATEGORIES[kind], "frames": stems}
                for n, kind in enumerate(world.kinds)
            }
        }
    _write_json(gt / "valid/meta.json", {"videos": videos})
    split = {"seen": SEEN, "unseen": [name for name in CATEGORIES if name not in SEEN]}
    _write_json(gt / "category_split.json", split)
    _write_tree(pred / "Annotations", world.prediction)


def _write_refytvos(gt: Path, pred: Path, world: World) -> None:
    _write_tree(gt / "Annotations", world.truth)
    videos, objects = {}, {}
    for name, maps in world.truth.items():
        ids = [str(n + 1) for n in range(len(world.kinds))]
        videos[name] = {
            "expressions": {f"e{i}": {"exp": f"object {i}"} for i in ids},
            "frames": [stem(t) for t in range(len(maps))],
        }
        objects[name] = {f"e{i}": i for i in ids}
        for i in ids:
            masks = np.where(world.prediction[name] == int(i), 255, 0).astype(np.uint8)
            _write_tree(pred / "Annotations" / name, {f"e{i}": masks})
    _write_json(gt / "meta_expressions/valid/meta_expressions.json", {"videos": videos})
    _write_json(gt / "expression_to_object.json", objects)


def _write_viposeg(gt: Path, pred: Path, world: World) -> None:
    _write_tree(gt / "valid/Annotations_gt", world.truth)
    _write_tree(gt / "valid/Annotations", {name: maps[:1] for name, maps in world.truth.items()})
    classes = {str(n + 1): str(CLASSES[kind]) for n, kind in enumerate(world.kinds)}
    _write_json(gt / "valid/obj_class.json", dict.fromkeys(world.truth, classes))
    _write_tree(pred / "Annotations", world.prediction)
