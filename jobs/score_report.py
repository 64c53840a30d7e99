"""What is left of a scoring: ``scores.json`` for machines and, beside it, ``scores.html`` for people."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jobs.artifacts import code_commit
from jobs.pages import photograph, plot, render_page
from jobs.report import Media
from jobs.scoring import Scored
from preprocessing.atomic import atomic_write
from univs.draw import Frame, bars, histogram
from univs.evaluation.official.case import Comparison
from univs.evaluation.pictures import draw_comparison, thin_out

_FRAMES_PER_ITEM = 3
_SIDE_PX = 300
"""About the longer side of a drawn frame: large ones are thinned out, small ones enlarged."""
_BARS_PER_PLOT, _MAX_BARS = 40, 160


@dataclass(frozen=True, kw_only=True, slots=True)
class _Drawn:
    name: str
    primary: float
    pictures: tuple[Media, ...]


def write_scores(scored: Scored) -> Path:
    """Write JSON and HTML, each whole or not at all; give the path of the HTML."""
    out = scored.config.out
    page = out.with_suffix(".html")
    html = _render(scored)
    with atomic_write(page) as temporary:
        temporary.write_text(html, encoding="utf-8")
    with atomic_write(out) as temporary:
        temporary.write_text(json.dumps(scores_body(scored), indent=1, allow_nan=False) + "\n")
    return page


def scores_body(scored: Scored) -> dict[str, Any]:
    """Lay everything out as JSON: NaN is null, and infinity, which a rate may be, the text ``inf``."""
    benchmark, config, scores = scored.benchmark, scored.config, scored.scores
    commit = code_commit()
    return {
        "benchmark": benchmark.name,
        "title": benchmark.title,
        "primary": benchmark.primary,
        "units": {metric: unit_of(scored, metric) for metric in scores.values},
        "scores": _plain(scores.values),
        "mends": list(config.mend),
        "missing": list(scored.case.missing),
        "missing_policy": config.missing,
        "counts": {
            "items": len(scored.case.names),
            "missing": len(scored.case.missing),
            "classes": len(scores.classes),
        },
        "items": {name: _plain(values) for name, values in scores.items.items()},
        "classes": {name: _plain(values) for name, values in scores.classes.items()},
        "gt": str(config.gt),
        "pred": str(config.pred),
        "jobs": config.jobs,
        "seconds": round(scored.seconds, 3),
        "commit": None if commit == "unknown" else commit,
    }


def scores_table(scored: Scored) -> str:
    """Lay the scores out as plain text for a terminal."""
    width = max(len(metric) for metric in scored.scores.values)
    rows = [
        f"{metric:<{width}}{_cell(value)}{'' if unit_of(scored, metric) == 'percent' else '  rate'}"
        for metric, value in scored.scores.values.items()
    ]
    empty = f", {len(scored.case.missing)} not predicted, scored as empty" if scored.case.missing else ""
    title = f"{scored.benchmark.title}: {len(scored.case.names)} items{empty}, percent"
    return "\n".join([title, "-" * (width + 12), *rows])


def unit_of(scored: Scored, metric: str) -> str:
    """Name the unit of a metric."""
    return "rate" if metric in scored.benchmark.rates else "percent"


def _cell(value: float) -> str:
    return f"{'-':>12}" if math.isnan(value) else f"{value:>12.3f}"


def _plain(values: Mapping[str, float]) -> dict[str, float | str | None]:
    return {metric: _plain_number(float(value)) for metric, value in values.items()}


def _plain_number(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def _render(scored: Scored) -> str:
    return render_page(
        "scores.html",
        scored=scored,
        units={metric: unit_of(scored, metric) for metric in scored.scores.values},
        commit=code_commit(),
        sort_key=_sort_key,
        plots=tuple(_plots(scored)),
        worst=tuple(_worst(scored)),
        item_metrics=_metrics_of(scored.scores.items),
        class_metrics=_metrics_of(scored.scores.classes),
    )


def _sort_key(value: float | None) -> str:
    """Write a number as JavaScript reads it; what was not measured is no number."""
    if value is None or math.isnan(value):
        return ""
    return str(value).replace("inf", "Infinity")


def _metrics_of(rows: Mapping[str, Mapping[str, float]]) -> list[str]:
    """List every metric that some row has, in the order of the rows."""
    return list(dict.fromkeys(metric for values in rows.values() for metric in values))


def _plots(scored: Scored) -> Iterator[Media]:
    primary = scored.benchmark.primary
    measured = [value for _, value in _ranked(scored.scores.items, primary)]
    if measured:
        caption = f"{primary} of the items"
        axes = (f"{primary}, percent", "items")
        yield plot(histogram(measured, caption, axes, is_logarithmic=False), caption)
    by_class = _class_metric(scored)
    ranked = _ranked(scored.scores.classes, by_class)[:_MAX_BARS]
    for start in range(0, len(ranked), _BARS_PER_PLOT):
        part = dict(ranked[start : start + _BARS_PER_PLOT])
        end = start + len(part)
        caption = f"{by_class} of classes {start + 1} to {end} of {len(scored.scores.classes)}, lowest first"
        yield plot(bars(part, caption, f"{by_class}, percent", is_logarithmic=False), caption)


def _class_metric(scored: Scored) -> str:
    metrics = _metrics_of(scored.scores.classes)
    primary = scored.benchmark.primary
    return primary if primary in metrics or not metrics else metrics[0]


def _ranked(rows: Mapping[str, Mapping[str, float]], metric: str) -> list[tuple[str, float]]:
    """Order rows from the lowest value up; what was not measured has no rank."""
    found = [(name, values[metric]) for name, values in rows.items() if metric in values]
    return sorted(((name, value) for name, value in found if math.isfinite(value)), key=lambda row: row[1])


def _worst(scored: Scored) -> Iterator[_Drawn]:
    position = {name: index for index, name in enumerate(scored.case.names)}
    ranked = _ranked(scored.scores.items, scored.benchmark.primary)
    for name, value in [row for row in ranked if row[0] in position][: scored.config.pictures]:
        pictures = _draw(scored.case.show(position[name], _FRAMES_PER_ITEM))
        media = tuple(photograph(picture, f"{name}: truth and prediction") for picture in pictures)
        yield _Drawn(name=name, primary=value, pictures=media)


def _draw(comparison: Comparison) -> list[Frame]:
    side = max(comparison.frames[0].shape[:2])
    step, factor = max(1, round(side / _SIDE_PX)), max(1, round(_SIDE_PX / side))
    return draw_comparison(
        thin_out(comparison.truth, step),
        thin_out(comparison.prediction, step),
        [frame[::step, ::step] for frame in comparison.frames],
        comparison.labels,
        factor,
    )
