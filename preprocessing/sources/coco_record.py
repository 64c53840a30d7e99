"""Turn what a COCO-style file says about one image into a record.

A ``segmentation`` is a list of polygons, which the record keeps beside the mask they are filled to, or run
lengths where ``iscrowd`` marks a group. Official boxes and areas are kept; those of polygons are exact, so
they differ from the mask's by fractions of a pixel. A polygon too thin to cover a pixel gives no object:
its annotation goes to the record's ``extra``, with a warning.
"""

from collections.abc import Mapping
from typing import Any

from preprocessing.errors import Finding, malformed_as_item_error
from preprocessing.masks import mask_area
from preprocessing.sources.coco_json import ImageEntry, coco_group
from preprocessing.sources.files import require_safe_name
from preprocessing.sources.image_size import parse_image_size
from preprocessing.sources.official_fields import extra_json, keep_areas, keep_boxes, located
from preprocessing.sources.segmentation import measure_segmentations, segmentation_to_rle
from preprocessing.sources.source import SourceSpec
from preprocessing.sources.tracks import build_frames
from univs.schema import VISIBLE, ObjectTrack, VideoRecord

ANNOTATION_LICENSE = "CC-BY-4.0 (annotations)"
LICENSE = f"{ANNOTATION_LICENSE}; images under their Flickr licenses"
"""Of COCO as a whole, and of what others annotated on its images."""
_HELD_BY_OBJECT = frozenset({"id", "image_id", "category_id", "area", "bbox", "segmentation"})


def read_record(
    spec: SourceSpec,
    split: str,
    item_id: str,
    entry: ImageEntry,
    name: str,
    official: Mapping[str, Any] | None = None,
) -> tuple[VideoRecord, tuple[Finding, ...]]:
    """Make a record of one image, and the warnings about it.

    Args:
        spec: The dataset.
        split: Its split.
        item_id: The COCO image id in 12 digits.
        entry: What the file says about it.
        name: The image's official name, in any folder.
        official: Fields that go to ``extra`` if the record does not hold them; those of the image, if
            ``None``.

    Raises:
        ItemError: E100, E111, E112, E117 or E190.
    """
    image = entry.image
    with located(entry.file, entry.pointer), malformed_as_item_error(item_id):
        height, width = parse_image_size(image)
        frame_name = require_safe_name(item_id, name)
    objects, left_out, findings = read_objects(item_id, entry, (height, width))
    held = {"id": int(item_id), "height": height, "width": width, "file_name": name}
    record = VideoRecord(
        dataset=spec.name,
        split=split,
        item_id=item_id,
        kind="image",
        height=height,
        width=width,
        label_space=spec.label_space_name,
        frames=build_frames([frame_name], [entry.annotations is not None]),
        objects=objects,
        ground_truth="none" if entry.annotations is None else "full",
        license=record_license(entry.license),
        group=coco_group(item_id),
        extra=extra_json({**(official or image), "left_out": left_out}, {**held, "left_out": []}),
    )
    return record, findings


def file_name(item_id: str, entry: ImageEntry) -> str:
    """Give the name an image has in its file.

    Raises:
        ItemError: E100 without one, E190 if it leaves the folder.
    """
    with located(entry.file, entry.pointer), malformed_as_item_error(item_id):
        return require_safe_name(item_id, entry.image["file_name"])


def record_license(image_license: str) -> str:
    """Name the license of the annotation and, where the file says, that of the picture."""
    return f"{ANNOTATION_LICENSE}; image: {image_license}" if image_license else LICENSE


def given(annotation: Mapping[str, Any], name: str) -> list[Any] | None:
    """Give the field for the one frame there is; ``None`` if the dataset does not give it."""
    return [annotation[name]] if name in annotation else None


def read_objects(
    item_id: str, entry: ImageEntry, size: tuple[int, int]
) -> tuple[tuple[ObjectTrack, ...], list[Mapping[str, Any]], tuple[Finding, ...]]:
    """Give the objects, the annotations that make none, and a warning for each of these.

    Raises:
        ItemError: E100, E111, E112 or E117.
    """
    objects: list[ObjectTrack] = []
    left_out: list[Mapping[str, Any]] = []
    findings: list[Finding] = []
    measure_segmentations((one.get("segmentation") for one in entry.annotations or ()), *size)
    for place, annotation in zip(entry.annotation_indices, entry.annotations or (), strict=True):
        where, pointer = f"{item_id}: annotation {annotation['id']}", f"/annotations/{place}"
        with located(entry.file, pointer), malformed_as_item_error(where):
            rle = segmentation_to_rle(annotation["segmentation"], *size, where)
            if mask_area(rle, *size) > 0:
                objects.append(_read_object(where, annotation, rle, len(objects) + 1, size))
                continue
        left_out.append(annotation)
        message = f"{where}: no pixel of {size[1]}x{size[0]} lies in it"
        findings.append(Finding(code="W114", message=message, file=entry.file, pointer=pointer))
    return tuple(objects), left_out, tuple(findings)


def _read_object(
    where: str, annotation: Mapping[str, Any], rle: str, object_id: int, size: tuple[int, int]
) -> ObjectTrack:
    segmentation = annotation["segmentation"]
    is_crowd = bool(annotation.get("iscrowd", 0))
    rest = {name: value for name, value in annotation.items() if name not in _HELD_BY_OBJECT}
    return ObjectTrack(
        object_id=object_id,
        source_id=str(annotation["id"]),
        category_id=int(annotation["category_id"]),
        states=VISIBLE,
        rles=(rle,),
        is_crowd=is_crowd,
        boxes=keep_boxes(given(annotation, "bbox"), [rle], *size, where),
        areas=keep_areas(given(annotation, "area"), [rle], *size, where),
        polygons=(tuple(map(tuple, segmentation)),) if isinstance(segmentation, list) else (),
        extra=extra_json(rest, {"iscrowd": int(is_crowd)}),
    )
