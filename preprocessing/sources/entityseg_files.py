"""EntitySeg's annotation files: where they lie under which name, and the items and classes in them.

The two repositories of the dataset name them differently; both names are in use.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from preprocessing.errors import MissingFileError, SourceError
from preprocessing.sources.coco_json import (
    MALFORMED_ERRORS,
    Placed,
    image_entry,
    malformed_as_source_error,
    place_by,
    unlisted,
)
from preprocessing.sources.files import OfficialFile, load_json, require_root
from preprocessing.sources.source import Item
from univs.labels import Category, LabelSpace

_PART_FOLDERS = {"01": "entity_01_11580", "02": "entity_02_11598", "03": "entity_03_10049"}
_FOLDERS = ("annotations/entity_segmentation", "entity_segmentation", "annotations", ".")
_ORIGINAL_NAMES = (
    ("entityv2_010203_entity_{split}.json",),
    tuple(f"entityv2_{part}_entity_{{split}}.json" for part in _PART_FOLDERS),
    ("entityseg_{split}.json",),
    tuple(f"entityseg_{{split}}_{part}.json" for part in _PART_FOLDERS),
)
_SMALL_NAMES = (("entityv2_010203_entity_{split}_lr.json",), ("entityseg_{split}_lr.json",))


@dataclass(frozen=True, kw_only=True, slots=True)
class EntityFiles:
    """The files of one split in one resolution."""

    files: tuple[OfficialFile, ...]
    images: str
    """Folder of the images, relative to the source folder."""


def find_files(root: Path, split: str) -> EntityFiles:
    """Find a split's files, those of the original resolution first.

    Raises:
        SourceError: there are none.
    """
    require_root(root)
    found = [
        EntityFiles(files=files, images=images)
        for images, sets in (("images", _ORIGINAL_NAMES), ("images_lr", _SMALL_NAMES))
        for names in sets
        if (files := tuple(_existing(root, [name.format(split=split) for name in names])))
    ]
    if not found:
        raise MissingFileError(
            f"--source {root}: no entityv2_*_entity_{split}*.json and no entityseg_{split}*.json found in "
            f"{', '.join(_FOLDERS[:3])}; expected EntitySeg's annotations; take them from its repository"
        )
    return next((entry for entry in found if (root / entry.images).is_dir()), found[0])


def parse_label_space(root: Path, official: OfficialFile, body: Mapping[str, Any]) -> LabelSpace:
    """Read the categories of a file.

    Raises:
        SourceError: they are malformed.
    """
    try:
        rows = sorted((int(row["id"]), str(row["name"]), str(row["type"])) for row in body["categories"])
        categories = tuple(
            Category(category_id=i, name=name, is_thing=kind == "thing") for i, name, kind in rows
        )
        return LabelSpace(name="entityseg_panoptic", categories=categories)
    except MALFORMED_ERRORS as error:
        raise SourceError(
            f"--source {root}: {official.path}: categories are malformed ({type(error).__name__}: {error}); "
            f"expected {official.expected}; {official.remedy}"
        ) from error


def scan_file(root: Path, official: OfficialFile, images: str, space: LabelSpace) -> Iterator[Item]:
    """List the images of a file by id.

    Raises:
        SourceError: it is malformed or has another table of categories.
    """
    body = load_json(root, official, ("images", "annotations", "categories"))
    found = parse_label_space(root, official, body)
    if found != space:
        raise SourceError(
            f"--source {root}: {official.path} lists {len(found.categories)} categories that differ from the "
            f"{len(space.categories)} of another file; expected one table; take all files from one release"
        )
    with malformed_as_source_error(root, official):
        listed = place_by(body["images"], "id")
        groups = _group(body["annotations"])
        for image_id in sorted(listed.keys() | groups.keys()):
            yield _to_item(root, official.path, images, listed.get(image_id), groups.get(image_id, []), space)


def _group(annotations: Any) -> dict[int, list[Placed]]:
    """Sort annotations by image, and those of one by their own id."""
    groups: dict[int, list[Placed]] = defaultdict(list)
    for _, (place, annotation) in sorted(place_by(annotations, "id").items()):
        groups[int(annotation["image_id"])].append((place, _with_class(annotation)))
    return groups


def _with_class(annotation: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make the class the ``category_id``; what that said goes on under another name."""
    value = annotation.get("category_id_ori")
    if value is None:
        return annotation
    is_number = isinstance(value, str) and value.isdecimal()
    category_id = int(value) if is_number else value
    return {**annotation, "category_id": category_id, "class_agnostic_id": annotation.get("category_id")}


def _to_item(
    root: Path, file: str, images: str, image: Placed | None, group: list[Placed], space: LabelSpace
) -> Item:
    named = ((f"/annotations/{place}/category_id", entry.get("category_id")) for place, entry in group)
    entry = image_entry(file, image, {}, group)
    entry = replace(entry, unknown_categories=unlisted(named, space))
    given = entry.image.get("file_name")
    name = _image_name(root, images, file, given) if isinstance(given, str) and given else given
    # An id is unique in its file only.
    number = image[1]["id"] if image else group[0][1]["image_id"]
    item_id = name.rsplit(".", 1)[0] if isinstance(name, str) and name else f"{Path(file).stem}-{number}"
    return Item(item_id=item_id, num_frames=1, payload=entry.to_payload(name=name, images=images))


def _image_name(root: Path, images: str, file: str, name: str) -> str:
    """Complete the name of an image that the file of one part gives without folder."""
    parts = [folder for part, folder in _PART_FOLDERS.items() if f"_{part}" in Path(file).stem]
    if "/" in name or len(parts) != 1 or not (root / images / parts[0]).is_dir():
        return name
    return f"{parts[0]}/{name}"


def _existing(root: Path, names: list[str]) -> list[OfficialFile]:
    paths = [next((f"{f}/{n}" for f in _FOLDERS if (root / f / n).is_file()), None) for n in names]
    return [
        OfficialFile(
            path=Path(path).as_posix(),
            expected="EntitySeg's annotations",
            remedy="take it from the repository EntitySeg-Dataset",
        )
        for path in paths
        if path is not None
    ]
