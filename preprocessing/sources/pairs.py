"""Images that have a JSON file each of the same stem: in plain tars, side by side, or in two folders.

A tar is read in place: an item's payload says where in it the two files lie.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from preprocessing.errors import ItemError, SourceError
from preprocessing.sources.files import list_names, parse_json, read_range, require_root, to_payload
from preprocessing.sources.source import FileRange, Item
from preprocessing.sources.tar_members import list_members

Place = Path | FileRange
_IMAGE, _ANNOTATION = ".jpg", ".json"


def scan_pairs(root: Path, needs: str) -> Iterator[Item]:
    """List every stem that has an image or a JSON file, in natural order, one tar after the other.

    Raises:
        SourceError: there are no such files, or both tars and unpacked ones; or a tar is damaged.
    """
    require_root(root)
    tars = list_names(root, ".tar")
    images, annotations = _folders(root)
    unpacked = _stems([*list_names(images, _IMAGE), *list_names(annotations, _ANNOTATION)])
    if bool(tars) == bool(unpacked):
        found = f"{len(tars)} tars and {len(unpacked)} unpacked items" if tars else "no *.tar and no *.jpg"
        raise SourceError(f"--source {root}: {found} found; expected {needs}; point it at either of them")
    for stem in unpacked:
        yield Item(item_id=stem, num_frames=1, payload=to_payload(tar=None))
    for name in tars:
        yield from _scan_tar(root / name)


def locate_pair(root: Path, item: Item) -> tuple[Place, Place]:
    """Give the places of an item's image and JSON file.

    Raises:
        ItemError: E101 or E151 if its tar lacks one of them.
    """
    payload, (image, annotation) = json.loads(item.payload), _names(item.item_id)
    if payload["tar"] is None:
        images, annotations = _folders(root)
        return images / image, annotations / annotation
    tar = root / payload["tar"]
    return (
        _in_tar(tar, image, payload["image"], "E101", item.item_id),
        _in_tar(tar, annotation, payload["annotation"], "E151", item.item_id),
    )


def load_annotation(place: Place, item_id: str) -> Any:
    """Parse an item's JSON file.

    Raises:
        ItemError: E151 if it is missing, E100 if it is not whole JSON.
        OSError: it cannot be read.
    """
    try:
        content = read_range(place) if isinstance(place, FileRange) else place.read_bytes()
    except FileNotFoundError as error:
        message = f"{item_id}: {place.name} not found; expected one beside each image"
        raise ItemError("E151", message) from error
    try:
        return parse_json(content)
    except (ValueError, RecursionError) as error:
        message = f"{item_id}: {place.name} ({len(content)} bytes) is not JSON: {error}"
        raise ItemError("E100", message) from error


def place_name(place: Place, root: Path) -> str:
    """Name a file relative to the source folder, one in a tar as if the tar were a folder."""
    if isinstance(place, FileRange):
        return f"{place.path.relative_to(root).as_posix()}/{place.name}"
    return place.relative_to(root).as_posix()


def _folders(root: Path) -> tuple[Path, Path]:
    has_folders = (root / "images").is_dir()
    return (root / "images", root / "annotations") if has_folders else (root, root)


def _names(stem: str) -> tuple[str, str]:
    return stem + _IMAGE, stem + _ANNOTATION


def _stems(names: Iterable[str]) -> list[str]:
    return sorted({Path(name).stem for name in names}, key=lambda stem: (len(stem), stem))


def _scan_tar(path: Path) -> Iterator[Item]:
    members = {
        name: part for name, part in list_members(path).items() if name.endswith((_IMAGE, _ANNOTATION))
    }
    for stem in _stems(members):
        image, annotation = (members.get(name) for name in _names(stem))
        payload = to_payload(tar=path.name, image=_range_of(image), annotation=_range_of(annotation))
        yield Item(item_id=stem, num_frames=1, payload=payload)


def _range_of(part: FileRange | None) -> list[int] | None:
    return None if part is None else [part.offset, part.size]


def _in_tar(tar: Path, name: str, part: list[int] | None, code: str, item_id: str) -> FileRange:
    if part is None:
        raise ItemError(code, f"{item_id}: {name} not found in {tar.name}; download the tar again", tar.name)
    offset, size = part
    return FileRange(path=tar, name=name, offset=offset, size=size)
