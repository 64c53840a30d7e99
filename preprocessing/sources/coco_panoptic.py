"""COCO 2017 panoptic: 118,287 train and 5,000 val images, 80 thing and 53 stuff classes.

Format, from the panopticapi documentation: a label PNG holds ``id = R + 256 G + 65536 B`` per pixel, 0 is
void, and ``segments_info`` lists exactly the other ids with category and crowd flag. Category ids are sparse
(1..200). Thing crowds stay objects with their crowd flag. ``item_id`` is the image's file stem.
"""

import json
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from preprocessing.errors import ItemError, SourceError, malformed_as_item_error
from preprocessing.masks import encode_label_map
from preprocessing.sources.files import (
    OfficialFile,
    index_by,
    load_json,
    require_root,
    require_safe_name,
    to_payload,
)
from preprocessing.sources.label_images import COLOR_MODES, read_label_image, require_label_size
from preprocessing.sources.source import Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames, build_region, build_tracks
from univs.labels import Category, LabelSpace
from univs.schema import VideoRecord

VOID_ID = 0


class CocoPanoptic:
    """Reader of ``{train,val}2017/`` with ``annotations/panoptic_{train,val}2017{.json,/}``."""

    spec = SourceSpec(
        name="coco_panoptic",
        task="detection",
        kind="image",
        needs="{train,val}2017/*.jpg, annotations/panoptic_{train,val}2017.json and folders of PNGs",
        expects="118,287 train and 5,000 val images, 133 categories",
        license="CC-BY-4.0 (annotations); images under their Flickr licenses",
        splits=("train", "val"),
    )

    def label_space(self, root: Path) -> LabelSpace:
        """Read the categories from the smaller annotation file that is there."""
        require_root(root)
        split = "val" if (root / _annotation_file("val").path).exists() else "train"
        return _parse_label_space(load_json(root, _annotation_file(split), ("categories",)))

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the images by id; also annotations of unknown images, which ``read`` rejects."""
        require_split(self.spec, split)
        body = load_json(root, _annotation_file(split), ("images", "annotations", "categories"))
        known = _parse_label_space(body).label_of.keys()
        _require_same_categories(root, split, _parse_label_space(body), self.label_space(root))
        try:
            images = index_by(body["images"], "id")
            annotations = index_by(body["annotations"], "image_id")
        except (KeyError, TypeError, ValueError) as error:
            raise SourceError(
                f"--source {root}: {_annotation_file(split).path} has a malformed image or annotation "
                f"({type(error).__name__}: {error}); expected COCO panoptic fields; download it again"
            ) from error
        for image_id in sorted(images.keys() | annotations.keys()):
            yield _scan_image(image_id, images.get(image_id), annotations.get(image_id), known)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Decode the label PNG and match it with ``segments_info``."""
        with malformed_as_item_error(item.item_id):
            return _read_image(self.spec, root, split, item)


def decode_segment_ids(rgb: NDArray[np.uint8]) -> NDArray[np.int32]:
    """Turn a [H, W, 3] label PNG into [H, W] segment ids."""
    channels = rgb.astype(np.int32)
    return channels[..., 0] + 256 * channels[..., 1] + 65536 * channels[..., 2]


def _annotation_file(split: str) -> OfficialFile:
    return OfficialFile(
        path=f"annotations/panoptic_{split}2017.json",
        expected="the COCO 2017 panoptic annotations",
        remedy="unzip panoptic_annotations_trainval2017.zip there",
    )


def _parse_label_space(body: dict[str, Any]) -> LabelSpace:
    try:
        rows = [(int(row["id"]), str(row["name"]), bool(row["isthing"])) for row in body["categories"]]
        categories = tuple(Category(category_id=i, name=n, is_thing=t) for i, n, t in sorted(rows))
        return LabelSpace(name="coco_panoptic", categories=categories)
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"annotations/panoptic_*2017.json: categories are malformed ({type(error).__name__}: {error}); "
            "expected id, name and isthing in each; download the COCO 2017 panoptic annotations again"
        ) from error


def _require_same_categories(root: Path, split: str, found: LabelSpace, expected: LabelSpace) -> None:
    if found != expected:
        raise SourceError(
            f"--source {root}: {_annotation_file(split).path} lists {len(found.categories)} categories that "
            f"differ from the {len(expected.categories)} of the other split; expected one table; "
            "take both files from the same release"
        )


def _scan_image(
    image_id: int,
    image: Mapping[str, Any] | None,
    annotation: Mapping[str, Any] | None,
    known: Container[int],
) -> Item:
    segments = (annotation or {}).get("segments_info")
    categories = (
        [s.get("category_id") for s in segments if isinstance(s, dict)] if isinstance(segments, list) else []
    )
    unknown = sorted({str(c) for c in categories if not isinstance(c, int) or c not in known})
    payload = to_payload(image=image, annotation=annotation, unknown_categories=unknown)
    return Item(item_id=f"{image_id:012d}", num_frames=1, payload=payload)


def _read_image(spec: SourceSpec, root: Path, split: str, item: Item) -> SourceVideo:
    payload = json.loads(item.payload)
    image, annotation, where = payload["image"], payload["annotation"], item.item_id
    _check_payload(where, image, annotation, payload["unknown_categories"])
    height, width = int(image["height"]), int(image["width"])
    png_name = require_safe_name(where, annotation["file_name"])
    jpg_name = require_safe_name(where, image["file_name"])
    rgb = read_label_image(root / f"annotations/panoptic_{split}2017" / png_name, COLOR_MODES, where)
    require_label_size(rgb, height, width, where)
    masks = encode_label_map(decode_segment_ids(rgb))
    segments = index_by(annotation["segments_info"], "id")
    _check_segments(where, masks.keys() - {VOID_ID}, segments.keys())
    crowds = frozenset(i for i, segment in segments.items() if segment.get("iscrowd", 0))
    record = VideoRecord(
        dataset=spec.name,
        split=split,
        item_id=item.item_id,
        kind="image",
        height=height,
        width=width,
        label_space="coco_panoptic",
        frames=build_frames([jpg_name]),
        objects=build_tracks([masks], {i: int(s["category_id"]) for i, s in segments.items()}, crowds),
        regions=build_region([masks], VOID_ID, "void"),
        is_partition=True,
        license=spec.license,
    )
    return SourceVideo(record=record, frame_paths=(root / f"{split}2017" / jpg_name,))


def _check_payload(where: str, image: Any, annotation: Any, unknown_categories: Sequence[str]) -> None:
    if image is None:
        raise ItemError("E122", f"{where}: annotation of an image that images[] does not list")
    if annotation is None:
        raise ItemError("E151", f"{where}: images[] lists it, but no panoptic annotation does")
    if unknown_categories:
        raise ItemError("E123", f"{where}: category_id {', '.join(unknown_categories)} not in categories[]")


def _check_segments(where: str, in_png: set[int], in_json: Any) -> None:
    only_png, only_json = sorted(in_png - in_json), sorted(in_json - in_png)
    if only_png:
        raise ItemError("E135", f"{where}: id {only_png[0]} in the PNG only ({len(only_png)} such ids)")
    if only_json:
        raise ItemError(
            "E135", f"{where}: id {only_json[0]} in segments_info only ({len(only_json)} such ids)"
        )
