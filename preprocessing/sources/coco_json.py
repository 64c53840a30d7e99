"""Scan what COCO, LVIS and RefCOCO share: one JSON file of images, annotations, categories and licenses.

The file is parsed once, in ``scan``; an item's payload is its own part of it, with its place in the file.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from preprocessing.errors import ItemError, SourceError
from preprocessing.sources.files import OfficialFile, index_by, load_json, to_payload
from preprocessing.sources.source import Item
from univs.labels import Category, LabelSpace

MALFORMED_ERRORS = (KeyError, IndexError, TypeError, AttributeError, ValueError, OverflowError)
"""What walking a JSON body of another shape raises."""

Placed = tuple[int, Mapping[str, Any]]
"""An entry of a list in the file, after its place in it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageEntry:
    """All that a file says about one image."""

    file: str
    """The file, relative to the source folder."""
    image: Mapping[str, Any]
    """Its entry in ``images``; empty if there are only annotations of it."""
    image_index: int
    annotations: Sequence[Mapping[str, Any]] | None
    """``None`` where the ground truth is not published."""
    annotation_indices: Sequence[int]
    license: str
    """Of the picture; empty if the file does not say."""
    unknown_categories: Sequence[tuple[str, str]] = ()
    """Where a category is named that the file does not list (a JSON pointer), and which."""

    @property
    def pointer(self) -> str:
        """Where in the file the image's entry is."""
        return f"/images/{self.image_index}"

    def to_payload(self, **more: Any) -> str:
        """Serialize the field ``entry`` of a payload, beside further fields of the dataset's own."""
        return to_payload(entry={field.name: getattr(self, field.name) for field in fields(self)}, **more)


def coco_item_id(image_id: int) -> str:
    """Write a COCO image id as its file is named."""
    return f"{image_id:012d}"


