"""Referring video object segmentation: one mask tube per expression, independent of the others.

Legend: N expressions, T frames of a clip, H W the original size, h w the padded size, q a quarter of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from univs.inference.association import IdentityMemory, identity_slots
from univs.inference.config import InferenceConfig
from univs.inference.engine import Clip, ClipRange, ClipStream, inference_on
from univs.inference.frames import Geometry, VideoInput, restore_logits, upsample_masks
from univs.inference.memory import PromptMemory, encode_masks
from univs.inference.outputs import QueryOutputs, prompt_outputs
from univs.inference.window import MaskWindow
from univs.model.types import RegionTokens, TextFeatures
from univs.model.univs import UniVS
from univs.predictions import ObjectVideo


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """All that is carried from clip to clip; row n of every part is expression n."""

    window: MaskWindow
    memory: PromptMemory | None
    identity: IdentityMemory | None


def segment_refvos(
    model: UniVS,
    video: VideoInput,
    expressions: Mapping[str, str],
    config: InferenceConfig,
    generator: torch.Generator | None = None,
) -> ObjectVideo:
    """Segment what expressions name; masks of different expressions may overlap.

    Args:
        model: the model; its training mode is restored.
        video: frames are read once, in order.
        expressions: texts by expression id.
        config: see ``refvos_defaults``.
        generator: draws the remembered pixels; the same state gives the same result.
    """
    if not expressions:
        raise ValueError(f"video {video.video_id!r} has no expression to look for")
    with inference_on(model, config) as device:
        text = _as_batch(model.text.encode(list(expressions.values())))
        stream = ClipStream(model, video, config)
        masks = np.zeros((len(expressions), video.num_frames, *stream.geometry.original), dtype=np.bool_)
        window = MaskWindow.empty(len(expressions), stream.geometry.quarter, device)
        state = _State(window=window, memory=None, identity=None)
        for clip in stream:
            state = _follow_clip(model, clip, text, state, config, generator)
            _write_finished(masks, state.window, clip.range, stream.geometry)
            if config.expression_memory and not clip.range.is_last:
                state = _remember_finished(model, clip, state, config, generator)
    return ObjectVideo(
        video_id=video.video_id, object_ids=tuple(expressions), masks=masks, frame_names=video.stems
    )


def _as_batch(text: TextFeatures) -> TextFeatures:
    """Prepend B = 1."""
    return TextFeatures(
        sentences=text.sentences[None], words=text.words[None], word_valid=text.word_valid[None]
    )


def _follow_clip(
    model: UniVS,
    clip: Clip,
    text: TextFeatures,
    state: _State,
    config: InferenceConfig,
    generator: torch.Generator | None,
) -> _State:
    """Predict all expressions in one clip; later clips must agree with the earlier ones."""
    span = clip.range
    valid = torch.ones_like(text.word_valid[:, :, 0])
    memory = _visual_memory(model, clip, state, generator)
    prompts = model.prompt(clip.features, text, valid, memory=memory)
    outputs = prompt_outputs(model.decode(clip.features, prompts, None))
    identity = state.identity or _blank_identity(outputs, config)
    accepted = identity.agreement(outputs.embeddings) >= config.consistency_threshold
    accepted |= span.start == 0
    window = state.window.moved(span.start, span.stop)
    return replace(
        state,
        window=window.accumulated(outputs.mask_logits, accepted[:, None].expand(-1, span.num_frames)),
        identity=identity.pushed(outputs.mean_embeddings, accepted),
    )


def _visual_memory(
    model: UniVS, clip: Clip, state: _State, generator: torch.Generator | None
) -> RegionTokens | None:
    """Join what is remembered with the masks predicted for frames still in the window."""
    span = clip.range
    if state.memory is None:
        return None
    slots = state.memory.slots()
    if span.overlap_stop == span.start:
        return slots
    frames = torch.arange(span.start, span.overlap_stop, device=slots.valid.device)
    return slots.cat(_encode_predicted(model, clip, state.window, frames, generator))


def _encode_predicted(
    model: UniVS, clip: Clip, window: MaskWindow, frames: Tensor, generator: torch.Generator | None
) -> RegionTokens:
    masks = upsample_masks(window.mean_logits()[:, frames - window.start] > 0)
    return encode_masks(model, clip.features, masks, frames - clip.range.start, generator)


def _remember_finished(
    model: UniVS, clip: Clip, state: _State, config: InferenceConfig, generator: torch.Generator | None
) -> _State:
    """Encode the frames that leave the window with their final masks."""
    frames = torch.arange(
        clip.range.start, clip.range.finished_stop, device=clip.features.frame_indices.device
    )
    tokens = _encode_predicted(model, clip, state.window, frames, generator)
    memory = state.memory or PromptMemory.empty(tokens.valid.shape[1], config.memory_frames, tokens)
    return replace(state, memory=memory.pushed(tokens))


def _blank_identity(outputs: QueryOutputs, config: InferenceConfig) -> IdentityMemory:
    slots = identity_slots(config.memory_frames, config.clip_stride)
    return IdentityMemory.empty(len(outputs), slots, outputs.embeddings.shape[-1], outputs.embeddings.device)


def _write_finished(
    masks: NDArray[np.bool_], window: MaskWindow, span: ClipRange, geometry: Geometry
) -> None:
    logits = window.mean_logits()
    for position in range(span.num_finished):
        full = restore_logits(logits[:, position], geometry) > 0
        masks[:, span.start + position] = full.cpu().numpy()
