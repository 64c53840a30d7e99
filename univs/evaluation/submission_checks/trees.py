"""Trees of PNGs: every expected file is there, nothing else, and each picture is as the server reads it.

One picture is in memory at a time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from PIL import Image

from univs.evaluation.official.files import name_some
from univs.evaluation.submission_checks.archive import Archive
from univs.evaluation.submission_checks.inputs import Given


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """The pictures of one folder: of a video, or of an expression of a video."""

    folder: str
    """Path in the zip; empty for the top."""
    title: str
    """What it is, for messages."""
    stems: tuple[str, ...]
    """Names of its pictures, without suffix."""
    sizes: tuple[tuple[int, int], ...]
    """Height and width: one for all pictures, or one each; empty where they are not known."""

    def entry(self, stem: str) -> str:
        """Name a picture in the zip."""
        return f"{self.folder}/{stem}.png" if self.folder else f"{stem}.png"

    def size(self, position: int) -> tuple[int, int] | None:
        """Give the height and width of a picture."""
        return None if not self.sizes else self.sizes[position if len(self.sizes) > 1 else 0]


PictureCheck = Callable[[Group, int, Image.Image], str]
"""Judges the picture at a position of a group: what is wrong and was expected, empty where nothing is."""


def check_tree(
    archive: Archive, groups: Sequence[Group], layout: str, check: PictureCheck, others: Iterable[str] = ()
) -> int:
    """Check every picture of a tree; give their number.

    Args:
        archive: The zip.
        groups: What has to be there.
        layout: The tree in words, such as ``<video>/<frame>.png``.
        check: Judges one picture.
        others: Files beside the tree, checked elsewhere.

    Raises:
        ValueError: a file is unexpected, missing or not as it should be; the line names it.
    """
    by_folder = {group.folder: group for group in groups}
    present = set(archive.names) - set(others)
    unexpected = sorted(present - {group.entry(stem) for group in groups for stem in group.stems})
    if unexpected:
        raise archive.refuse(unexpected[0], _out_of_place(unexpected[0], by_folder, layout))
    for group in groups:
        _check_complete(archive, group, present)
    for group in groups:
        for position, stem in enumerate(group.stems):
            _check_picture(archive, group, position, group.entry(stem), check)
    return sum(len(group.stems) for group in groups)


def _out_of_place(name: str, by_folder: Mapping[str, Group], layout: str) -> str:
    """Say what is wrong with where an unexpected file lies."""
    path = PurePosixPath(name)
    folder = "" if str(path.parent) == "." else str(path.parent)
    depths = {len(PurePosixPath(known).parts) for known in by_folder}
    if path.suffix != ".png":
        return f"unexpected file, expected only {layout}"
    if len(PurePosixPath(folder).parts) not in depths:
        return f"unexpected folder level, expected {layout} from the top of the zip"
    group = by_folder.get(folder)
    if group is None:
        return f"unexpected folder {folder!r}, expected {layout}: one of {name_some(sorted(by_folder))}"
    return f"unexpected name, expected those of {group.title}: {name_some(group.stems)}"


def _check_complete(archive: Archive, group: Group, present: set[str]) -> None:
    missing = [stem for stem in group.stems if group.entry(stem) not in present]
    if len(missing) == len(group.stems):
        raise ValueError(f"{archive.path}: no {group.folder}/, expected the pictures of {group.title}")
    if missing:
        raise ValueError(
            f"{archive.path}: no {group.entry(missing[0])}; {len(missing)} of {len(group.stems)} pictures of "
            f"{group.title} are missing"
        )


def _check_picture(archive: Archive, group: Group, position: int, entry: str, check: PictureCheck) -> None:
    image = archive.read_png(entry)
    expected = group.size(position)
    if expected is not None and (image.height, image.width) != expected:
        raise archive.refuse(
            entry,
            f"{image.height}x{image.width} pixels (height x width), expected {expected[0]}x{expected[1]}",
        )
    found = check(group, position, image)
    if found:
        raise archive.refuse(entry, found)


def check_objects(given: Mapping[str, Given], is_introduced: bool, has_colors: bool) -> PictureCheck:
    """Judge indexed masks by the given masks of each group's folder.

    Args:
        given: By folder.
        is_introduced: Whether objects may not be drawn before the frame that gives them.
        has_colors: Whether the palette has to be that of the given masks.
    """

    def check(group: Group, position: int, image: Image.Image) -> str:
        if image.mode != "P":
            return f"mode {image.mode}, expected P: an indexed PNG whose values are object ids"
        values = values_of(image)
        masks = given[group.folder]
        start = position if is_introduced else len(group.stems)
        wrong = _wrong_ids(values, masks, group, start)
        return wrong or (_wrong_colors(values, masks, image) if has_colors else "")

    return check


def _wrong_ids(values: Sequence[int], masks: Given, group: Group, position: int) -> str:
    for value in values:
        if value and value not in masks.first:
            known = ", ".join(map(str, sorted(masks.first)))
            return f"id {value} is not given, expected 0 and those of {group.title}: {known}"
        if value and position < masks.first[value]:
            return f"id {value} is drawn before frame {group.stems[masks.first[value]]}, which gives it"
    return ""


def _wrong_colors(values: Sequence[int], masks: Given, image: Image.Image) -> str:
    palette = tuple(image.getpalette() or ())
    for value in values:
        found, expected = (colors[3 * value : 3 * value + 3] for colors in (palette, masks.colors))
        if expected and found != expected:
            return f"palette has {found} for id {value}, expected {expected} as in the given masks"
    return ""


def check_binary(group: Group, position: int, image: Image.Image) -> str:
    """Judge masks of one object: 0 and 255, or one bit."""
    if image.mode not in ("L", "1"):
        return f"mode {image.mode}, expected L: a gray PNG of 8 bits with 0 and 255"
    others = [value for value in values_of(image.convert("L")) if value not in (0, 255)]
    return f"value {others[0]}, expected 0 and 255 only" if others else ""


def values_of(image: Image.Image) -> list[int]:
    """List the values that an 8-bit picture holds, in ascending order."""
    return [value for value, count in enumerate(image.histogram()) if count]


def check_classes(lowest: int, highest: int) -> PictureCheck:
    """Judge maps of classes in a range, both ends in it."""

    def check(group: Group, position: int, image: Image.Image) -> str:
        if image.mode not in ("L", "P"):
            return f"mode {image.mode}, expected L: a gray PNG of 8 bits whose values are classes"
        others = [value for value in values_of(image) if not lowest <= value <= highest]
        return f"class {others[0]}, expected {lowest}..{highest}" if others else ""

    return check
