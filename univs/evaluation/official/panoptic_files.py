"""Segments as COCO panoptic and its kin store them: lists in a JSON file, ids as colors of PNGs.

An item is an image, or a video with one row and one PNG per frame. Colors are segment ids,
R + 256 G + 65536 B; 0 is void. Legend: T frames, G true segments, P predicted segments.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from univs.evaluation.confusion import Runs, find_runs
from univs.evaluation.histogram import NUM_IDS, SPECIAL, UNLISTED, Listing, SegmentPairs, count_id_pairs
from univs.evaluation.official.case import Comparison
from univs.evaluation.official.files import (
    check_size,
    field_of,
    name_some,
    read_colors,
    read_frame,
    spread,
    to_ids,
)
from univs.evaluation.panoptic import PanopticPartial, evaluate_panoptic
from univs.labels import Category, LabelSpace
from univs.predictions import PanopticVideo, Segment

NUMBER = (int, float)


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticSide:
    """Truth or prediction of one item."""

    source: Path
    """The JSON file that its rows come from."""
    rows: tuple[Mapping[str, Any], ...]
    """Per frame, the object that has ``segments_info``."""
    pngs: tuple[Path | None, ...]
    """Per frame; ``None`` where nothing is predicted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticItem:
    """Both sides of one item, in equally many frames."""

    name: str
    truth: PanopticSide
    prediction: PanopticSide


AREAS = "annotated-areas"
"""The quirk, to be mended, that areas of true segments are taken from the JSON."""
NOTHING: Mapping[str, Any] = {"segments_info": []}
"""The row of a frame in which nothing is predicted."""


def read_label_space(body: Mapping[str, Any], name: str, path: Path) -> LabelSpace:
    """Take the categories of a ground-truth file.

    Raises:
        ValueError: there are none, an id is there twice, or fields are missing or of a wrong type.
    """
    found = {}
    for place, row in enumerate(field_of(body, "categories", list, str(path))):
        where = f"{path}: categories[{place}]"
        category = Category(
            category_id=field_of(row, "id", int, where),
            name=field_of(row, "name", str, where),
            is_thing=bool(field_of(row, "isthing", int, where)),
        )
        found[category.category_id] = category
    if not found:
        raise ValueError(f"{path}: no category, expected those of {name}")
    return LabelSpace(name=name, categories=tuple(found[number] for number in sorted(found)))


def index_rows(body: Any, key: str, path: Path) -> dict[Any, Mapping[str, Any]]:
    """Give the ``annotations`` of a file by the id of their item.

    Raises:
        ValueError: an item is there twice, or fields are missing or of a wrong type.
    """
    found: dict[Any, Mapping[str, Any]] = {}
    for place, row in enumerate(field_of(body, "annotations", list, str(path))):
        number = field_of(row, key, (int, str), f"{path}: annotations[{place}]")
        if number in found:
            raise ValueError(f"{path}: {key} {number!r} is there twice, expected each once; remove one")
        found[number] = row
    return found


def refuse_unknown(
    path: Path, found: Mapping[Any, object], expected: Mapping[Any, object], word: str
) -> None:
    """Refuse predictions for items that are not in the ground truth.

    Raises:
        ValueError: there are some.
    """
    unknown = [str(number) for number in found if number not in expected]
    if unknown:
        raise ValueError(
            f"{path}: {word} {name_some(unknown)}: not in the ground truth, which has {len(expected)}; "
            "is it another split's?"
        )


def pngs_in(folder: Path, names: Sequence[str]) -> tuple[Path | None, ...]:
    """Give the path of each PNG, ``None`` for those that are not there."""
    try:
        present = {entry.name for entry in os.scandir(folder)}
    except FileNotFoundError:
        present = set()
    return tuple(folder / name if name in present else None for name in names)


