"""The whole engine on an analytic model whose right answers are known.

The model's features are colors, and a query's mask is every pixel near its color: prompts take the mean color
of their tokens (current and remembered), learnable queries a fixed palette whose entries are classes.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d, normalize

from univs.config import (
    BackboneConfig,
    DecoderConfig,
    ModelConfig,
    PixelDecoderConfig,
    PromptConfig,
    TextConfig,
)
from univs.data.images import to_tensor
from univs.data.masks import decode_rle
from univs.inference.config import vis_defaults, vos_defaults, vps_defaults, vss_defaults
from univs.inference.frames import VideoInput
from univs.inference.given import FirstMask
from univs.inference.vis import segment_vis
from univs.inference.vos import segment_vos
from univs.inference.vps import segment_vps
from univs.inference.vss import segment_vss
from univs.labels import Category, LabelSpace
from univs.model.types import Features, LayerPrediction, Predictions
from univs.model.univs import UniVS

PALETTE = {"apple": (250, 10, 10), "leaf": (10, 250, 10), "sea": (10, 10, 250), "wall": (10, 10, 10)}
SPACE = LabelSpace(
    name="colors",
    categories=tuple(
        Category(category_id=index, name=name, is_thing=name in ("apple", "leaf"))
        for index, name in enumerate(PALETTE)
    ),
)
REACH = 2.0
"""Distance in normalized color up to which a pixel belongs to a query; palette entries are farther apart."""


class ColorModel(UniVS):
    def encode(self, frames, frame_indices):
        height, width = frames.shape[-2:]
        clips = frames.shape[:2]

        def at(stride, extra):
            colors = adaptive_avg_pool2d(frames.flatten(0, 1), (height // stride, width // stride))
            level = torch.zeros(len(colors), self.config.hidden_dim, *colors.shape[-2:])
            level[:, :3] = colors
            if extra:
                level[:, 3] = colors.square().sum(1)
                level[:, 4] = 1
            return level.unflatten(0, clips)

        return Features(
            levels=(at(32, False), at(16, False), at(8, False)), mask=at(4, True), frame_indices=frame_indices
        )

    def decode(self, features, prompts=None, bank=None):
        num_frames = features.frame_indices.shape[1]
        palette = to_tensor(np.array([list(PALETTE.values())], dtype=np.uint8)[None])[0, :, 0].T
        colors = palette[None, :, None].expand(-1, -1, num_frames, -1)
        known = torch.ones(1, len(palette), dtype=torch.bool)
        if prompts is not None:
            weights = prompts.token_valid[:, :, None, :, None].float()
            mean = (prompts.tokens * weights).sum(3) / weights.sum(3).clamp(min=1)
            colors = torch.cat([colors, mean[..., :3].expand(-1, -1, num_frames, -1)], dim=1)
            known = torch.cat([known, prompts.token_valid.any(-1)], dim=1)
        masks = torch.zeros(*colors.shape[:3], self.config.hidden_dim)
        # logit = 10 (reach^2 - |x - c|^2), linear in (x, |x|^2, 1)
        masks[..., :3] = 20 * colors
        masks[..., 3] = -10
        masks[..., 4] = 10 * (REACH**2 - colors.square().sum(-1))
        masks = torch.where(known[..., None, None], masks, 0.0)
        masks[..., 4] -= 1e3 * ~known[..., None]
        embeddings = torch.zeros_like(masks)
        embeddings[..., :3] = 4 * normalize(colors, dim=-1)
        distances = (colors.mean(2)[:, :, None] - palette).norm(dim=-1)
        final = LayerPrediction(
            embeddings=embeddings,
            mask_embeddings=masks,
            class_logits=torch.where(distances < REACH, 5.0, -5.0)
            if bank is not None
            else distances[..., :0],
        )
        return Predictions(layers=(final,), mask_features=features.mask, num_learnable=len(palette))


@pytest.fixture(scope="module")
def color_model():
    config = ModelConfig(
        hidden_dim=16,
        backbone=BackboneConfig(name="resnet18"),
        pixel_decoder=PixelDecoderConfig(num_layers=1, num_heads=2, ffn_dim=16),
        decoder=DecoderConfig(num_queries=4, num_layers=1, num_heads=2, ffn_dim=16),
        prompts=PromptConfig(tokens_per_object=16),
        text=TextConfig(width=16, num_layers=1, num_heads=2, embed_dim=16, num_templates=1),
    )
    return ColorModel(config).eval()


def _world(num_frames, absent=()):
    """Draw a wall, an apple moving right and, from frame 3 on, a leaf; the apple hides in some frames."""
    frames = np.full((num_frames, 64, 96, 3), PALETTE["wall"], dtype=np.uint8)
    masks = np.zeros((2, num_frames, 64, 96), dtype=bool)
    for time in range(num_frames):
        if time not in absent:
            masks[0, time, 8:28, 4 * time : 4 * time + 24] = True
        if time >= 3:
            masks[1, time, 36:60, 40:72] = True
        frames[time][masks[0, time]] = PALETTE["apple"]
        frames[time][masks[1, time]] = PALETTE["leaf"]
    return frames, masks


def _iou(first, second):
    union = (first | second).sum()
    return (first & second).sum() / union if union else 1.0


def _small(config, **changes):
    return replace(config, short_edge_px=64, frames_per_clip=3, memory_frames=2, **changes)


@pytest.mark.parametrize("clip_stride", [1, 2, 3])
def test_vos_follows_objects_through_absence(color_model, clip_stride):
    frames, masks = _world(16, absent=range(6, 12))
    objects = {
        "apple": FirstMask(frame_index=0, mask=masks[0, 0]),
        "leaf": FirstMask(frame_index=4, mask=masks[1, 4]),
    }
    config = _small(vos_defaults(), clip_stride=clip_stride)
    result = segment_vos(color_model, VideoInput(video_id="v", frames=frames), objects, config)
    masks[1, 3] = False
    for row, time in np.ndindex(2, 16):
        assert _iou(result.masks[row, time], masks[row, time]) > 0.8, (row, time)


@pytest.mark.parametrize("clip_stride", [1, 2, 3])
def test_vis_keeps_one_identity_through_absence(color_model, clip_stride):
    frames, masks = _world(16, absent=range(6, 12))
    config = _small(vis_defaults(), clip_stride=clip_stride)
    result = segment_vis(color_model, VideoInput(video_id="v", frames=frames), SPACE, config)
    best = {track.label: track for track in reversed(result.tracks)}
    for label in (0, 1):
        track = best[label]
        assert sum(other.rles == track.rles for other in result.tracks if other.label == label) == 1
        for time in range(16):
            counts = track.rles[time]
            mask = decode_rle(counts, 64, 96) if counts else np.zeros((64, 96), dtype=bool)
            assert _iou(mask, masks[label, time]) > 0.8, (label, time)
    # apple, leaf and the wall, each found once however often it comes and goes
    assert len({track.rles for track in result.tracks}) == 3


@pytest.mark.parametrize("clip_stride", [1, 3])
def test_vps_labels_every_pixel_with_lasting_ids(color_model, clip_stride):
    frames, masks = _world(14, absent=range(6, 11))
    config = _small(vps_defaults(), clip_stride=clip_stride)
    result = segment_vps(color_model, VideoInput(video_id="v", frames=frames), SPACE, config)
    segments = {segment.label: segment.segment_id for segment in result.segments}
    assert sorted(segment.label for segment in result.segments) == [0, 1, 3]
    wall = ~masks.any(0)
    for label, truth in ((0, masks[0]), (1, masks[1]), (3, wall)):
        assert _iou(result.maps == segments[label], truth) > 0.8


def test_entities_are_found_after_a_first_clip_without_any(color_model):
    frames, masks = _world(8)
    frames[:4] = (0, 0, 0)
    result = segment_vis(color_model, VideoInput(video_id="v", frames=frames), SPACE, _small(vis_defaults()))
    apple = next(track for track in result.tracks if track.label == 0)
    assert all(counts is None for counts in apple.rles[:4])
    assert all(counts is not None for counts in apple.rles[4:])


def test_vss_gives_every_pixel_its_class(color_model):
    frames, masks = _world(7)
    config = replace(vss_defaults(), short_edge_px=64)
    result = segment_vss(color_model, VideoInput(video_id="v", frames=frames), SPACE, config)
    truth = np.where(masks[0], 0, np.where(masks[1], 1, 3))
    assert (result.labels == truth).mean() > 0.95


def test_result_does_not_depend_on_torch_global_randomness(color_model):
    frames, masks = _world(6)
    objects = {"apple": FirstMask(frame_index=0, mask=masks[0, 0])}
    results = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        video = VideoInput(video_id="v", frames=frames)
        generator = torch.Generator().manual_seed(0)
        results.append(segment_vos(color_model, video, objects, _small(vos_defaults()), generator).masks)
    assert (results[0] == results[1]).all()
