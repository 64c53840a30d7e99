"""Rows of ratios, each measured in one run: timing, printing and JSON."""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One comparison; less is better in both numbers."""

    name: str
    ours: float
    other: float
    unit: str
    note: str
    """What the other is."""

    @property
    def ratio(self) -> float:
        """How many times better ours is."""
        return self.other / self.ours


def time_all(
    functions: Mapping[str, Callable[[], object]],
    num_rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Give the shortest time of each function in seconds; they take turns, so that a busy spell hits all.

    ``time.process_time`` as clock leaves out what other processes take of a core.
    """
    best = dict.fromkeys(functions, float("inf"))
    for round_index in range(num_rounds + 1):
        for name, function in functions.items():
            start = clock()
            function()
            elapsed = clock() - start
            if round_index:  # the first round warms up
                best[name] = min(best[name], elapsed)
    return best


def parser(description: str | None) -> argparse.ArgumentParser:
    """Make a parser that knows ``--json FILE``."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--json", type=Path, help="also write the rows there")
    return made


def report(rows: Sequence[Row], path: Path | None) -> None:
    """Print rows as a table, and write them as JSON if a path is given."""
    width = max(len(row.name) for row in rows)
    print(f"{'':{width}}  {'ours':>9} {'other':>9} {'':4} {'ratio':>6}  other is")
    for row in rows:
        numbers = f"{row.ours:9.3f} {row.other:9.3f} {row.unit:4} {row.ratio:6.2f}"
        print(f"{row.name:{width}}  {numbers}  {row.note}")
    if path is not None:
        body = [{**asdict(row), "ratio": row.ratio} for row in rows]
        path.write_text(json.dumps(body, indent=1) + "\n")
