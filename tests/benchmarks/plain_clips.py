"""A clip made in the usual way, for comparison: whole records parsed, masks decoded by pycocotools, resized.

Needs numpy, OpenCV, pycocotools and torch only, so that it runs in the environments of other loaders, too.
"""

import json
import random
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from pycocotools import mask as coco_mask


@dataclass(frozen=True)
class PlainSpec:
    """What a clip looks like."""

    num_frames: int
    range_frames: int
    max_objects: int
    short_edge_px: int
    max_long_edge_px: int


def make_clip(meta: bytes, annotation: bytes, frames: list[bytes], spec: PlainSpec, draw: random.Random):
    """Give uint8 frames [T, h, w, 3] and bool masks [N, T, h, w] of a sample, mirrored every other time.

    Objects are capped before their masks are decoded, and an image is decoded once for all its frames: more
    than most loaders do.
    """
    record, objects = json.loads(meta), json.loads(annotation)["objects"]
    positions = choose(len(frames), spec, draw)
    chosen = draw.sample(objects, min(spec.max_objects, len(objects)))
    height, width = record["height"], record["width"]
    size = output_size(height, width, spec)
    is_flipped = draw.random() < 0.5
    images = {position: decode(frames[position]) for position in set(positions)}
    pixels = [resize(images[position], size, cv2.INTER_LINEAR, is_flipped) for position in positions]
    masks = np.zeros((len(chosen), len(positions), size[1], size[0]), dtype=bool)
    for row, track in enumerate(chosen):
        for time, position in enumerate(positions):
            counts = track["rles"][position]
            if counts is not None:
                mask = coco_mask.decode({"size": [height, width], "counts": counts})
                masks[row, time] = resize(mask, size, cv2.INTER_NEAREST, is_flipped)
    return torch.from_numpy(np.stack(pixels)), torch.from_numpy(masks)


def choose(num_stored: int, spec: PlainSpec, draw: random.Random) -> list[int]:
    """Draw the frames of a clip around a reference."""
    reference = draw.randrange(num_stored)
    near = [i for i in range(num_stored) if 0 < abs(i - reference) <= spec.range_frames]
    others = draw.sample(near, min(len(near), spec.num_frames - 1))
    return sorted([reference] * (spec.num_frames - len(others)) + others)


def output_size(height: int, width: int, spec: PlainSpec) -> tuple[int, int]:
    """Give width and height of the output."""
    scale = min(spec.short_edge_px / min(height, width), spec.max_long_edge_px / max(height, width))
    return round(width * scale), round(height * scale)


def decode(data: bytes) -> np.ndarray:
    """Decode to RGB."""
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def resize(image: np.ndarray, size: tuple[int, int], method: int, is_flipped: bool) -> np.ndarray:
    """Resize and perhaps mirror."""
    resized = cv2.resize(image, size, interpolation=method)
    return resized[:, ::-1].copy() if is_flipped else resized
