"""Read BURST's files: ``sequences`` with an object of masks by track id per annotated frame.

``track_category_ids`` gives the class of a track; a predicted mask may state its own ``category_id`` and
``score``. Masks are compressed run lengths without a size.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from univs.evaluation.burst import BurstTracks
from univs.evaluation.official.coco_style import read_score
from univs.evaluation.official.files import field_of, name_some, read_json
from univs.evaluation.track_masks import Track, read_masks

Row = Mapping[str, Any]
DISTRACTORS = frozenset(
    {
        *(
            20,
            63,
            108,
            180,
            188,
            204,
            212,
            247,
            303,
            403,
            407,
            415,
            490,
            504,
            507,
            513,
            529,
            567,
            569,
            588,
            672,
        ),
        *(
            691,
            702,
            708,
            711,
            720,
            736,
            737,
            798,
            813,
            815,
            827,
            831,
            851,
            877,
            883,
            912,
            971,
            976,
            1130,
            1133,
        ),
        *(1134, 1169, 1184, 1220),
    }
)
"""Classes that TAO does not evaluate."""
_MERGED = {504: 347, 720: 347, 912: 529, 967: 529, 207: 554, 153: 943, 201: 1175}
"""Classes that TAO takes for another one."""
_MAX_DETECTIONS = 300
"""Per frame."""


class Detection(NamedTuple):
    """One mask in one frame: a tuple, as a file holds very many."""

    track_id: int
    frame: int
    counts: str
    category_id: int
    score: float


def read_sequences(body: Row, path: Path) -> dict[str, Row]:
    """Give the sequences by ``dataset/name``.

    Raises:
        ValueError: one is listed twice, or has not as many entries as frames.
    """
    sequences: dict[str, Row] = {}
    for row in field_of(body, "sequences", list, str(path)):
        parts = [field_of(row, key, str, f"{path}: sequence") for key in ("dataset", "seq_name")]
        name = "/".join(parts)
        if name in sequences:
            raise ValueError(f"{path}: sequence {name} is there more than once, expected each once")
        sequences[name] = row
        num_frames = len(field_of(row, "annotated_image_paths", list, f"{path}: sequence {name}"))
        num_listed = len(field_of(row, "segmentations", list, f"{path}: sequence {name}"))
        if num_listed != num_frames:
            raise ValueError(f"{path}: sequence {name}: {num_listed} segmentations, expected {num_frames}")
    return sequences


def read_file(path: Path) -> tuple[Row, dict[str, Row]]:
    """Read a file whole, with its sequences by name.

    Raises:
        ValueError: it is not BURST's.
    """
    body = read_json(path)
    return body, read_sequences(body, path)


def merge_class(category_id: int) -> int:
    """Give the class that stands for another one."""
    return _MERGED.get(category_id, category_id)


def read_truth(row: Row, where: str) -> list[Detection]:
    """List the true masks of a sequence without distractors.

    Raises:
        ValueError: a mask or the class of a track is missing, or no such thing.
    """
    return [
        Detection(int(track), t, counts, merge_class(category), 1.0)
        for t, track, mask, counts in _walk(row, row["annotated_image_paths"], where)
        if (category := _class_of(row, track, where)) not in DISTRACTORS
    ]


def read_prediction(
    row: Row, names: Sequence[str], inherited: Mapping[str, int | None] | None, where: str
) -> list[Detection]:
    """List the predicted masks of a sequence, of each frame the best 300.

    Args:
        row: the predicted sequence.
        names: frames of the truth; masks of other frames are left out.
        inherited: classes of true tracks by id, where predictions take them over; ``None`` for tracks that
            are not evaluated.
        where: for messages.

    Raises:
        ValueError: a mask or the class of a track is missing or no such thing, or its track is not known.
    """
    found: list[list[Detection]] = [[] for _ in names]
    for t, track, mask, counts in _walk(row, names, where):
        category = (
            _predicted_class(row, track, mask, where)
            if inherited is None
            else _inherit(inherited, track, where)
        )
        if category is None:
            continue
        score = mask.get("score", 1.0)
        if not (isinstance(score, float) and math.isfinite(score)):
            score = read_score(mask, f"{where}, frame {t}, track {track}")
        found[t].append(Detection(int(track), t, counts, merge_class(category), score))
    return [detection for frame in found for detection in _best(frame)]


def join_tracks(
    found: Sequence[Detection], num_frames: int, size: tuple[int, int], where: str
) -> BurstTracks:
    """Collect masks by track.

    Raises:
        ValueError: a mask is broken.
    """
    by_track: dict[int, list[Detection]] = {}
    by_frame: list[list[Detection]] = [[] for _ in range(num_frames)]
    for detection in found:
        by_track.setdefault(detection.track_id, []).append(detection)
        by_frame[detection.frame].append(detection)
    place = {track: n for n, track in enumerate(by_track)}
    return BurstTracks(
        ids=np.asarray(list(by_track), np.int64),
        labels=np.asarray([track[0].category_id for track in by_track.values()], np.int64),
        scores=np.asarray([np.mean([one.score for one in track]) for track in by_track.values()], np.float64),
        frames=tuple(np.asarray([place[one.track_id] for one in frame], np.intp) for frame in by_frame),
        frame_labels=tuple(np.asarray([one.category_id for one in frame], np.int64) for frame in by_frame),
        lengths=np.asarray([len(track) for track in by_track.values()], np.float64),
        masks=read_masks([_spread(track, num_frames) for track in by_track.values()], size, where),
    )


def _walk(row: Row, names: Sequence[str], where: str) -> Iterator[tuple[int, str, Row, str]]:
    """Give position, track, entry and mask of all masks in frames of these names."""
    index = {name: t for t, name in enumerate(names)}
    for name, masks in zip(row["annotated_image_paths"], row["segmentations"], strict=True):
        if name not in index:
            continue
        if not isinstance(masks, dict):
            raise ValueError(f"{where}, frame {name}: {masks!r:.80}, expected masks by track id")
        for track, mask in masks.items():
            if not track.isdecimal():
                raise ValueError(f"{where}, frame {name}: track id {track!r}, expected a number from 0 on")
            counts = mask.get("rle") if isinstance(mask, dict) else None
            if not isinstance(counts, str):
                counts = field_of(mask, "rle", str, f"{where}, frame {name}, track {track}")
            yield index[name], track, mask, counts


def _class_of(row: Row, track: str, where: str) -> int:
    classes = row.get("track_category_ids")
    if isinstance(classes, dict) and isinstance(classes.get(track), int):
        return int(classes[track])
    classes = field_of(row, "track_category_ids", dict, where)
    return int(field_of(classes, track, int, f"{where}, track_category_ids"))


def _predicted_class(row: Row, track: str, mask: Row, where: str) -> int:
    if "category_id" in mask:
        return int(field_of(mask, "category_id", int, f"{where}, track {track}"))
    return _class_of(row, track, where)


def _inherit(classes: Mapping[str, int | None], track: str, where: str) -> int | None:
    if track not in classes:
        raise ValueError(
            f"{where}, track {track}: no such track in the ground truth, expected one of "
            f"{name_some(list(classes))}; keep the ids of the exemplars"
        )
    return classes[track]


def _best(frame: list[Detection]) -> list[Detection]:
    if len(frame) <= _MAX_DETECTIONS:
        return frame
    return sorted(frame, key=lambda detection: -detection.score)[:_MAX_DETECTIONS]


def _spread(track: Sequence[Detection], num_frames: int) -> Track:
    masks: list[str | None] = [None] * num_frames
    for detection in track:
        masks[detection.frame] = detection.counts
    return tuple(masks)
