"""Collect predictions of a benchmark in its official format, written by many actors, into one zip."""

from collections.abc import Sequence
from pathlib import Path

from univs.data.videos import Video
from univs.evaluation.benchmarks import Prediction
from univs.evaluation.submissions.files import zip_submission
from univs.evaluation.submissions.maps import (
    CocoPanopticEntry,
    VipsegEntry,
    write_ade20k_map,
    write_coco_image,
    write_coco_index,
    write_semantic_maps,
    write_vipseg_index,
    write_vipseg_video,
)
from univs.evaluation.submissions.masks import (
    write_expression_masks,
    write_object_masks,
    youtube_vos_palette,
)
from univs.evaluation.submissions.tracks import (
    BurstSequence,
    burst_of_objects,
    burst_of_tracks,
    write_burst_results,
    write_coco_results,
    write_ytvis_results,
)
from univs.inference.benchmarks import frame_stems
from univs.labels import LabelSpace
from univs.predictions import InstanceVideo, ObjectVideo, PanopticVideo, SemanticVideo
from univs.schema import Manifest, VideoRecord

Part = InstanceVideo | BurstSequence | VipsegEntry | CocoPanopticEntry | None
"""What one video adds to a file that all videos share; ``None`` where there is no such file."""


def write_part(folder: Path, prediction: Prediction, video: Video) -> Part:
    """Write the files of one video under ``folder`` and give its part of the shared file.

    Raises:
        ValueError: the prediction has classes and the release no label space, or names that no file can have.
    """
    record, stems = video.record, frame_stems(video.record)
    match prediction:
        case InstanceVideo() if record.dataset == "burst":
            return burst_of_tracks(prediction, _frame_names(record), _labels_of(video))
        case InstanceVideo():
            return prediction
        case PanopticVideo() if record.kind == "image":
            return write_coco_image(folder, prediction, _labels_of(video))
        case PanopticVideo():
            return write_vipseg_video(folder, prediction, stems, _labels_of(video))
        case SemanticVideo() if record.kind == "image":
            write_ade20k_map(folder, prediction, stems[0])
        case SemanticVideo():
            write_semantic_maps(folder, prediction, stems)
        case ObjectVideo():
            return _write_objects(folder, prediction, record)
    return None


def finish_submission(folder: Path, parts: Sequence[Part], manifest: Manifest) -> Path:
    """Write the shared file, if the format has one, and pack everything into ``FOLDER.zip``."""
    labels = manifest.label_space
    tracks = [part for part in parts if isinstance(part, InstanceVideo)]
    sequences = [part for part in parts if isinstance(part, BurstSequence)]
    videos = [part for part in parts if isinstance(part, VipsegEntry)]
    images = [part for part in parts if isinstance(part, CocoPanopticEntry)]
    if tracks and labels is not None and manifest.kind == "image":
        write_coco_results(folder / "instances_results.json", tracks, labels)
    elif tracks and labels is not None:
        write_ytvis_results(folder / "results.json", tracks, labels)
    if sequences:
        write_burst_results(folder / "results.json", sequences, manifest.split)
    if videos:
        write_vipseg_index(folder, videos)
    if images:
        write_coco_index(folder, images)
    path = folder.with_suffix(".zip")
    zip_submission(path, folder)
    return path


def _write_objects(folder: Path, prediction: ObjectVideo, record: VideoRecord) -> Part:
    if record.expressions:
        write_expression_masks(folder, prediction)
    elif record.dataset == "burst":
        classes = {o.source_id: o.category_id for o in record.objects if o.category_id is not None}
        return burst_of_objects(prediction, _frame_names(record), classes)
    elif record.dataset in ("ytvos_2018", "ytvos_2019"):
        write_object_masks(folder / "Annotations", prediction, youtube_vos_palette())
    elif record.dataset == "viposeg":
        write_object_masks(folder / "Annotations", prediction)
    else:
        write_object_masks(folder, prediction)
    return None


def _frame_names(record: VideoRecord) -> tuple[str, ...]:
    return tuple(frame.name for frame in record.frames)


def _labels_of(video: Video) -> LabelSpace:
    labels = video.release.manifest.label_space
    if labels is None:
        raise ValueError(f"{video.item_id}: a prediction with classes needs the label space of its release")
    return labels
