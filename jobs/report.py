"""The report of an evaluation or a whole curriculum: `report.json` for machines, `report.html` for people.

The HTML is one self-contained file: pictures, plots and videos are embedded, so it can be mailed or archived.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import jinja2

from preprocessing.atomic import atomic_write

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""benchmark -> metric -> column (``untrained``, ``stage1``, ...) -> value."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Media:
    """One embedded picture, plot or video."""

    caption: str
    mime: str
    """``image/png``, ``image/jpeg``, ``image/svg+xml`` or ``video/mp4``."""
    content: bytes

    @property
    def uri(self) -> str:
        """The content as a data URI."""
        return f"data:{self.mime};base64,{base64.b64encode(self.content).decode()}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Report:
    """Everything a report shows."""

    title: str
    columns: tuple[str, ...]
    scores: Scores
    primary: Mapping[str, str]
    """The metric each benchmark is judged by."""
    facts: Mapping[str, str]
    """Commit, hardware, sizes: shown as a table at the end."""
    plots: tuple[Media, ...] = ()
    overlays: tuple[Media, ...] = ()
    seconds: float
    peak_rss_bytes: int
    mlflow_uri: str


def write_report(out: Path, report: Report) -> None:
    """Write ``report.json`` and ``report.html`` under ``out``, each whole or not at all."""
    body = {
        "benchmarks": report.scores,
        "seconds": round(report.seconds, 1),
        "peak_rss_bytes": report.peak_rss_bytes,
        "mlflow_uri": report.mlflow_uri,
        "facts": dict(report.facts),
    }
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(out / "report.html") as temporary:
        temporary.write_text(_render(report), encoding="utf-8")
    with atomic_write(out / "report.json") as temporary:
        temporary.write_text(json.dumps(body, indent=2, sort_keys=True, allow_nan=False) + "\n")


def score_table(report: Report) -> str:
    """Lay the scores out as plain text for a terminal, one row per benchmark and metric."""
    header = f"{'benchmark':<16}{'metric':<10}" + "".join(f"{name:>12}" for name in report.columns)
    rows = [
        f"{benchmark:<16}{metric:<10}" + "".join(_cell(values, name) for name in report.columns)
        for benchmark, metrics in report.scores.items()
        for metric, values in metrics.items()
    ]
    return "\n".join([header, "-" * len(header), *rows])


def _cell(values: Mapping[str, float], column: str) -> str:
    return f"{values[column]:>12.1f}" if column in values else f"{'-':>12}"


def _render(report: Report) -> str:
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.get_template("report.html").render(report=report)
