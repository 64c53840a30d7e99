"""Panoptic segmentation of an image, a video of one frame, from learnable queries and stuff names.

Legend: Q queries, G segments, K categories, H W the original size.
"""

import torch
from torch import Tensor

from univs.inference.config import InferenceConfig
from univs.inference.engine import ClipStream, inference_on
from univs.inference.frames import VideoInput, restore_logits
from univs.inference.outputs import QueryOutputs, all_outputs
from univs.inference.overlap import box_overlaps, suppress
from univs.inference.vps import paint_frame
from univs.label_spaces import category_texts
from univs.labels import LabelSpace
from univs.model.types import Features, Prompts
from univs.model.univs import UniVS
from univs.predictions import PanopticVideo, Segment

_SOFTMAX_TEMPERATURE = 0.06
"""Sharpens class scores into the weights by which queries compete for pixels."""


def segment_image(
    model: UniVS, image: VideoInput, label_space: LabelSpace, config: InferenceConfig
) -> PanopticVideo:
    """Label all pixels of an image with things and stuff.

    Args:
        model: the model; its training mode is restored.
        image: a video of one frame.
        label_space: the classes to look for.
        config: see ``image_defaults``.
    """
    if image.num_frames != 1:
        raise ValueError(f"image {image.video_id!r} has {image.num_frames} frames, expected 1")
    with inference_on(model, config) as device:
        stream = ClipStream(model, image, config)
        bank = model.text.bank(category_texts(label_space))
        is_thing = torch.tensor(label_space.is_thing, device=device)
        features = next(iter(stream)).features
        prompts = _stuff_prompts(model, features, bank[~is_thing]) if config.class_prompts else None
        outputs = all_outputs(model.decode(features, prompts, bank))
        queries = outputs.selected(select_queries(outputs, config))
        labels, scores, logits = merge_stuff(queries, is_thing)
        full = restore_logits(logits, stream.geometry)
        values = paint_frame(
            scores,
            full,
            torch.full_like(scores, config.overlap_threshold),
            torch.arange(len(scores), device=device),
        )
    segments = tuple(
        Segment(segment_id=value, label=int(labels[value - 1])) for value in values.unique().tolist() if value
    )
    return PanopticVideo(video_id=image.video_id, maps=values[None].cpu().numpy(), segments=segments)


def select_queries(outputs: QueryOutputs, config: InferenceConfig) -> Tensor:
    """Keep sure queries and, of those of one class in one place, the best: indices."""
    sure = (outputs.scores > config.class_threshold) & (outputs.quality > config.stability_threshold)
    rows = sure.nonzero()[:, 0]
    rows = rows[outputs.scores[rows].argsort(descending=True, stable=True)][: config.max_detections]
    labels = outputs.labels[rows]
    overlaps = box_overlaps(outputs.mask_logits[rows] > 0) * (labels[:, None] == labels[None])
    return rows[suppress(outputs.scores[rows], overlaps, config.box_nms_threshold)]


def merge_stuff(queries: QueryOutputs, is_thing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Make one segment of all queries of a stuff class, before anything competes for pixels.

    Returns:
        Labels [G], competition scores [G] and mask logits [G, hq, wq] of the only frame; things first.
    """
    weights = (queries.class_probabilities / _SOFTMAX_TEMPERATURE).softmax(1).amax(1)
    labels, logits = queries.labels, queries.mask_logits[:, 0]
    things = is_thing[labels]
    stuff_labels = labels[~things].unique()
    groups = [(labels == label) & ~things for label in stuff_labels]
    return (
        torch.cat([labels[things], stuff_labels]),
        torch.stack([*weights[things], *(weights[group].amax() for group in groups)])
        if len(labels)
        else weights,
        torch.cat([logits[things], *(logits[group].amax(0, keepdim=True) for group in groups)]),
    )


def _stuff_prompts(model: UniVS, features: Features, sentences: Tensor) -> Prompts | None:
    """Prompt with the names of stuff classes [K, D]."""
    if not len(sentences):
        return None
    valid = torch.ones((1, len(sentences)), dtype=torch.bool, device=sentences.device)
    return model.prompt(features, sentences[None], valid)
