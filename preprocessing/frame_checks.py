"""Check the bytes of every frame of an item: there, whole, of one size, and upright."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from PIL import Image

from preprocessing.errors import DAMAGED_FILE_ERRORS, ItemError, describe_damage
from preprocessing.findings import FindingLog
from preprocessing.sources.files import read_range
from preprocessing.sources.source import FileRange
from univs.schema import VideoRecord

_EXTENSION_OF_FORMAT: dict[str, Literal["jpg", "png"]] = {"JPEG": "jpg", "MPO": "jpg", "PNG": "png"}
_ORIENTATION_TAG = 0x0112
_UPRIGHT = 1
_TURNED_ORIENTATIONS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Place:
    """Where a frame's file lies, for messages."""

    where: str
    """Item, and frame in a video."""
    name: str
    file: str
    """Official path relative to the source folder; the tar, for a member of one."""
    pointer: str
    """Name of the member of the tar."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameImage:
    """What a decoded frame turned out to be."""

    extension: Literal["jpg", "png"]
    height: int
    width: int
    mode: str
    orientation: int
    """EXIF orientation, 1 where there is none."""


def place_of(record: VideoRecord, path: Path | FileRange, root: Path | None) -> Place:
    """Name a frame's file as messages do."""
    outer = path.path if isinstance(path, FileRange) else path
    is_inside = root is not None and outer.is_relative_to(root)
    return Place(
        where=record.item_id if record.kind == "image" else f"{record.item_id}/{path.name}",
        name=path.name,
        file=outer.relative_to(root).as_posix() if root is not None and is_inside else outer.name,
        pointer=path.name if isinstance(path, FileRange) else "",
    )


def read_frame(path: Path | FileRange, place: Place) -> bytes:
    """Read a frame's bytes.

    Raises:
        ItemError: E101 or E102.
    """
    try:
        content = read_range(path) if isinstance(path, FileRange) else path.read_bytes()
    except FileNotFoundError as error:
        folder = path.path.name if isinstance(path, FileRange) else f"{path.parent.name}/{path.name}"
        message = f"{place.where}: {folder} not found; unpack the images completely"
        raise ItemError("E101", message, place.file, place.pointer) from error
    except (OSError, ValueError) as error:
        message = f"{place.where}: {place.name} unreadable: {describe_damage(error)}"
        raise ItemError("E102", message, place.file, place.pointer) from error
    if not content:
        raise ItemError("E102", f"{place.where}: {place.name} has 0 bytes", place.file, place.pointer)
    return content


def decode_frame(content: bytes, place: Place) -> FrameImage:
    """Decode a frame completely.

    Raises:
        ItemError: E102.
    """
    try:
        with Image.open(io.BytesIO(content)) as image:
            height, width, mode = image.height, image.width, image.mode
            # A JPEG at an eighth of its size, gray, is read to its last bit all the same, in half the time.
            image.draft("L", (1, 1))
            image.load()
            kind, orientation = image.format or "", _orientation(image)
    except DAMAGED_FILE_ERRORS as error:
        message = f"{place.where}: {place.name} has {len(content)} bytes: {describe_damage(error)}"
        raise ItemError("E102", message, place.file, place.pointer) from error
    if kind not in _EXTENSION_OF_FORMAT:
        message = f"{place.where}: {place.name} holds {kind} data; expected JPEG or PNG"
        raise ItemError("E102", message, place.file, place.pointer)
    return FrameImage(
        extension=_EXTENSION_OF_FORMAT[kind], height=height, width=width, mode=mode, orientation=orientation
    )


def check_frame(image: FrameImage, index: int, record: VideoRecord, place: Place, log: FindingLog) -> None:
    """Check a frame's raster against the size the annotation is made for.

    Raises:
        ItemError: E103, E104 or E105.
    """
    if (image.height, image.width) != (record.height, record.width):
        raise _size_error(image, index, record, place)
    if image.orientation != _UPRIGHT:
        log.add(
            "W105",
            f"{place.where}: EXIF orientation {image.orientation}, annotation fits the stored raster",
            place.file,
            place.pointer,
        )
    if image.mode != "RGB":
        log.add("W106", f"{place.where}: mode {image.mode}", place.file, place.pointer)


def _size_error(image: FrameImage, index: int, record: VideoRecord, place: Place) -> ItemError:
    found, expected = f"{image.width}x{image.height}", f"{record.width}x{record.height}"
    is_turned = image.orientation in _TURNED_ORIENTATIONS
    if is_turned and (image.width, image.height) == (record.height, record.width):
        message = (
            f"{place.where}: EXIF orientation {image.orientation}, image stored as {found}; annotation is "
            f"for {expected} (w x h); store the image turned"
        )
        return ItemError("E105", message, place.file, place.pointer)
    if index:
        message = f"{place.where}: frame {index} is {found}, those before it {expected} (w x h)"
        return ItemError("E104", message, place.file, place.pointer)
    message = f"{place.where}: image {found}; expected {expected} (w x h)"
    return ItemError("E103", message, place.file, place.pointer)


def _orientation(image: Image.Image) -> int:
    if "exif" not in image.info:
        return _UPRIGHT
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, _UPRIGHT)
    except DAMAGED_FILE_ERRORS:
        # The pixels are sound, and nothing but the orientation is of use.
        return _UPRIGHT
    return orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else _UPRIGHT
