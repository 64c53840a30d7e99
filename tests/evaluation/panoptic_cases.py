"""Small drawn videos and images, written as panoptic and semantic benchmarks store them."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from univs.evaluation.official.case import ScoreOptions
from univs.evaluation.official.catalog import OFFICIAL, open_case

CATEGORIES = tuple({"id": c, "name": f"c{c}", "isthing": int(c % 2)} for c in (1, 4, 5, 8, 9))
"""Odd ones are things."""


@dataclass(frozen=True, kw_only=True)
class Panoptic:
    """One side of one video (or image)."""

    maps: np.ndarray
    """[T, H, W] ids."""
    classes: tuple[dict[int, int], ...]
    """Per frame, the category of each listed id."""
    crowds: frozenset[int] = field(default_factory=frozenset)


def listed(maps, classes, crowds=()):
    """List in every frame what it shows."""
    frames = tuple({n: classes[n] for n in np.unique(frame).tolist() if n in classes} for frame in maps)
    return Panoptic(maps=np.asarray(maps), classes=frames, crowds=frozenset(crowds))


def draw(seed, ids, num_frames=9, noise=0.0, ids_of=None):
    """Draw blocks of ids that change over time; ``noise`` is the share of blocks with another id.

    ``ids_of`` renames them.
    """
    rng = np.random.default_rng(seed)
    blocks = rng.choice(ids, (4, 6))
    frames = []
    for _ in range(num_frames):
        blocks = np.where(rng.random(blocks.shape) < 0.1, rng.choice(ids, blocks.shape), blocks)
        frames.append(blocks)
    errors = np.random.default_rng(seed + 1000)
    wrong = [np.where(errors.random(f.shape) < noise, errors.choice(ids, f.shape), f) for f in frames]
    maps = np.kron(np.stack(wrong), np.ones((1, 4, 3), int))
    return maps if ids_of is None else np.vectorize(ids_of.get)(maps)


def write_ids(path, ids):
    """Write [H, W] ids as colors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colors = np.stack((ids % 256, ids // 256 % 256, ids // 65536), axis=-1)
    Image.fromarray(colors.astype(np.uint8)).save(path)


def write_labels(path, labels, mode="L"):
    """Write [H, W] labels as a gray or indexed PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.asarray(labels, np.uint8))
    if mode == "P":
        image.putpalette([n % 256 for n in range(768)])
    image.save(path)


def rows_of(side):
    """Give the ``segments_info`` row of every frame."""
    return [
        {
            "file_name": f"{t:08d}.png",
            "segments_info": [
                {
                    "id": n,
                    "category_id": category,
                    "iscrowd": int(n in side.crowds),
                    "area": int((side.maps[t] == n).sum()),
                }
                for n, category in classes.items()
            ],
        }
        for t, classes in enumerate(side.classes)
    ]


def write_vipseg(folder, videos, *, is_truth):
    """Write one side of VIPSeg; ``videos`` are sides by name."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"video_id": name, "annotations": rows_of(side)} for name, side in videos.items()]
    body = {"annotations": rows} | ({"categories": CATEGORIES} if is_truth else {})
    name = "panoptic_gt_VIPSeg_val.json" if is_truth else "pred.json"
    (folder / name).write_text(json.dumps(body))
    for video, side in videos.items():
        for t, ids in enumerate(side.maps):
            write_ids(folder / ("panomasksRGB" if is_truth else "pan_pred") / video / f"{t:08d}.png", ids)


def write_coco(folder, images, *, is_truth, stem):
    """Write one side of COCO panoptic; ``images`` are sides of one frame by image id."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        rows_of(side)[0] | {"image_id": number, "file_name": f"{number}.png"}
        for number, side in images.items()
    ]
    body = {"annotations": rows} | ({"categories": CATEGORIES} if is_truth else {})
    (folder / f"{stem}.json").write_text(json.dumps(body))
    for number, side in images.items():
        write_ids(folder / stem / f"{number}.png", side.maps[0])


def write_vspw(gt, pred, videos):
    """Write VSPW; ``videos`` are pairs of true and predicted values [T, H, W] by name."""
    gt.mkdir(parents=True, exist_ok=True)
    pred.mkdir(parents=True, exist_ok=True)
    (gt / "val.txt").write_text("".join(f"{name}\n" for name in videos))
    for name, (true, predicted) in videos.items():
        for t, values in enumerate(true):
            write_labels(gt / "data" / name / "mask" / f"{t:08d}.png", values)
        for t, values in enumerate(predicted):
            write_labels(pred / name / f"{t:08d}.png", values)


def open_files(name, root: Path, *mends, missing="refuse"):
    """Open ``gt`` and ``pred`` below a folder."""
    options = ScoreOptions(mends=mends, missing=missing)
    return open_case(OFFICIAL[name], root / "gt", root / "pred", options)


def score_files(name, root: Path, *mends, missing="refuse"):
    """Open, compare and merge."""
    case = open_files(name, root, *mends, missing=missing)
    return case.score([case.compare(index) for index in range(len(case.names))])
