"""Compare what was found with what the dataset's authors say an official split holds."""

from dataclasses import fields
from math import floor

from preprocessing.errors import BuildError
from preprocessing.sources.source import ExpectedCounts, SourceSpec

_TOLERANCE = 0.005
"""Share by which frames, objects and expressions may differ: papers count them in different ways."""


def require_license(spec: SourceSpec) -> None:
    """Refuse a dataset whose terms nobody has written down.

    Raises:
        BuildError: E180.
    """
    if not spec.license.strip():
        raise BuildError(
            "E180", f"{spec.name}: its SourceSpec has no license; state the official terms there"
        )


def count_differences(expected: ExpectedCounts, found: ExpectedCounts) -> tuple[str, ...]:
    """Name each count that is not the official one; counts that either side lacks are not compared.

    Items must be exact, the others within half a percent.
    """
    differences = []
    for field in fields(ExpectedCounts):
        have, want = getattr(found, field.name), getattr(expected, field.name)
        slack = 0 if field.name == "num_items" else floor(_TOLERANCE * (want or 0))
        if have is not None and want is not None and abs(have - want) > slack:
            differences.append(f"{have:,} {field.name.removeprefix('num_')}, official {want:,}")
    return tuple(differences)
