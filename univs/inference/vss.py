"""Video semantic segmentation: one class per pixel, from learnable queries alone.

Clips do not overlap and nothing is remembered between them.

Legend: Q queries, K categories, T frames, H W the original size.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from univs.inference.config import InferenceConfig
from univs.inference.engine import ClipStream, inference_on
from univs.inference.frames import Geometry, VideoInput
from univs.inference.outputs import learnable_outputs
from univs.label_spaces import category_texts
from univs.labels import LabelSpace
from univs.model.univs import UniVS
from univs.predictions import SemanticVideo


def segment_vss(
    model: UniVS, video: VideoInput, label_space: LabelSpace, config: InferenceConfig
) -> SemanticVideo:
    """Label all pixels of a video with classes. ``config.clip_stride`` is taken as ``frames_per_clip``.

    Args:
        model: the model; its training mode is restored.
        video: frames are read once, in order.
        label_space: the classes to choose from.
        config: see ``vss_defaults``.
    """
    with inference_on(model, config):
        stream = ClipStream(model, video, replace(config, clip_stride=config.frames_per_clip))
        bank = model.text.bank(category_texts(label_space))
        labels = np.zeros((video.num_frames, *stream.geometry.original), dtype=np.int16)
        for clip in stream:
            outputs = learnable_outputs(model.decode(clip.features, None, bank))
            for position in range(clip.range.num_frames):
                frame = label_pixels(
                    outputs.class_probabilities, outputs.mask_logits[:, position], stream.geometry
                )
                labels[clip.range.start + position] = frame.cpu().numpy()
    return SemanticVideo(video_id=video.video_id, labels=labels)


def label_pixels(class_probabilities: Tensor, mask_logits: Tensor, geometry: Geometry) -> Tensor:
    """Choose the class with the largest sum over queries of class times mask probability.

    The class is chosen on the resized frame; the choice is resized by nearest neighbor, which commutes with
    it and costs K times less.

    Args:
        class_probabilities: [Q, K].
        mask_logits: [Q, hq, wq] of one frame.
        geometry: sizes of the frame.

    Returns:
        int16 [H, W].
    """
    height, width = geometry.resized
    full = functional.interpolate(mask_logits[None], size=geometry.padded, mode="bilinear")[0]
    masks = full[:, :height, :width].sigmoid()
    labels = torch.einsum("qk,qhw->khw", class_probabilities, masks).argmax(0)
    if geometry.resized == geometry.original:
        return labels.to(torch.int16)
    resized = functional.interpolate(labels[None, None].float(), size=geometry.original, mode="nearest-exact")
    return resized[0, 0].to(torch.int16)
