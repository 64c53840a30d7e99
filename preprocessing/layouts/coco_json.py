"""What the layouts over COCO images share: image entries, and things outlined by polygons.

- ``images`` {id, file_name, height, width, license, coco_url, date_captured, flickr_url} and ``licenses``
  {id, name, url}; ``annotations`` {id, image_id, category_id, iscrowd, area, bbox, segmentation} with areas
  and boxes as numbers with a fraction.
- A polygon runs along the edges between pixels, so filling it gives the pixels back; like COCO's it has no
  holes, so what lies inside a thing is covered by its mask too.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.layouts.coco_panoptic import CATEGORY_IDS
from preprocessing.layouts.encoding import box, uncompressed_rle
from preprocessing.worlds import THING_NAMES, World, WorldObject

LICENSES = [
    {"url": "https://www.apache.org/licenses/LICENSE-2.0", "id": 1, "name": "Apache License 2.0"},
]
IMAGE_SITE = "http://images.cocodataset.org"


def image_entry(image_id: int, file_name: str, folder: str, world: World) -> dict[str, Any]:
    """Describe the first frame of a world as an image of this name in COCO's ``folder``."""
    height, width = world.ids[0].shape
    return {
        "license": 1,
        "file_name": file_name,
        "coco_url": f"{IMAGE_SITE}/{folder}/{image_id:012d}.jpg",
        "height": height,
        "width": width,
        "date_captured": "2024-01-01 00:00:00",
        "flickr_url": f"http://static.flickr.com/{world.video_id}.jpg",
        "id": image_id,
    }


def thing_annotations(image_id: int, first_id: int, world: World) -> list[dict[str, Any]]:
    """Annotate the things of the first frame one by one, with polygons and COCO's category ids."""
    return [
        {
            **outlined(world.ids[0] == thing.object_id),
            "iscrowd": 0,
            "image_id": image_id,
            "category_id": CATEGORY_IDS[thing.class_index],
            "id": first_id + position,
        }
        for position, thing in enumerate(visible_things(world))
    ]


def group_annotation(image_id: int, annotation_id: int, world: World, class_index: int) -> dict[str, Any]:
    """Annotate all things of a class as one crowd, by run lengths."""
    things = [thing.object_id for thing in world.things if thing.class_index == class_index]
    mask = np.isin(world.ids[0], things)
    return {
        "segmentation": uncompressed_rle(mask),
        "area": int(mask.sum()),
        "iscrowd": 1,
        "image_id": image_id,
        "bbox": box(mask),
        "category_id": CATEGORY_IDS[class_index],
        "id": annotation_id,
    }


def visible_things(world: World) -> list[WorldObject]:
    """List the things that the first frame shows."""
    return [thing for thing in world.things if (world.ids[0] == thing.object_id).any()]


def thing_categories() -> list[dict[str, Any]]:
    """List the thing classes as COCO's instance files do."""
    return [
        {"supercategory": "shape", "id": category_id, "name": name}
        for category_id, name in zip(CATEGORY_IDS, THING_NAMES, strict=False)
    ]


def outlined(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Give polygons, area and box of a mask [H, W] that is not empty."""
    return {
        "segmentation": outlines(mask),
        "area": float(mask.sum()),
        "bbox": [float(side) for side in box(mask)],
    }


def outlines(mask: NDArray[np.bool_]) -> list[list[float]]:
    """Trace each piece of a mask [H, W] along the outer edges of its pixels: flat x, y, x, y, ..."""
    # Of a pixel drawn as 2 x 2, the contour visits the corners; rounding up moves each to the pixel's own.
    doubled = mask.astype(np.uint8).repeat(2, axis=0).repeat(2, axis=1)
    pieces, _ = cv2.findContours(doubled, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return [_turning_points(((piece[:, 0] + 1) // 2).astype(np.int32)) for piece in pieces]


def _turning_points(points: NDArray[np.int32]) -> list[float]:
    """Keep the corners of a closed path [N, 2]."""
    distinct = points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
    before, after = distinct - np.roll(distinct, 1, axis=0), np.roll(distinct, -1, axis=0) - distinct
    corners = distinct[(before != after).any(axis=1)]
    return [float(value) for value in corners.ravel()]