def need_pngs(folder: Path, names: Sequence[str]) -> tuple[Path, ...]:
    """Give the path of each PNG of the ground truth.

    Raises:
        ValueError: one is not there.
    """
    paths = pngs_in(folder, names)
    lost = [name for name, path in zip(names, paths, strict=True) if path is None]
    if lost:
        raise ValueError(
            f"{folder}: no {name_some(lost)}, expected a PNG of the ground truth; unpack it again"
        )
    return tuple(path for path in paths if path is not None)


def pair_segments(item: PanopticItem, labels: LabelSpace, count_areas: bool) -> SegmentPairs:
    """Read an item and count how its segments overlap, frame by frame.

    Args:
        item: What to read.
        labels: Categories of the ground truth.
        count_areas: Count the areas of true segments rather than trust their annotation.

    Raises:
        ValueError: a file does not hold what it should, or a list of segments is not what its PNG shows.
    """
    truth = list_segments(item.truth, labels, with_areas=not count_areas)
    prediction = list_segments(item.prediction, labels, with_areas=False)
    frames = (_id_runs(find_runs(*read_maps(item, frame))) for frame in range(len(item.truth.rows)))
    counts = count_id_pairs(item.name, truth.segment_ids, prediction.segment_ids, frames)
    _check_shown(item.prediction, prediction, counts)
    return SegmentPairs(video_id=item.name, truth=truth, prediction=prediction, counts=counts)


def match_segments(
    item: PanopticItem, pairs: SegmentPairs, labels: LabelSpace, windows: Sequence[int] = (1,)
) -> PanopticPartial:
    """Match the paired segments of an item.

    Raises:
        ValueError: an annotated area is so wrong that an IoU exceeds 1.
    """
    try:
        return evaluate_panoptic(pairs, len(labels.categories), windows)
    except ValueError as error:
        raise ValueError(f"{item.truth.source}: {error} (--mend {AREAS})") from error


def list_segments(side: PanopticSide, labels: LabelSpace, *, with_areas: bool) -> Listing:
    """List the segments of a side, frame by frame.

    Raises:
        ValueError: a segment is listed twice in a frame, has an unknown category, or fields are missing or of
            a wrong type.
    """
    places: dict[int, int] = {}
    entries: list[tuple[int, int, int, bool, int, int]] = []
    for frame, row in enumerate(side.rows):
        listed: set[int] = set()
        where = f"{side.source}: {row.get('file_name') or row.get('image_id') or f'frame {frame}'}"
        for rank, info in enumerate(field_of(row, "segments_info", list, where)):
            number, label, is_crowd, area = _read_segment(info, labels, where, with_areas)
            if number in listed:
                raise ValueError(f"{where}: segment {number} is listed twice, expected once; remove one")
            listed.add(number)
            place = places.setdefault(number, len(places))
            entries.append((frame, place, label, is_crowd, rank, area))
    return _to_listing(tuple(places), entries, len(side.rows), with_areas)


