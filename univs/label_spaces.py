"""The label spaces that the released weights were trained with, and the texts that stand for categories.

The tables lie in ``category_tables``, whose notice names their origin. Their rows, one table after the
other, are the rows of the original's combined text bank.
"""

import csv
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from univs.labels import Category, LabelSpace

TABLES = (
    "imagenet",
    "lvis",
    "ytvis_2021",
    "ovis",
    "bdd_track",
    "objects365",
    "coco_panoptic",
    "ade20k",
    "vipseg",
    "ytvis_2019",
    "entityseg_instance",
    "entityseg_panoptic",
)
"""Table names in the order of the combined bank."""
SHARED_TABLES = {"burst": "lvis", "coco": "coco_panoptic", "vspw": "vipseg", "viposeg": "vipseg"}
"""Label spaces without a table of their own, and the table whose rows they use."""
NUM_COCO_THINGS = 80
"""The instance classes of COCO come first in its panoptic table."""
CLEANING = str.maketrans(dict.fromkeys("0123456789.,'!?\"()*#:;") | dict.fromkeys("_-/", " "))


@dataclass(frozen=True, kw_only=True, slots=True)
class BuiltinSpace:
    """A category table that the released weights know."""

    labels: LabelSpace
    texts: tuple[str, ...]
    """What the text tower encodes for each category: its name, in LVIS with its definition."""
    first_row: int
    """Row of the first category in the combined bank."""


@cache
def builtin_spaces() -> dict[str, BuiltinSpace]:
    """Read the tables: label spaces by name, in the order of the combined bank."""
    spaces, first_row = {}, 0
    for name in TABLES:
        categories, texts = _read_table(name)
        labels = LabelSpace(name=name, categories=categories)
        spaces[name] = BuiltinSpace(labels=labels, texts=texts, first_row=first_row)
        first_row += len(texts)
    return spaces


def bank_rows(name: str) -> tuple[int, int]:
    """Give the first row and the number of rows of a label space in the combined bank.

    Label l of the space has row first + l; BURST's categories have the rows of their LVIS namesakes.
    """
    space = _space_of(name)
    if space is None:
        known = ", ".join([*TABLES, *SHARED_TABLES])
        raise ValueError(f"label space {name!r} has no rows in the combined bank, expected one of {known}")
    return space.first_row, NUM_COCO_THINGS if name == "coco" else len(space.texts)


def combined_texts() -> tuple[str, ...]:
    """List the texts of all rows of the combined bank."""
    return tuple(text for space in builtin_spaces().values() for text in space.texts)


def category_texts(labels: LabelSpace) -> tuple[str, ...]:
    """Give the texts that stand for the categories of a label space, in label order.

    A name that the built-in table of the space holds, or that lists a name it holds among synonyms, gets the
    text that the released weights were trained with; any other is cleaned.
    """
    space = _space_of(labels.name)
    known = {} if space is None else dict(zip(map(clean_text, space.labels.names), space.texts, strict=True))
    return tuple(_known_text(name, known) for name in labels.names)


def pinned_names(labels: LabelSpace) -> Mapping[int, str]:
    """Give the names of the table that the released weights know, by the ids of a label space of that name.

    It is empty where there is none: BURST's ids are LVIS 0.5's. VSPW counts the classes of VIPSeg from 1.
    """
    space = _space_of(labels.name)
    if space is None or labels.name == "burst" or not labels.categories:
        return {}
    table = space.labels.categories[: NUM_COCO_THINGS if labels.name == "coco" else None]
    is_shared = labels.name in SHARED_TABLES
    shift = labels.categories[0].category_id - table[0].category_id if is_shared else 0
    return {category.category_id + shift: category.name for category in table}


def clean_forms(name: str) -> frozenset[str]:
    """Clean a name, and each of the synonyms that it may list (ADE20K's ``building, edifice``)."""
    return frozenset(map(clean_text, (name, *re.split("[,;]", name))))


def _known_text(name: str, known: Mapping[str, str]) -> str:
    forms = map(clean_text, (name, *re.split("[,;]", name)))
    return next((known[form] for form in forms if form in known), clean_text(name))


def clean_text(text: str) -> str:
    """Reduce a name or an expression to lower-case words, as the original does before it encodes any.

    Digits and punctuation go; underscores, hyphens and slashes part words.
    """
    return " ".join(text.lower().translate(CLEANING).split())


def _space_of(name: str) -> BuiltinSpace | None:
    return builtin_spaces().get(SHARED_TABLES.get(name, name))


def _read_table(name: str) -> tuple[tuple[Category, ...], tuple[str, ...]]:
    """Read the categories and cleaned texts of one table.

    Without a ``kind`` all are things; without a ``text`` it is the name, which a text with a colon follows.
    """
    lines = (files("univs") / "category_tables" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    categories = tuple(
        Category(category_id=int(row["id"]), name=row["name"], is_thing=row.get("kind", "thing") == "thing")
        for row in rows
    )
    return categories, tuple(clean_text(_text(row["name"], row.get("text") or "")) for row in rows)


def _text(name: str, text: str) -> str:
    return name + text if text.startswith(":") else text or name
