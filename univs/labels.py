"""Label spaces: the category tables of datasets, and the 0-based labels the model uses for them."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Category:
    """One class of a dataset."""

    category_id: int
    """The dataset's own id."""
    name: str
    is_thing: bool


@dataclass(frozen=True, kw_only=True)
class LabelSpace:
    """A named category table. A category's *label* is its 0-based rank by id."""

    name: str
    categories: tuple[Category, ...]

    def __post_init__(self) -> None:
        """Refuse tables that are empty, unsorted or repeat an id."""
        ids = [category.category_id for category in self.categories]
        if not ids or ids != sorted(set(ids)):
            raise ValueError(
                f"label space {self.name!r}: ids must be unique, ascending and at least one, got {ids[:8]}"
            )

    @cached_property
    def label_of(self) -> dict[int, int]:
        """Map from the dataset's category id to the label."""
        return {category.category_id: label for label, category in enumerate(self.categories)}

    @property
    def names(self) -> tuple[str, ...]:
        """Category names in label order; what the text tower encodes."""
        return tuple(category.name for category in self.categories)

    @cached_property
    def distinct_names(self) -> tuple[str, ...]:
        """Category names in label order, with the category's id where a name is not unique."""
        seen = Counter(self.names)
        return tuple(c.name if seen[c.name] == 1 else f"{c.name} ({c.category_id})" for c in self.categories)

    @property
    def is_thing(self) -> tuple[bool, ...]:
        """Thing (counted) or stuff (uncounted), in label order."""
        return tuple(category.is_thing for category in self.categories)

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form kept in a release's manifest."""
        rows = [[c.category_id, c.name, c.is_thing] for c in self.categories]
        return {"name": self.name, "categories": rows}

    @classmethod
    def from_dict(cls, body: dict[str, Any]) -> "LabelSpace":
        """Read the JSON form kept in a release's manifest."""
        rows = tuple(Category(category_id=i, name=n, is_thing=t) for i, n, t in body["categories"])
        return cls(name=body["name"], categories=rows)
