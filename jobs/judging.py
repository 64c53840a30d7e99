"""Decide whether a release is good enough: how many items are unusable, and is it the official data."""

import logging
from collections.abc import Sequence
from typing import Literal

from jobs.errors import UserError
from preprocessing.errors import REASONS, WARNINGS, BuildError, Problem
from preprocessing.expectations import count_differences
from preprocessing.findings import count_by_code
from preprocessing.sources.source import ExpectedCounts, SourceSpec
from univs.label_spaces import clean_forms, pinned_names
from univs.labels import LabelSpace
from univs.schema import Manifest

logger = logging.getLogger(__name__)

Officialness = Literal["ignore", "warn", "require"]
"""What to do where counts or categories are not those of the official release."""

_MESSAGES_SHOWN = 3


def judge_rejects(rejects: Sequence[Problem], num_items: int, max_rate: float) -> None:
    """Report unusable items.

    Raises:
        UserError: they are more than the allowed share.
    """
    if not rejects:
        return
    summary = f"{len(rejects)} of {num_items} items are unusable: {summarize_rejects(rejects)}"
    if len(rejects) > max_rate * num_items:
        raise UserError(
            f"{summary}; at most {max_rate:.2%} may be; "
            "repair the source and run the same command again, or raise --max-reject-rate"
        )
    logger.warning("%s", summary)


def summarize_rejects(rejects: Sequence[Problem]) -> str:
    """Count rejects by code and quote the first messages."""
    counts = count_by_code(reject.code for reject in rejects)
    first = sorted(rejects, key=lambda reject: reject.item_id)[:_MESSAGES_SHOWN]
    codes = ", ".join(f"{code} {count} times ({REASONS[code]})" for code, count in counts.items())
    return f"{codes}; first: {'; '.join(f'{reject.code} {reject.message}' for reject in first)}"


def judge_counts(spec: SourceSpec, split: str, found: ExpectedCounts, officialness: Officialness) -> None:
    """Compare counts with the official ones, where the reader knows them.

    Raises:
        BuildError: E170, they differ and must not.
    """
    differences = count_differences(spec.counts.get(split, ExpectedCounts()), found)
    if differences:
        _judge(f"{spec.name} {split}: {'; '.join(differences)}", ("E170", "W171"), officialness)


def judge_categories(
    spec: SourceSpec, split: str, label_space: LabelSpace | None, officialness: Officialness
) -> None:
    """Compare a label space with the table of the same name that the released weights know.

    Raises:
        BuildError: E124, they differ and must not.
    """
    official = pinned_names(label_space) if label_space else {}
    if label_space is None or not official:
        return
    names = {category.category_id: category.name for category in label_space.categories}
    others = [i for i in names if clean_forms(names[i]).isdisjoint(clean_forms(official.get(i, "")))]
    if others:
        found = f"{len(others)} of {len(names)} differ, such as {others[0]} {names[others[0]]!r}"
        expected = f"official {official.get(others[0], 'none')!r}"
    elif len(names) != len(official):
        found, expected = f"{len(names)} categories", f"official {len(official)}"
    else:
        return
    _judge(f"{spec.name} {split}: {found}, {expected}", ("E124", "W124"), officialness)


def packed_counts(manifest: Manifest) -> ExpectedCounts:
    """Give the counts that only packing tells; items and frames are known from the plan."""
    return ExpectedCounts(num_objects=manifest.num_objects, num_expressions=manifest.num_expressions)


def _judge(difference: str, codes: tuple[str, str], officialness: Officialness) -> None:
    error_code, warning_code = codes
    if officialness == "require":
        raise BuildError(error_code, f"{difference}; complete the source, or pass --official warn")
    if officialness == "warn":
        logger.warning("%s %s: %s", warning_code, WARNINGS[warning_code], difference)
