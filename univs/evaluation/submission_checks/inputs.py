"""Read what the organizers publish of a split: its videos, frames, sizes, given masks and categories."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from univs.evaluation.official.files import field_of, read_json


@dataclass(frozen=True, kw_only=True, slots=True)
class Inputs:
    """Where the public files of a split are."""

    root: Path
    """Folder, or for formats that need one JSON file, that file."""
    split: str = ""
    """Which list of videos to use, where the folder holds several; empty for the format's own choice."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Given:
    """The masks that are given of one video, which prompt its objects."""

    first: Mapping[int, int]
    """Object id to the position of the frame that gives its mask."""
    colors: tuple[int, ...]
    """Palette of the masks, r g b r g b; empty where they have none."""


def find_file(root: Path, candidates: Sequence[str], what: str) -> Path:
    """Find the one file of a folder that matches a pattern, or take the file itself.

    Raises:
        ValueError: there is none, or several.
    """
    if root.is_file():
        return root
    found = sorted({path for pattern in candidates for path in root.glob(pattern) if path.is_file()})
    if not found:
        raise ValueError(f"--gt {root}: no {what}, expected one of {', '.join(candidates)}")
    if len(found) > 1:
        names = ", ".join(path.relative_to(root).as_posix() for path in found)
        raise ValueError(f"--gt {root}: holds {names}; pass the file of your split as --gt")
    return found[0]


def find_first(root: Path, names: Sequence[str], what: str) -> Path:
    """Give the first of these files of a folder that is there, all of which serve, or take the file itself.

    Raises:
        ValueError: there is none.
    """
    present = [name for name in names if (root / name).is_file()]
    return find_file(root, present[:1] or names, what)


def find_folder(root: Path, *names: str) -> Path:
    """Give the first of these folders that is there.

    Raises:
        ValueError: there is none.
    """
    for name in names:
        if (root / name).is_dir():
            return root / name
    raise ValueError(f"--gt {root}: no folder {' or '.join(names)}; point --gt at the split's public files")


def read_list(root: Path, pattern: str, splits: Sequence[str], chosen: str) -> tuple[str, ...]:
    """Read the names in the list of a split, the chosen one or the first that is there.

    Raises:
        ValueError: there is no such list, or it is empty.
    """
    for split in [chosen] if chosen else splits:
        path = root / pattern.format(split)
        if path.is_file():
            names = tuple(line.strip() for line in path.read_text().splitlines() if line.strip())
            if not names:
                raise ValueError(f"{path}: is empty, expected one name a line")
            return names
    wanted = " or ".join(pattern.format(split) for split in ([chosen] if chosen else splits))
    raise ValueError(f"--gt {root}: no {wanted}, which lists the videos of the split")


def list_stems(folder: Path, suffix: str = ".jpg") -> tuple[str, ...]:
    """List the pictures of a folder without their suffix, in order.

    Raises:
        ValueError: there is none.
    """
    stems = tuple(sorted(path.stem for path in folder.glob(f"*{suffix}")))
    if not stems:
        raise ValueError(f"{folder}: no {suffix} file, expected the frames of a video")
    return stems


def picture_size(path: Path) -> tuple[int, int]:
    """Read height and width of a picture from its head.

    Raises:
        ValueError: it is no picture.
    """
    try:
        with Image.open(path) as image:
            return image.height, image.width
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: is no picture; fetch it again") from error


def read_given(folder: Path, stems: Sequence[str], is_first_only: bool) -> Given:
    """Read the given masks of a video: in its first frame only, or wherever an object appears.

    Raises:
        ValueError: no mask is given, or a mask belongs to no frame.
    """
    first: dict[int, int] = {}
    colors: tuple[int, ...] = ()
    for stem in list_stems(folder, ".png")[: 1 if is_first_only else None]:
        if stem not in stems:
            raise ValueError(f"{folder / stem}.png: belongs to no frame, expected one of JPEGImages")
        pixels, palette = _read_mask(folder / f"{stem}.png")
        colors = colors or palette
        for value in np.unique(pixels).tolist():
            first.setdefault(value, stems.index(stem))
    first.pop(0, None)
    return Given(first=first, colors=colors)


def _read_mask(path: Path) -> tuple[NDArray[np.uint8], tuple[int, ...]]:
    try:
        with Image.open(path) as image:
            return np.asarray(image, np.uint8), tuple(image.getpalette() or ())
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"{path}: not a readable PNG ({error}); fetch it again") from error


def read_categories(body: Any, path: Path) -> frozenset[int]:
    """Read the ids of the categories of a COCO-like JSON.

    Raises:
        ValueError: there is none, or one has no id.
    """
    rows = body if isinstance(body, list) else field_of(body, "categories", list, str(path))
    if not rows:
        raise ValueError(f"{path}: 'categories' is empty, expected the classes of the benchmark")
    return frozenset(field_of(row, "id", int, f"{path}: categories[{n}]") for n, row in enumerate(rows))


def read_rows(path: Path, key: str) -> tuple[Any, list[Any]]:
    """Read a JSON file and the list it holds under a key.

    Raises:
        ValueError: it is not JSON, or has no such list.
    """
    body = read_json(path)
    return body, field_of(body, key, list, str(path))
