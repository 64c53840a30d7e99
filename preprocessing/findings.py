"""Gather warnings about one item: one per code, whatever the number of objects and frames it holds for."""

from collections.abc import Iterable

from preprocessing.errors import WARNINGS, Finding


class FindingLog:
    """Keeps the first warning of each code and counts the others."""

    def __init__(self) -> None:
        self._first: dict[str, Finding] = {}
        self._counts: dict[str, int] = {}

    def add(self, code: str, message: str, file: str = "", pointer: str = "") -> None:
        """Take one warning.

        Raises:
            KeyError: the code is not one of ``WARNINGS``.
        """
        _ = WARNINGS[code]
        self._first.setdefault(code, Finding(code=code, message=message, file=file, pointer=pointer))
        self._counts[code] = self._counts.get(code, 0) + 1

    def findings(self) -> tuple[Finding, ...]:
        """Give one finding per code, by code; its message says how many more there are."""
        return tuple(_with_count(self._first[code], self._counts[code] - 1) for code in sorted(self._first))


def count_by_code(codes: Iterable[str]) -> dict[str, int]:
    """Count codes, in their order."""
    counts: dict[str, int] = {}
    for code in sorted(codes):
        counts[code] = counts.get(code, 0) + 1
    return counts


def _with_count(finding: Finding, num_more: int) -> Finding:
    if not num_more:
        return finding
    message = f"{finding.message} (and {num_more} more like it)"
    return Finding(code=finding.code, message=message, file=finding.file, pointer=finding.pointer)
