"""What a release holds, in numbers: for people who look before they train.

Counts come from the index and cover the whole release; what only records tell (areas of masks, states,
lengths of expressions) is measured on samples spread evenly over it.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pycocotools import mask as coco_mask

from univs.data.release import Release
from univs.schema import VideoRecord

MAX_RECORDS = 2000
"""Records read at most."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseStatistics:
    """Distributions over a release."""

    num_records: int
    """Samples whose records were read for areas, states and expressions."""
    frames_per_item: tuple[int, ...]
    objects_per_item: tuple[int, ...]
    sizes: Mapping[str, int]
    """Samples by width x height, most frequent first."""
    categories: Mapping[str, int]
    """Samples that show a category, by its name, most frequent first; also those of no sample."""
    warnings: Mapping[str, int]
    """Samples by the code of a warning about their item."""
    mask_areas: tuple[float, ...]
    """Share of the frame each mask covers, 0..1."""
    states: Mapping[str, int]
    """Frames of objects by state letter."""
    expression_words: tuple[int, ...]
    """Words of each expression."""

    def summary(self) -> dict[str, float]:
        """Give median and extremes of each distribution by a name that a tracking server takes."""
        named: dict[str, Sequence[float]] = {
            "frames_per_item": self.frames_per_item,
            "objects_per_item": self.objects_per_item,
            "mask_area": self.mask_areas,
            "expression_words": self.expression_words,
        }
        shares = {"min": 0.0, "median": 0.5, "max": 1.0}
        return {
            f"{name}/{part}": float(np.quantile(values, share))
            for name, values in named.items()
            if len(values)
            for part, share in shares.items()
        }


def measure_release(release: Release, max_records: int = MAX_RECORDS) -> ReleaseStatistics:
    """Measure a release; equal releases give equal numbers."""
    rows = release.rows
    records = [release.read_record(index) for index in spread(len(rows), max_records)]
    item_ids, chunks = rows.column("item_id"), rows.column("chunk_index")
    frames: Counter[str] = Counter()
    for item_id, sizes in zip(item_ids, rows.column("frame_sizes"), strict=True):
        frames[item_id] += len(sizes)
    objects = zip(chunks, rows.column("num_objects"), strict=True)
    shapes = zip(rows.column("width"), rows.column("height"), strict=True)
    return ReleaseStatistics(
        num_records=len(records),
        frames_per_item=tuple(frames.values()),
        objects_per_item=tuple(count for chunk, count in objects if chunk == 0),
        sizes=_ranked(f"{width} x {height}" for width, height in shapes),
        categories=_category_counts(release),
        warnings=_ranked(code for codes in rows.column("flags") for code in codes),
        mask_areas=tuple(area for record in records for area in mask_areas(record)),
        states=_ranked(state for record in records for track in record.objects for state in track.states),
        expression_words=tuple(
            len(expression.text.split()) for record in records for expression in record.expressions
        ),
    )


def spread(length: int, count: int) -> list[int]:
    """Choose at most ``count`` positions out of ``length``, evenly, first and last among them."""
    chosen = np.linspace(0, length - 1, min(length, count)).round().astype(np.int64)
    return [int(position) for position in np.unique(chosen)]


def mask_areas(record: VideoRecord) -> list[float]:
    """Give the share of the frame that each mask of an object covers."""
    size = [record.height, record.width]
    masks = [counts for track in record.objects for counts in track.rles if counts is not None]
    areas = coco_mask.area([{"size": size, "counts": counts} for counts in masks]) if masks else []
    return [int(area) / (record.height * record.width) for area in areas]


def _category_counts(release: Release) -> dict[str, int]:
    space = release.manifest.label_space
    if space is None:
        return {}
    counts = Counter(i for ids in release.rows.column("category_ids") for i in ids)
    named = {category.name: counts[category.category_id] for category in space.categories}
    return dict(sorted(named.items(), key=lambda pair: -pair[1]))


def _ranked(values: Iterable[str]) -> dict[str, int]:
    return dict(sorted(Counter(values).items(), key=lambda pair: (-pair[1], pair[0])))
