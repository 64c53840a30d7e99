"""What can be wrong with official data: the whole source (stop) or one item of it (reject and count)."""

import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType

from PIL import Image, UnidentifiedImageError

REASONS: Mapping[str, str] = MappingProxyType(
    {
        "E100": "annotation of the item is malformed: a field is missing or has another type",
        "E101": "image file missing",
        "E102": "image file empty, truncated or not decodable",
        "E103": "image size differs from the annotation's",
        "E104": "frames of one item differ in size",
        "E105": "annotation fits only the image turned by its EXIF orientation",
        "E110": "parallel lists differ in length, or states and masks disagree",
        "E111": "run-length size differs from the item's",
        "E112": "run lengths are corrupt or do not sum to height x width",
        "E113": "empty mask where the object is visible",
        "E117": "polygon missing, of fewer than three points, of an odd number of values, or out of range",
        "E120": "two entries of the item's annotation share an id",
        "E122": "annotation refers to an unknown image or video",
        "E123": "unknown category id",
        "E129": "ADE20K label value is illegal",
        "E130": "label image has the wrong mode or bit depth",
        "E131": "label image size differs from the image's",
        "E132": "VIPSeg label value is illegal",
        "E134": "VSPW label value is illegal",
        "E135": "panoptic ids in the label image and in segments_info differ",
        "E137": "label image holds an object id that meta.json does not declare",
        "E139": "objects and regions do not cover the frame exactly once",
        "E140": "expression refers to an object that does not exist",
        "E144": "official prompt names an object, a frame or coordinates that do not exist",
        "E151": "numbers of images and of annotations differ",
        "E153": "split list names an unknown folder",
        "E160": "annotation is too large for one sample",
        "E190": "unsafe file name",
    }
)
"""Codes that reject an item, and their meaning; the messages say what was found in which item."""

WARNINGS: Mapping[str, str] = MappingProxyType(
    {
        "W105": "image carries an EXIF orientation; annotations lie on the stored raster",
        "W106": "image is not plain 8-bit RGB; it is converted when decoded",
        "W114": "empty mask, object left out",
        "W115": "official area differs from the mask's",
        "W116": "official box differs from the mask's",
        "W118": "polygon or box reaches outside the image",
        "W133": "thing class without an instance number, or stuff class with one",
        "W124": "categories are not those of the official release",
        "W136": "segments_info differs from the label image",
        "W137": "label image holds a few pixels of an undeclared object",
        "W138": "declared object is never visible, left out",
        "W139": "two official label images of one frame disagree",
        "W141": "expression is empty or longer than the text encoder reads",
        "W142": "object has no expression",
        "W143": "text is not valid UTF-8, read as Latin-1",
        "W150": "video of a single frame",
        "W152": "label image without a frame",
        "W171": "counts are not those of the official release",
    }
)
"""Codes of warnings and their meaning; the item is kept and flagged (W124 and W171: the whole release)."""

FAILURES: Mapping[str, str] = MappingProxyType(
    {
        "E120": "two items share an id",
        "E121": "two items share a sample key",
        "E124": "categories are not those of the official release",
        "E161": "shard does not hold what was written",
        "E162": "bytes on disk are not those that were written",
        "E170": "counts are not those of the official release",
        "E180": "license of the dataset is not stated",
    }
)
"""Codes that fail the whole build, and their meaning."""

DAMAGED_FILE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""Everything Pillow, struct and zlib raise on damaged bytes; a broken PNG chunk is a SyntaxError."""

_MALFORMED_ERRORS = (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError, OSError)


class SourceError(ValueError):
    """The source as a whole cannot be read: one line naming file, found, expected and what to do."""


class MissingFileError(SourceError):
    """A file that a whole split depends on is not there: so the split is not, or not completely."""


class BuildError(SourceError):
    """The release as a whole is wrong; its line starts with one of ``FAILURES``."""

    def __init__(self, code: str, message: str) -> None:
        """Keep the reason.

        Raises:
            KeyError: the code is not one of ``FAILURES``.
        """
        super().__init__(f"{code} {FAILURES[code]}: {message}")
        self.code = code
        self.message = message

    def __reduce__(self) -> tuple[type["BuildError"], tuple[str, str]]:
        """Survive pickling between processes with both arguments."""
        return type(self), (self.code, self.message)


class DuplicateIdError(ValueError):
    """Two entries of an annotation share an id; a plain ``dict`` would lose one of them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """Something odd about an item that is kept: a warning."""

    code: str
    """One of ``WARNINGS``."""
    message: str
    file: str = ""
    """Official file it was found in, relative to the source folder."""
    pointer: str = ""
    """Where in the file: a JSON pointer (RFC 6901), a line, or a pixel."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Problem:
    """A row of the tables of rejects and of warnings."""

    item_id: str
    code: str
    message: str
    file: str = ""
    """Official file it was found in, relative to the source folder; empty where it is in no single one."""
    pointer: str = ""
    """Where in the file: a JSON pointer (RFC 6901), a line, a pixel, or a member of a tar."""


class ItemError(ValueError):
    """One item cannot be used."""

    def __init__(self, code: str, message: str, file: str = "", pointer: str = "") -> None:
        """Keep the reason.

        Args:
            code: One of ``REASONS``.
            message: What was found in which item and what was expected.
            file: Official file it was found in, relative to the source folder.
            pointer: Where in the file: a JSON pointer (RFC 6901), a line, or a pixel.

        Raises:
            KeyError: the code is not one of ``REASONS``.
        """
        super().__init__(f"{code} {REASONS[code]}: {message}")
        self.code = code
        self.message = message
        self.file = file
        self.pointer = pointer

    def __reduce__(self) -> tuple[type["ItemError"], tuple[str, str, str, str]]:
        """Survive pickling between processes with all arguments."""
        return type(self), (self.code, self.message, self.file, self.pointer)


def describe_damage(error: BaseException) -> str:
    """Say what is wrong with a file but not where it lies, so that equal sources give equal messages."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error)


@contextmanager
def malformed_as_item_error(item_id: str) -> Iterator[None]:
    """Turn the errors of walking a malformed or unreadable annotation into E100."""
    try:
        yield
    except (ItemError, SourceError):
        raise
    except DuplicateIdError as error:
        raise ItemError("E120", f"{item_id}: {error}") from error
    except _MALFORMED_ERRORS as error:
        raise ItemError("E100", f"{item_id}: {type(error).__name__}: {describe_damage(error)}") from error
