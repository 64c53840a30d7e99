"""Video object segmentation: follow given objects, each from its first mask on.

Legend: N objects, T frames of a clip, K some of them, H W the original size, h w the padded size, q a
quarter of it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from univs.inference.association import IdentityMemory, identity_slots
from univs.inference.config import InferenceConfig
from univs.inference.engine import Clip, ClipRange, ClipStream, inference_on
from univs.inference.frames import Geometry, VideoInput, restore_logits
from univs.inference.given import FirstMask, GivenMasks, exclusive_masks, keep_given, known_masks, place_given
from univs.inference.memory import PromptMemory, encode_masks, spread_slots
from univs.inference.outputs import QueryOutputs, prompt_outputs
from univs.inference.overlap import frame_ious, pixel_owners
from univs.inference.window import MaskWindow
from univs.model.types import RegionTokens
from univs.model.univs import UniVS
from univs.predictions import ObjectVideo

_MIN_FIRST_IOU = 0.15
"""An object's first prediction must agree this much with its given mask; less where it is small."""
_LARGE_AREA_PX = 96**2
"""Area from which ``_MIN_FIRST_IOU`` holds in full."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _State:
    """All that is carried from clip to clip; row n of every part is object n."""

    window: MaskWindow
    memory: PromptMemory | None
    identity: IdentityMemory | None


def segment_vos(
    model: UniVS,
    video: VideoInput,
    objects: Mapping[str, FirstMask],
    config: InferenceConfig,
    generator: torch.Generator | None = None,
) -> ObjectVideo:
    """Follow objects from their first masks; every pixel belongs to at most one of them.

    Also panoptic VOS, where stuff is followed like any object. An object's given frame keeps the given mask.

    Args:
        model: the model; its training mode is restored.
        video: frames are read once, in order.
        objects: first masks by object id; may start at different frames.
        config: see ``vos_defaults``.
        generator: draws the prompted pixels; the same state gives the same result.
    """
    with inference_on(model, config) as device:
        stream = ClipStream(model, video, config)
        given = place_given(objects, video, stream.geometry, device)
        masks = np.zeros((len(objects), video.num_frames, *stream.geometry.original), dtype=np.bool_)
        window = MaskWindow.empty(len(objects), stream.geometry.quarter, device)
        state = _State(window=window, memory=None, identity=None)
        for clip in stream:
            state = _follow_clip(model, clip, given, state, config, generator)
            _write_finished(masks, state.window, clip.range, stream.geometry)
            state = _remember_finished(model, clip, given, state, config, generator)
    keep_given(masks, objects)
    return ObjectVideo(
        video_id=video.video_id, object_ids=tuple(objects), masks=masks, frame_names=video.stems
    )


def _follow_clip(
    model: UniVS,
    clip: Clip,
    given: GivenMasks,
    state: _State,
    config: InferenceConfig,
    generator: torch.Generator | None,
) -> _State:
    """Predict all objects that have appeared by the end of the clip."""
    span = clip.range
    state = replace(state, window=state.window.moved(span.start, span.stop))
    present = given.frames < span.stop
    if not present.any():
        return state
    current, memory = _current_tokens(model, clip, given, state, config, generator)
    prompts = model.prompt(clip.features, current, present[None], memory=memory.slots())
    outputs = prompt_outputs(model.decode(clip.features, prompts, None))
    identity = state.identity or IdentityMemory.empty(
        len(present), identity_slots(config.memory_frames, config.clip_stride), *_width(outputs)
    )
    is_new = given.inside(span.overlap_stop, span.stop)
    accepted = _accept(outputs, given, identity, span, config) & present
    times = torch.arange(span.start, span.stop, device=present.device)
    follows = accepted[:, None] & (times[None] > given.frames[:, None])
    return _State(
        window=state.window.accumulated(outputs.mask_logits, follows),
        memory=memory,
        identity=identity.pushed(outputs.mean_embeddings, accepted | is_new),
    )


def _current_tokens(
    model: UniVS,
    clip: Clip,
    given: GivenMasks,
    state: _State,
    config: InferenceConfig,
    generator: torch.Generator | None,
) -> tuple[RegionTokens, PromptMemory]:
    """Encode what is known inside the clip; make the memory if this is the first time."""
    span = clip.range
    overlap = torch.arange(span.start, span.overlap_stop, device=given.frames.device)
    frames = torch.cat([overlap, given.frames[given.inside(span.start, span.stop)]]).unique()
    if not len(frames):
        frames = overlap.new_tensor([span.start])
    masks = known_masks(state.window, given, frames)
    positions = frames - span.start
    tokens = encode_masks(model, clip.features, masks, positions, generator)
    memory = state.memory or PromptMemory.empty(len(masks), config.memory_frames, tokens)
    return spread_slots(tokens, positions, span.num_frames, memory.newest()), memory


def _accept(
    outputs: QueryOutputs,
    given: GivenMasks,
    identity: IdentityMemory,
    span: ClipRange,
    config: InferenceConfig,
) -> Tensor:
    """Decide [N] whose masks to believe.

    New objects must fit their given masks. The others must look like themselves in earlier clips, and not
    lose most of their pixels to one another.
    """
    is_new = given.inside(span.overlap_stop, span.stop)
    first_iou = torch.where(is_new, _first_ious(outputs.mask_logits, given, span), 0.0)
    small = (given.masks.flatten(1).sum(1) / _LARGE_AREA_PX).clamp(max=1)
    agreement = identity.agreement(outputs.embeddings)
    trust = torch.where(is_new, first_iou, agreement.clamp(min=0))
    _, won = pixel_owners(trust.square() * outputs.quality, outputs.mask_logits)
    consistent = (agreement >= config.consistency_threshold) & (won > config.overlap_threshold)
    return torch.where(is_new, first_iou > _MIN_FIRST_IOU * small, consistent)


def _first_ious(mask_logits: Tensor, given: GivenMasks, span: ClipRange) -> Tensor:
    """IoU [N] of the predictions with the given masks where they were given; meaningless elsewhere."""
    rows = torch.arange(len(given.frames), device=mask_logits.device)
    positions = (given.frames - span.start).clamp(0, span.num_frames - 1)
    logits = mask_logits[rows, positions][None]
    predicted = functional.interpolate(logits, size=given.masks.shape[1:], mode="bilinear")[0] > 0
    # one tube each, with the objects in the place of its frames: IoUs of matching pairs only
    return frame_ious(predicted[None], given.masks[None])[0, 0]


def _remember_finished(
    model: UniVS,
    clip: Clip,
    given: GivenMasks,
    state: _State,
    config: InferenceConfig,
    generator: torch.Generator | None,
) -> _State:
    """Encode the frames that leave the window with their final masks."""
    if state.memory is None or clip.range.is_last:
        return state
    frames = torch.arange(clip.range.start, clip.range.finished_stop, device=given.frames.device)
    masks = known_masks(state.window, given, frames)
    tokens = encode_masks(model, clip.features, masks, frames - clip.range.start, generator)
    return replace(state, memory=state.memory.pushed(tokens))


def _write_finished(
    masks: NDArray[np.bool_], window: MaskWindow, span: ClipRange, geometry: Geometry
) -> None:
    logits = window.mean_logits()
    for position in range(span.num_finished):
        full = exclusive_masks(restore_logits(logits[:, position], geometry))
        masks[:, span.start + position] = full.cpu().numpy()


def _width(outputs: QueryOutputs) -> tuple[int, torch.device]:
    return outputs.embeddings.shape[-1], outputs.embeddings.device