def read_maps(item: PanopticItem, frame: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read true and predicted colors of a frame, [H, W, 3] each.

    Raises:
        ValueError: a PNG is not readable or not of the ground truth's size.
    """
    true_path, path = item.truth.pngs[frame], item.prediction.pngs[frame]
    assert true_path is not None
    true = read_colors(true_path)
    if path is None:
        return true, np.zeros_like(true)
    predicted = read_colors(path)
    check_size(path, predicted.shape, true.shape)
    return true, predicted


def show_item(
    item: PanopticItem, labels: LabelSpace, num_frames: int, pictures: Sequence[Path]
) -> Comparison:
    """Read some frames of an item with both maps; ``pictures`` has a path per frame."""
    frames = [int(frame) for frame in spread([str(frame) for frame in range(len(pictures))], num_frames)]
    maps = [read_maps(item, frame) for frame in frames]
    true, predicted = (np.stack([to_ids(colors) for colors in side]) for side in zip(*maps, strict=True))
    return Comparison(
        truth=PanopticVideo(video_id=item.name, maps=true, segments=_segments(item.truth, labels)),
        prediction=PanopticVideo(
            video_id=item.name, maps=predicted, segments=_segments(item.prediction, labels)
        ),
        frames=[read_frame(pictures[frame], true.shape[1:]) for frame in frames],
        labels=labels,
    )


def _id_runs(runs: Runs) -> Runs:
    return Runs(left=to_ids(runs.left), right=to_ids(runs.right), lengths=runs.lengths)


def _read_segment(
    info: Mapping[str, Any], labels: LabelSpace, where: str, with_area: bool
) -> tuple[int, int, bool, int]:
    """Give id, label, crowd flag and annotated area (0 unless asked for)."""
    number = field_of(info, "id", int, f"{where}: segment")
    if not 0 < number < NUM_IDS:
        raise ValueError(f"{where}: segment id {number}, expected 1..{NUM_IDS - 1}, as colors hold them")
    category = field_of(info, "category_id", int, f"{where}: segment {number}")
    if category not in labels.label_of:
        raise ValueError(
            f"{where}: segment {number} has category_id {category}, expected one of the "
            f"{len(labels.categories)} of the ground truth, {min(labels.label_of)}..{max(labels.label_of)}"
        )
    area = field_of(info, "area", NUMBER, f"{where}: segment {number}") if with_area else 0
    return number, labels.label_of[category], info.get("iscrowd", 0) == 1, int(area)


def _to_listing(
    segment_ids: tuple[int, ...],
    entries: Sequence[tuple[int, int, int, bool, int, int]],
    num_frames: int,
    with_areas: bool,
) -> Listing:
    shape = (num_frames, len(segment_ids))
    frames, places, labels, crowds, ranks, areas = np.asarray(entries, np.int64).reshape(-1, 6).T
    values = np.zeros((4, *shape), np.int64)
    values[0] = UNLISTED
    for target, source in zip(values, (labels, crowds, ranks, areas), strict=True):
        target[frames, places] = source
    return Listing(
        segment_ids=segment_ids,
        labels=values[0],
        is_crowd=values[1].astype(bool),
        ranks=values[2],
        areas=values[3] if with_areas else None,
    )


def _check_shown(side: PanopticSide, listing: Listing, counts: NDArray[np.int64]) -> None:
    """Refuse predictions whose lists differ from what their PNGs show, as the official tools do."""
    unlisted = counts[:, :, 0].any(axis=1)
    shown = counts[:, :, SPECIAL:].any(axis=1)
    wrong = np.flatnonzero(unlisted | (shown != (listing.labels > UNLISTED)).any(axis=1))
    if not wrong.size:
        return
    frame = wrong[0]
    path = side.pngs[frame]
    assert path is not None
    ids = set(np.unique(to_ids(read_colors(path))).tolist()) - {0}
    listed = {listing.segment_ids[s] for s in np.flatnonzero(listing.labels[frame] > UNLISTED)}
    if ids - listed:
        raise ValueError(
            f"{path}: has segment ids {_name_ids(ids - listed)} that {side.source} does not list for it; "
            "list every segment"
        )
    raise ValueError(
        f"{side.source}: lists segment ids {_name_ids(listed - ids)} that {path} does not show; "
        "list only segments that have pixels"
    )


def _name_ids(ids: set[int]) -> str:
    return name_some([str(number) for number in sorted(ids)])


def _segments(side: PanopticSide, labels: LabelSpace) -> tuple[Segment, ...]:
    """List segments once, with the class of their first frame."""
    listing = list_segments(side, labels, with_areas=False)
    first = (listing.labels > UNLISTED).argmax(axis=0) if listing.segment_ids else ()
    return tuple(
        Segment(
            segment_id=number,
            label=int(listing.labels[frame, place]),
            is_crowd=bool(listing.is_crowd[frame, place]),
        )
        for place, (number, frame) in enumerate(zip(listing.segment_ids, first, strict=True))
    )
