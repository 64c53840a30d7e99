"""A contact sheet of a release: samples with masks, prompts and expressions, and its statistics as plots.

People look before they train. The page is one file that needs no network.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from jobs.artifacts import PREVIEW_NAME, digest_release
from jobs.pages import photograph, plot, render_page
from jobs.report import Media
from jobs.tracking import Tracking
from preprocessing.atomic import atomic_write
from preprocessing.errors import REASONS, WARNINGS
from univs.data.pictures import SamplePicture, draw_sample
from univs.data.release import Release
from univs.data.statistics import ReleaseStatistics, measure_release, spread
from univs.draw import bars, color_of, histogram
from univs.schema import VISIBLE, Manifest, VideoRecord

PREVIEW_EXPERIMENT = "preprocessing"
"""MLflow experiment of releases."""
_MAX_BARS = 40
_STATE_NAMES = {VISIBLE: "visible", "A": "absent", "U": "not annotated", "I": "not judged"}
_COUNTS = ("num_items", "num_samples", "num_frames", "num_objects", "num_expressions")


@dataclass(frozen=True, kw_only=True, slots=True)
class PreviewConfig:
    """A contact sheet of a release that is already built."""

    release: Path
    """Folder of the release; the page is written into it."""
    preview: int = 24
    """Samples to draw."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Preview:
    """A finished page, and the numbers in it."""

    html: str
    summary: Mapping[str, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sample:
    picture: SamplePicture
    images: tuple[Media, ...]
    prompts: str


def write_preview(folder: Path, num_samples: int) -> Preview:
    """Draw ``num_samples`` samples spread evenly over a release into ``preview.html`` in its folder.

    Raises:
        ValueError: the release is not whole.
    """
    release = Release.open(folder)
    statistics = measure_release(release)
    html = _render(release, statistics, num_samples)
    with atomic_write(folder / PREVIEW_NAME) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Preview(html=html, summary=statistics.summary())


def log_preview(
    preview: Preview, manifest: Manifest, config: object, tracking: Tracking, folder: Path
) -> str:
    """Log configuration, counts and page of a release to its MLflow run; give the run's id.

    ``folder`` takes a copy of the page for the time of the upload: the release may lie on other machines.
    """
    name = f"{manifest.dataset}/{manifest.split}"
    tags = {"univs.plan": manifest.plan_digest}
    run_id = tracking.start_run(name, key=f"release/{digest_release(manifest)}", tags=tags)
    tracking.log_config(run_id, config)
    counts = {count: float(getattr(manifest, count)) for count in _COUNTS}
    codes = {f"rejects/{code}": float(count) for code, count in manifest.rejects.items()}
    codes |= {f"warnings/{code}": float(count) for code, count in manifest.warnings.items()}
    tracking.log_metrics(run_id, {**counts, **codes, **preview.summary}, step=0)
    page = folder / PREVIEW_NAME
    page.write_text(preview.html, encoding="utf-8")
    tracking.log_artifact(run_id, page)
    tracking.finish(run_id)
    return run_id


def _render(release: Release, statistics: ReleaseStatistics, num_samples: int) -> str:
    samples = [_draw(release, row) for row in spread(len(release.rows), num_samples)] if num_samples else []
    return render_page(
        "preview.html",
        manifest=release.manifest,
        statistics=statistics,
        plots=tuple(_plots(statistics)),
        samples=samples,
        reasons={**REASONS, **WARNINGS},
        colors=color_of,
    )


def _draw(release: Release, row_index: int) -> _Sample:
    picture = draw_sample(release, row_index)
    return _Sample(
        picture=picture,
        images=tuple(photograph(frame, caption) for caption, frame in picture.frames),
        prompts=_describe_prompts(picture.record),
    )


def _describe_prompts(record: VideoRecord) -> str:
    counts = Counter(prompt.kind for prompt in record.prompts)
    return "official prompts: " + ", ".join(f"{count} x {kind}" for kind, count in counts.items())


def _plots(statistics: ReleaseStatistics) -> Iterator[Media]:
    distributions = {
        "objects per item": statistics.objects_per_item,
        "frames per item": statistics.frames_per_item,
        "mask area, percent of the frame": [100 * area for area in statistics.mask_areas],
        "words per expression": statistics.expression_words,
    }
    for caption, values in distributions.items():
        if len(values):
            yield plot(histogram(values, caption, ("", "count")), caption)
    states = {_STATE_NAMES[letter]: count for letter, count in statistics.states.items()}
    counts = {"states of objects, frames": states, "sizes, samples": statistics.sizes}
    counts["categories, samples"] = statistics.categories
    for caption, numbers in counts.items():
        if numbers:
            yield plot(bars(_first(numbers), _count_title(caption, numbers), ""), caption)


def _first(numbers: Mapping[str, int]) -> dict[str, float]:
    return dict(islice(numbers.items(), _MAX_BARS))


def _count_title(caption: str, numbers: Mapping[str, int]) -> str:
    if len(numbers) <= _MAX_BARS:
        return caption
    missing = sum(not count for count in numbers.values())
    return f"{caption}: the {_MAX_BARS} most frequent of {len(numbers)}, {missing} without any"