def coco_group(item_id: str) -> str:
    """Name the picture, for all datasets over COCO's images."""
    return f"coco:{item_id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoFiles:
    """The files of one dataset in COCO's schema, which all hold the same categories."""

    label_space_name: str
    files: Mapping[str, OfficialFile]
    """By split, from the largest to the smallest, out of which the categories are read."""
    without_truth: frozenset[str] = frozenset()
    """Splits whose file lists images only."""
    category_lists: tuple[str, ...] = ()
    """Fields of an image that list category ids."""
    has_stuff: bool = False
    """Whether categories say with ``isthing`` what they are; all are things otherwise."""

    def label_space(self, root: Path) -> LabelSpace:
        """Read the categories out of the last file that is there.

        Raises:
            SourceError: there is no file, or it is malformed.
        """
        official = self._handiest(root)
        return self._parse_categories(root, official, load_json(root, official, ("categories",)))

    def load_body(self, root: Path, split: str) -> tuple[dict[str, Any], LabelSpace]:
        """Parse a split's file and its categories.

        Raises:
            SourceError: the file is missing or malformed, or differs in categories from another split's.
        """
        official = self.files[split]
        parts = ("images",) if split in self.without_truth else ("images", "annotations")
        body: dict[str, Any] = load_json(root, official, (*parts, "categories"))
        space = self._parse_categories(root, official, body)
        expected = space if self._handiest(root) == official else self.label_space(root)
        if space != expected:
            raise SourceError(
                f"--source {root}: {official.path} lists {len(space.categories)} categories that "
                f"differ from the {len(expected.categories)} of the other split; expected one table; "
                "take both files from the same release"
            )
        return body, space

    def load_entries(self, root: Path, split: str) -> dict[int, ImageEntry]:
        """Parse a split's file and sort what it says by image id; annotations of unlisted images included.

        Raises:
            SourceError: the file is missing or malformed, or differs in categories from another split's.
        """
        body, space = self.load_body(root, split)
        has_truth = split not in self.without_truth
        with malformed_as_source_error(root, self.files[split]):
            images = place_by(body["images"], "id")
            groups = _group(body["annotations"]) if has_truth else {}
            licenses = image_licenses(body)
            entries = {}
            for image_id in sorted(images.keys() | groups.keys()):
                group = groups.get(image_id, []) if has_truth else None
                entry = image_entry(self.files[split].path, images.get(image_id), licenses, group)
                unknown = unlisted(_named_categories(entry, self.category_lists), space)
                entries[image_id] = replace(entry, unknown_categories=unknown)
            return entries

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the images of a split by id; annotations of an unlisted image make an item too."""
        yield from to_items(self.load_entries(root, split))

    def _handiest(self, root: Path) -> OfficialFile:
        files = list(self.files.values())
        return next((official for official in reversed(files) if (root / official.path).is_file()), files[0])

    def _parse_categories(self, root: Path, official: OfficialFile, body: Mapping[str, Any]) -> LabelSpace:
        try:
            rows = sorted(
                (int(row["id"]), str(row["name"]), bool(row["isthing"]) if self.has_stuff else True)
                for row in body["categories"]
            )
            categories = tuple(Category(category_id=i, name=n, is_thing=t) for i, n, t in rows)
            return LabelSpace(name=self.label_space_name, categories=categories)
        except MALFORMED_ERRORS as error:
            raise SourceError(
                f"--source {root}: {official.path}: categories are malformed "
                f"({type(error).__name__}: {error}); expected {official.expected}; {official.remedy}"
            ) from error


def image_entry(
    file: str, image: Placed | None, licenses: Mapping[Any, str], group: list[Placed] | None
) -> ImageEntry:
    """Join what the file says about one image; its place and its annotations are ``None`` without any."""
    place, body = image or (0, {})
    return ImageEntry(
        file=file,
        image=body,
        image_index=place,
        annotations=None if group is None else [annotation for _, annotation in group],
        annotation_indices=[index for index, _ in group or ()],
        license=licenses.get(body.get("license"), ""),
    )


def parse_entry(item_id: str, body: Mapping[str, Any]) -> ImageEntry:
    """Read an entry back out of a payload.

    Raises:
        ItemError: E122 the image, or E123 a category is not listed in the file.
    """
    entry = ImageEntry(**body)
    if not entry.image:
        message = f"{item_id}: annotation of an image that images[] does not list"
        raise ItemError("E122", message, entry.file, f"/annotations/{entry.annotation_indices[0]}/image_id")
    if entry.unknown_categories:
        values = ", ".join(sorted({value for _, value in entry.unknown_categories}))
        message = f"{item_id}: category_id {values} not in categories[]"
        raise ItemError("E123", message, entry.file, entry.unknown_categories[0][0])
    return entry


@contextmanager
def malformed_as_source_error(root: Path, official: OfficialFile) -> Iterator[None]:
    """Turn the errors of walking a file of another shape into one line that says what to do."""
    try:
        yield
    except (ItemError, SourceError):
        raise
    except MALFORMED_ERRORS as error:
        raise SourceError(
            f"--source {root}: {official.path} has a malformed image or annotation "
            f"({type(error).__name__}: {error}); expected {official.expected}; {official.remedy}"
        ) from error


def image_licenses(body: Mapping[str, Any]) -> dict[int, str]:
    """Name the licenses that images refer to by number."""
    return {
        int(row["id"]): " ".join(str(row[name]) for name in ("name", "url") if name in row)
        for row in body.get("licenses") or ()
    }


def to_items(entries: dict[int, ImageEntry]) -> Iterator[Item]:
    """Turn entries into items, taking them out: they and the payloads need not both fill the memory."""
    for image_id in list(entries):
        payload = entries.pop(image_id).to_payload()
        yield Item(item_id=coco_item_id(image_id), num_frames=1, payload=payload)


def place_by(entries: Sequence[Mapping[str, Any]], field: str) -> dict[int, Placed]:
    """Key entries by an integer field, each with its place in the file.

    Raises:
        DuplicateIdError: two entries share the value.
    """
    return {key: (place, entry) for place, (key, entry) in enumerate(index_by(entries, field).items())}


def unlisted(named: Iterable[tuple[str, Any]], space: LabelSpace) -> list[tuple[str, str]]:
    """Keep those categories, each after the pointer to where it is named, that the table does not list."""
    return [
        (pointer, str(value))
        for pointer, value in named
        if not isinstance(value, int) or value not in space.label_of
    ]


def _group(annotations: Sequence[Mapping[str, Any]]) -> dict[int, list[Placed]]:
    """Sort annotations by image, and those of one by their own id."""
    groups: dict[int, list[Placed]] = defaultdict(list)
    for _, (place, annotation) in sorted(place_by(annotations, "id").items()):
        groups[int(annotation["image_id"])].append((place, annotation))
    return groups


def _named_categories(entry: ImageEntry, lists: Sequence[str]) -> Iterator[tuple[str, Any]]:
    for name in lists:
        for position, value in enumerate(entry.image.get(name, ())):
            yield f"{entry.pointer}/{name}/{position}", value
    for index, annotation in zip(entry.annotation_indices, entry.annotations or (), strict=True):
        yield f"/annotations/{index}/category_id", annotation.get("category_id")
