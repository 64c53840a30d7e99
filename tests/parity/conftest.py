"""The table of worst errors that a run of the parity tests ends with."""

import pytest

WORST = pytest.StashKey[dict[tuple[str, str], float]]()


@pytest.fixture
def note_error(request):
    """Give a function that notes the error of an array of a case; the worst per case and group is shown."""
    worst = request.config.stash.setdefault(WORST, {})

    def note(case: str, group: str, error: float) -> None:
        worst[case, group] = max(error, worst.get((case, group), 0.0))

    return note


def pytest_terminal_summary(terminalreporter, config):
    """Write one row per group of arrays and one column per case."""
    worst = config.stash.get(WORST, {})
    if not worst:
        return
    terminalreporter.section("worst error over largest magnitude")
    cases, groups = (sorted({key[part] for key in worst}) for part in range(2))
    first = max(len(group) for group in groups)
    terminalreporter.write_line("  ".join([" " * first, *cases]))
    for group in groups:
        cells = [f"{worst[case, group]:.1e}" if (case, group) in worst else "" for case in cases]
        padded = [f"{cell:>{len(case)}}" for cell, case in zip(cells, cases, strict=True)]
        terminalreporter.write_line("  ".join([f"{group:<{first}}", *padded]))
