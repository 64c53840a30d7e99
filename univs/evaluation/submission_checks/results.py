"""Results in one JSON file: YouTube-VIS, OVIS, COCO instances and BURST."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from univs.evaluation.official.files import field_of, name_some
from univs.evaluation.submission_checks.archive import Archive, single_json
from univs.evaluation.submission_checks.inputs import (
    Inputs,
    find_file,
    find_first,
    read_categories,
    read_rows,
)
from univs.evaluation.submission_checks.rows import (
    check_counts,
    check_mask,
    check_score,
    integer_of,
    member_of,
)

_VIS_FILES = (
    *("valid.json", "test.json", "instances.json", "valid/instances.json", "test/instances.json"),
    *("annotations_valid.json", "annotations_test.json"),
)
_COCO_FILES = tuple(
    f"{folder}{name}"
    for folder in ("", "annotations/")
    for name in ("image_info_*.json", "instances_val*.json")
)
_BURST_FILES = ("all_classes.json", "first_frame_annotations.json")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Item:
    """A video or image that results may name."""

    num_frames: int
    size: tuple[int, int]
    """Height, width."""


def check_youtube_vis(archive: Archive, inputs: Inputs) -> str:
    """Check ``results.json``: a list of tracks, one mask or null per frame."""
    path = find_file(inputs.root, _VIS_FILES, "JSON that lists the videos")
    body, rows = read_rows(path, "videos")
    categories, videos = read_categories(body, path), {}
    for n, row in enumerate(rows):
        where = f"{path}: videos[{n}]"
        size = integer_of(row, "height", where), integer_of(row, "width", where)
        num_frames = len(field_of(row, "file_names", list, where))
        videos[integer_of(row, "id", where)] = _Item(num_frames=num_frames, size=size)
    name = single_json(archive, "results.json")
    tracks = _read_list(archive, name)
    named = set()
    for n, row in enumerate(tracks):
        where = f"{archive.path}: {name}[{n}]"
        number = member_of(row, "video_id", videos, f"one of the {len(videos)} of {path.name}", where)
        _check_row(row, categories, where)
        _check_track(field_of(row, "segmentations", list, where), videos[number], where)
        named.add(number)
    return f"{len(videos)} videos ({len(videos) - len(named)} without a track), {len(tracks)} tracks"


def check_coco_instances(archive: Archive, inputs: Inputs) -> str:
    """Check one JSON file of any name: a list of masks with image, category and score."""
    path = find_file(inputs.root, _COCO_FILES, "JSON that lists the images")
    body, rows = read_rows(path, "images")
    categories, images = read_categories(body, path), {}
    for n, row in enumerate(rows):
        where = f"{path}: images[{n}]"
        size = integer_of(row, "height", where), integer_of(row, "width", where)
        images[integer_of(row, "id", where)] = _Item(num_frames=1, size=size)
    name = single_json(archive, None)
    found = _read_list(archive, name)
    named = set()
    for n, row in enumerate(found):
        where = f"{archive.path}: {name}[{n}]"
        number = member_of(row, "image_id", images, f"one of the {len(images)} of {path.name}", where)
        _check_row(row, categories, where)
        check_mask(field_of(row, "segmentation", dict, where), images[number].size, f"{where}: segmentation")
        named.add(number)
    return f"{len(images)} images ({len(images) - len(named)} without a mask), {len(found)} masks"


def check_burst(archive: Archive, inputs: Inputs) -> str:
    """Check one JSON file: every sequence, and for each annotated frame masks by track."""
    path = find_first(inputs.root, _BURST_FILES, "JSON of the sequences")
    body, sequences = read_rows(path, "sequences")
    categories = read_categories(body, path)
    name = single_json(archive, None)
    where = f"{archive.path}: {name}"
    rows = field_of(archive.read_json(name), "sequences", list, where)
    found = {_sequence_key(row, f"{where}: sequences[{n}]"): row for n, row in enumerate(rows)}
    known = {_sequence_key(row, str(path)): row for row in sequences}
    for kind, names in (("no", known.keys() - found.keys()), ("unknown", found.keys() - known.keys())):
        if names:
            raise ValueError(
                f"{where}: {kind} sequence {name_some(sorted(names))}, expected those of {path.name}"
            )
    num_masks = 0
    for key, truth in known.items():
        num_masks += _check_sequence(found[key], truth, categories, f"{where}: {key}")
    return f"{len(known)} sequences, {num_masks} masks"


def _read_list(archive: Archive, name: str) -> Sequence[Any]:
    body = archive.read_json(name)
    if not isinstance(body, list):
        raise archive.refuse(name, f"holds a {type(body).__name__}, expected a list of results")
    return body


def _check_row(row: Any, categories: frozenset[int], where: str) -> None:
    known = f"one of the {len(categories)} categories, {min(categories)}..{max(categories)}"
    member_of(row, "category_id", categories, known, where)
    check_score(row, where)


def _check_track(masks: Sequence[Any], video: _Item, where: str) -> None:
    if len(masks) != video.num_frames:
        raise ValueError(
            f"{where}: 'segmentations' has {len(masks)} entries, expected {video.num_frames}: one per frame, "
            "null where nothing is visible"
        )
    for t, mask in enumerate(masks):
        if mask is not None:
            check_mask(mask, video.size, f"{where}: segmentations[{t}]")


def _sequence_key(row: Any, where: str) -> str:
    return f"{field_of(row, 'dataset', str, where)}/{field_of(row, 'seq_name', str, where)}"


def _check_sequence(row: Any, truth: Any, categories: frozenset[int], where: str) -> int:
    frames = field_of(row, "segmentations", list, where)
    tracks = field_of(row, "track_category_ids", dict, where)
    size = integer_of(truth, "height", where), integer_of(truth, "width", where)
    expected = len(field_of(truth, "annotated_image_paths", list, where))
    if len(frames) != expected:
        raise ValueError(
            f"{where}: 'segmentations' has {len(frames)} entries, expected {expected} annotated frames"
        )
    for track in tracks:
        known = f"one of the {len(categories)} categories"
        member_of(tracks, track, categories, known, f"{where}: track_category_ids")
    for t, masks in enumerate(frames):
        if not isinstance(masks, dict):
            raise ValueError(f"{where}: segmentations[{t}] is {masks!r:.60}, expected masks by track")
        for track, mask in masks.items():
            here = f"{where}: segmentations[{t}], track {track!r}"
            if track not in tracks:
                raise ValueError(f"{here}: is not in track_category_ids, expected its class there")
            check_counts(field_of(mask, "rle", str, here), size, here)
            check_score(mask, here)
    return sum(map(len, frames))
