"""Collect predictions of a benchmark in its official format, written by many actors, into one zip."""

from collections.abc import Sequence
from pathlib import Path

from univs.data.videos import Video
from univs.evaluation.benchmarks import Prediction
from univs.evaluation.submissions import (
    CocoPanopticEntry,
    VipsegEntry,
    write_coco_image,
    write_coco_index,
    write_expression_masks,
    write_object_masks,
    write_semantic_maps,
    write_vipseg_index,
    write_vipseg_video,
    write_ytvis_results,
    zip_submission,
)
from univs.inference.benchmarks import frame_stems
from univs.labels import LabelSpace
from univs.predictions import InstanceVideo, ObjectVideo, PanopticVideo, SemanticVideo

Part = InstanceVideo | VipsegEntry | CocoPanopticEntry | None
"""What one video adds to a file that all videos share; ``None`` where there is no such file."""


def write_part(folder: Path, prediction: Prediction, video: Video) -> Part:
    """Write the files of one video under ``folder`` and give its part of the shared file."""
    labels, stems = video.release.manifest.label_space, frame_stems(video.record)
    match prediction:
        case InstanceVideo():
            return prediction
        case PanopticVideo():
            return _write_panoptic(folder, prediction, video, labels, stems)
        case SemanticVideo():
            write_semantic_maps(folder, prediction, stems)
        case ObjectVideo() if video.record.expressions:
            write_expression_masks(folder, prediction)
        case ObjectVideo():
            write_object_masks(folder, prediction)
    return None


def finish_submission(folder: Path, parts: Sequence[Part], labels: LabelSpace | None) -> Path:
    """Write the shared file, if the format has one, and pack everything into ``FOLDER.zip``."""
    tracks = [part for part in parts if isinstance(part, InstanceVideo)]
    videos = [part for part in parts if isinstance(part, VipsegEntry)]
    images = [part for part in parts if isinstance(part, CocoPanopticEntry)]
    if tracks and labels is not None:
        write_ytvis_results(folder / "results.json", tracks, labels)
    if videos:
        write_vipseg_index(folder, videos)
    if images:
        write_coco_index(folder, images)
    path = folder.with_suffix(".zip")
    zip_submission(path, folder)
    return path


def _write_panoptic(
    folder: Path, prediction: PanopticVideo, video: Video, labels: LabelSpace | None, stems: tuple[str, ...]
) -> Part:
    if labels is None:
        raise ValueError(f"{video.item_id}: a panoptic prediction needs the label space of its release")
    if video.record.kind == "image":
        return write_coco_image(folder, prediction, labels)
    return write_vipseg_video(folder, prediction, stems, labels)
