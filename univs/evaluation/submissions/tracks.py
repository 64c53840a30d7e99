"""Results in one JSON file: YouTube-VIS and OVIS, COCO instances, BURST."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pycocotools import mask as coco_mask

from univs.evaluation.submissions.files import official_number, write_json
from univs.labels import LabelSpace
from univs.predictions import InstanceVideo, ObjectVideo


@dataclass(frozen=True, kw_only=True, slots=True)
class BurstTrack:
    """One object of a BURST result."""

    track_id: str
    category_id: int
    score: float
    rles: tuple[str | None, ...]
    """COCO compressed ``counts`` per annotated frame, ``None`` where not visible."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BurstSequence:
    """One sequence of a BURST result."""

    dataset: str
    seq_name: str
    height: int
    width: int
    frame_names: tuple[str, ...]
    """File names of the annotated frames."""
    tracks: tuple[BurstTrack, ...]


def write_ytvis_results(
    path: Path,
    videos: Iterable[InstanceVideo],
    labels: LabelSpace,
    official_ids: Mapping[str, int] | None = None,
) -> None:
    """Write ``results.json`` of YouTube-VIS and OVIS: one entry per track, one RLE or null per frame.

    ``official_ids`` gives the dataset's number of each video where our video ids are not those numbers.

    Raises:
        ValueError: a video has no number.
    """
    categories = [category.category_id for category in labels.categories]
    rows = []
    for video in videos:
        number = official_number(video.video_id, official_ids)
        size = [video.height, video.width]
        for track in video.tracks:
            masks = [None if rle is None else {"size": size, "counts": rle} for rle in track.rles]
            rows.append(
                {
                    "video_id": number,
                    "category_id": categories[track.label],
                    "score": track.score,
                    "segmentations": masks,
                }
            )
    write_json(path, rows)


def write_coco_results(path: Path, images: Iterable[InstanceVideo], labels: LabelSpace) -> None:
    """Write the results of COCO instance segmentation: one entry per mask that is not empty.

    Raises:
        ValueError: an image's id is not a COCO number.
    """
    categories = [category.category_id for category in labels.categories]
    rows = []
    for image in images:
        number = official_number(image.video_id)
        for track in image.tracks:
            counts = track.rles[0]
            if counts is not None:
                rows.append(
                    {
                        "image_id": number,
                        "category_id": categories[track.label],
                        "score": track.score,
                        "segmentation": {"size": [image.height, image.width], "counts": counts},
                    }
                )
    write_json(path, rows)


def burst_of_tracks(video: InstanceVideo, frame_names: tuple[str, ...], labels: LabelSpace) -> BurstSequence:
    """Make the class-guided result of a sequence, whose id is ``dataset/sequence``."""
    dataset, _, name = video.video_id.partition("/")
    tracks = [
        BurstTrack(
            track_id=str(number),
            category_id=labels.categories[track.label].category_id,
            score=track.score,
            rles=track.rles,
        )
        for number, track in enumerate(video.tracks, start=1)
    ]
    return BurstSequence(
        dataset=dataset,
        seq_name=name,
        height=video.height,
        width=video.width,
        frame_names=frame_names,
        tracks=tuple(tracks),
    )


def burst_of_objects(
    video: ObjectVideo, frame_names: tuple[str, ...], classes: Mapping[str, int]
) -> BurstSequence:
    """Make the exemplar-guided result of a sequence; ``classes`` gives the category of each given object."""
    dataset, _, name = video.video_id.partition("/")
    tracks = [
        BurstTrack(
            track_id=object_id,
            category_id=classes[object_id],
            score=1.0,
            rles=tuple(_encode(mask) for mask in masks),
        )
        for object_id, masks in zip(video.object_ids, video.masks, strict=True)
    ]
    return BurstSequence(
        dataset=dataset,
        seq_name=name,
        height=video.masks.shape[2],
        width=video.masks.shape[3],
        frame_names=frame_names,
        tracks=tuple(tracks),
    )


def write_burst_results(path: Path, sequences: Iterable[BurstSequence], split: str) -> None:
    """Write the results of BURST: per annotated frame, a mask without size and a score by track id."""
    rows = []
    for sequence in sorted(sequences, key=lambda row: (row.dataset, row.seq_name)):
        frames = [
            {
                track.track_id: {"rle": track.rles[t], "score": track.score}
                for track in sequence.tracks
                if track.rles[t] is not None
            }
            for t in range(len(sequence.frame_names))
        ]
        rows.append(
            {
                "dataset": sequence.dataset,
                "seq_name": sequence.seq_name,
                "height": sequence.height,
                "width": sequence.width,
                "annotated_image_paths": list(sequence.frame_names),
                "track_category_ids": {track.track_id: track.category_id for track in sequence.tracks},
                "segmentations": frames,
            }
        )
    write_json(path, {"split": split, "sequences": rows})


def _encode(mask: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> str | None:
    if not mask.any():
        return None
    return str(coco_mask.encode(np.asfortranarray(mask, np.uint8))["counts"], "ascii")
