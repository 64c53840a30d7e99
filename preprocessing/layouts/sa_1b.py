"""SA-1B: ``sa_<N>.jpg`` and ``sa_<N>.json`` side by side, masks without classes, one split only.

- The JSON holds ``image`` {image_id, width, height, file_name} and ``annotations``, each with ``id``,
  ``segmentation`` (compressed RLE), ``bbox`` [x, y, w, h] as floats, ``area``, ``predicted_iou``,
  ``stability_score``, ``crop_box`` and ``point_coords`` [[x, y]] (dataset card of Segment Anything).
- The quality scores are 1: the masks are exact.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.layouts.encoding import box, compressed_rle, write_jpeg, write_json
from preprocessing.worlds import Split, World


def write(root: Path, split: Split, worlds: Iterable[World]) -> None:
    """Write the first frame of every world as an image with all its regions.

    Raises:
        ValueError: the split is not ``train``.
    """
    if split != "train":
        raise ValueError(f"sa_1b has only the split 'train', got {split!r}")
    for position, world in enumerate(worlds):
        image_id = position + 1
        file_name = f"sa_{image_id}.jpg"
        height, width = world.ids[0].shape
        image = {"image_id": image_id, "width": width, "height": height, "file_name": file_name}
        write_jpeg(root / file_name, world.frames[0])
        write_json(
            root / f"sa_{image_id}.json", {"image": image, "annotations": _annotations(image_id, world)}
        )


def _annotations(image_id: int, world: World) -> list[dict[str, Any]]:
    masks = ((entry.object_id, world.ids[0] == entry.object_id) for entry in world.objects)
    return [_annotation(image_id * 1000 + object_id, mask) for object_id, mask in masks if mask.any()]


def _annotation(annotation_id: int, mask: NDArray[np.bool_]) -> dict[str, Any]:
    height, width = mask.shape
    return {
        "bbox": [float(value) for value in box(mask)],
        "area": int(mask.sum()),
        "segmentation": compressed_rle(mask),
        "predicted_iou": 1.0,
        "point_coords": [_inner_point(mask)],
        "crop_box": [0.0, 0.0, float(width), float(height)],
        "id": annotation_id,
        "stability_score": 1.0,
    }


def _inner_point(mask: NDArray[np.bool_]) -> list[float]:
    """Give the (x, y) of the pixel farthest from the outline."""
    depth = cv2.distanceTransform(np.pad(mask, 1).astype(np.uint8), cv2.DIST_L2, 3)[1:-1, 1:-1]
    y, x = np.unravel_index(int(np.argmax(depth)), mask.shape)
    return [float(x), float(y)]
