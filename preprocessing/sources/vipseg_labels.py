"""What VIPSeg's label values and its table of categories mean; VIPOSeg uses the table, too.

A value is 0 for void, ``class`` for stuff, ``class * 100 + instance`` for things; ``class`` is the id in the
table plus 1.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

from preprocessing.errors import Finding, ItemError, SourceError
from preprocessing.sources.files import OfficialFile, load_json
from preprocessing.sources.video_folders import LabelVideo
from univs.labels import Category, LabelSpace

VOID = 0
CATEGORY_FILE = "panoVIPSeg_categories.json"
_INSTANCES_PER_CLASS = 100


def read_label_space(root: Path, name: str) -> LabelSpace:
    """Read ``panoVIPSeg_categories.json``, whose ids count from 0.

    Raises:
        SourceError: it is missing or malformed.
    """
    official = OfficialFile(
        path=CATEGORY_FILE,
        expected="the list of 124 categories with id, name and isthing",
        remedy="take it from the VIPSeg repository",
    )
    body = load_json(root, official)
    try:
        rows = sorted((int(row["id"]), str(row["name"]), bool(row["isthing"])) for row in body)
        categories = tuple(Category(category_id=i, name=n, is_thing=t) for i, n, t in rows)
        return LabelSpace(name=name, categories=categories)
    except (KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"--source {root}: {official.path} is malformed ({type(error).__name__}: {error}); "
            f"expected {official.expected}; {official.remedy}"
        ) from error


def category_of_value(value: int, space: LabelSpace) -> int | None:
    """Give the category id of a non-void pixel value, ``None`` if the value is illegal."""
    if value <= max(space.label_of) + 1:
        return value - 1 if value - 1 in space.label_of else None
    number, instance = divmod(value, _INSTANCES_PER_CLASS)
    category_id = number - 1
    if category_id not in space.label_of:
        return None
    is_thing = space.categories[space.label_of[category_id]].is_thing
    return category_id if is_thing or instance == 0 else None


def categories_of(
    name: str, labels: LabelVideo, space: LabelSpace, files: Sequence[str]
) -> dict[int, int | None]:
    """Give the category of every value of a video, whose label images have these names.

    Raises:
        ItemError: E132 for an illegal value.
    """
    categories = {value: category_of_value(value, space) for value in sorted(labels.values - {VOID})}
    for value, category_id in categories.items():
        if category_id is None:
            raise ItemError(
                "E132",
                f"{name}: value {value}: not void, not a class 1..{max(space.label_of) + 1}, "
                "not thing class * 100 + instance",
                files[labels.first_frame(value)],
            )
    return categories


def find_odd_values(
    name: str, labels: LabelVideo, space: LabelSpace, files: Sequence[str]
) -> Iterator[Finding]:
    """Warn of values that name an instance where there is none, or none where there is one."""
    for value in sorted(labels.values - {VOID}):
        category_id = category_of_value(value, space)
        is_bare = value <= max(space.label_of) + 1
        if category_id is not None and is_bare == space.categories[space.label_of[category_id]].is_thing:
            problem = "thing class without an instance" if is_bare else "stuff class with an instance"
            message = f"{name}: value {value}: {problem} number, kept as one object"
            yield Finding(code="W133", message=message, file=files[labels.first_frame(value)])
