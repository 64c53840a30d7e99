"""Predict one video of a benchmark: which task answers which family of benchmarks, and with what prompts."""

from collections.abc import Sequence

import torch

from univs.data.masks import decode_rle
from univs.evaluation.benchmarks import Family, Prediction
from univs.evaluation.truth import appearing_objects, evaluated_objects
from univs.inference.config import InferenceConfig
from univs.inference.frames import FrameSource, VideoInput
from univs.inference.given import FirstMask
from univs.inference.image import segment_image
from univs.inference.refvos import segment_refvos
from univs.inference.vis import segment_vis
from univs.inference.vos import segment_vos
from univs.inference.vps import segment_vps
from univs.inference.vss import segment_vss
from univs.labels import LabelSpace
from univs.model.univs import UniVS
from univs.schema import VISIBLE, ObjectTrack, VideoRecord


def predict(
    model: UniVS,
    family: Family,
    record: VideoRecord,
    frames: FrameSource,
    labels: LabelSpace | None,
    config: InferenceConfig,
    seed: int = 0,
) -> Prediction:
    """Segment the item of a record as its benchmark asks, giving the model no more than the benchmark allows.

    Raises:
        ValueError: the benchmark has classes and ``labels`` is missing, or nothing prompts the item.
    """
    generator = torch.Generator().manual_seed(seed)
    video = VideoInput(video_id=record.item_id, frames=frames, frame_names=frame_stems(record))
    match family:
        case "objects":
            given = first_masks(record, evaluated_objects(record))
            return segment_vos(model, video, given, config, generator)
        case "appearing_objects" | "followed_objects":
            given = first_masks(record, appearing_objects(record))
            return segment_vos(model, video, given, config, generator)
        case "expressions":
            expressions = {entry.expression_id: entry.text for entry in record.expressions}
            return segment_refvos(model, video, expressions, config, generator)
    if labels is None:
        raise ValueError(f"{record.dataset}/{record.item_id}: a benchmark with classes needs its label space")
    match family:
        case "image_panoptic":
            return segment_image(model, video, labels, config)
        case "video_panoptic":
            return segment_vps(model, video, labels, config, generator)
        case "instance":
            return segment_vis(model, video, labels, config, generator)
        case "semantic":
            return segment_vss(model, video, labels, config)


def first_masks(record: VideoRecord, objects: Sequence[ObjectTrack]) -> dict[str, FirstMask]:
    """Give objects by their masks in the first frame that shows them."""
    found = {}
    for track in objects:
        start = track.states.find(VISIBLE)
        counts = track.rles[start] if start >= 0 else None
        if counts is not None:
            mask = decode_rle(counts, record.height, record.width)
            found[track.source_id] = FirstMask(frame_index=start, mask=mask)
    return found


def frame_stems(record: VideoRecord) -> tuple[str, ...]:
    """File names of the frames without folder and suffix."""
    return tuple(frame.stem for frame in record.frames)
