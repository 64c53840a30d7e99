"""UniVS: the wiring of its parts.

Legend: B clips, T frames, P prompts, S slots, R tokens of a slot, D text channels, K categories.
"""

import torch
from torch import Tensor, nn

from univs.config import ModelConfig
from univs.draws import Draws
from univs.model.backbone import Backbone
from univs.model.decoder import Decoder, initialize
from univs.model.pixel_decoder import NUM_LEVELS, PixelDecoder
from univs.model.position import SinePosition
from univs.model.prompts import PromptEncoder
from univs.model.regions import region_tokens
from univs.model.regions_compat import original_region_tokens
from univs.model.text import TextEncoder
from univs.model.types import (
    Features,
    Predictions,
    Prompts,
    RegionTokens,
    TextFeatures,
    VisualRegions,
)
from univs.schema import Task


class UniVS(nn.Module):
    """Segment clips with learnable queries and with prompts as queries."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.positions = SinePosition(config.hidden_dim, config.position)
        self.backbone = Backbone(config.backbone)
        self.pixel_decoder = PixelDecoder(self.backbone.num_channels, config.hidden_dim, config.pixel_decoder)
        self.level_embed = nn.Embedding(NUM_LEVELS, config.hidden_dim)
        self.prompt_encoder = PromptEncoder(config)
        self.decoder = Decoder(config)
        initialize([self.prompt_encoder, self.decoder], config.hidden_dim)
        self.text = TextEncoder(config.text, config.reference_compat)

    def encode(self, frames: Tensor, frame_indices: Tensor) -> Features:
        """Encode normalized frames [B, T, 3, H, W], H and W multiples of 32, at indices [B, T]."""
        if frames.shape[-2] % 32 or frames.shape[-1] % 32:
            raise ValueError(f"frames are {tuple(frames.shape[-2:])}, expected multiples of 32: pad them")
        clips = frames.shape[:2]
        levels, mask = self.pixel_decoder(self.backbone(frames.flatten(0, 1)))
        embedded = [
            (level + embedding[:, None, None]).unflatten(0, clips)
            for level, embedding in zip(levels, self.level_embed.weight, strict=True)
        ]
        return Features(
            levels=(embedded[0], embedded[1], embedded[2]),
            mask=mask.unflatten(0, clips),
            frame_indices=frame_indices,
        )

    def region_tokens(
        self,
        features: Features,
        regions: VisualRegions,
        generator: torch.Generator | Draws | None = None,
    ) -> RegionTokens:
        """Take tokens [B, P, 1, R, C] from the regions; random cells, repeatable with a generator."""
        num_tokens = self.config.prompts.tokens_per_object
        if self.config.reference_compat:
            draws = generator if isinstance(generator, Draws) else Draws(generator or torch.default_generator)
            return original_region_tokens(features, regions, self.positions, num_tokens, draws)
        source = generator.generator if isinstance(generator, Draws) else generator
        return region_tokens(features, regions, self.positions, num_tokens, source)

    def prompt(
        self,
        features: Features,
        source: VisualRegions | RegionTokens | TextFeatures | Tensor,
        valid: Tensor | None = None,
        *,
        task: Task = "sot",
        memory: RegionTokens | None = None,
        draws: Draws | None = None,
    ) -> Prompts:
        """Turn what is asked for into prompts of a clip.

        Args:
            features: The clip.
            source: Regions of pixels, or their tokens (one slot shared by all frames, or one slot per frame:
                each frame's query starts from the mean of its slot); expressions, whose fields lead with
                [B, P]; or text features [B, P, D] of category names.
            valid: [B, P] bool, false for padding; by default as the regions say, or all.
            task: What prompts from pixels are for; expressions are for grounding, categories for detection.
            memory: Slots of earlier clips that queries of pixels and expressions may look at, too.
            draws: Where random numbers come from; torch's own generator if ``None``.
        """
        if isinstance(source, VisualRegions):
            valid = source.valid if valid is None else valid
            source = self.region_tokens(features, source, draws)
        if isinstance(source, RegionTokens):
            valid = _all_valid(source.valid[..., 0, 0], valid)
            num_frames = features.frame_indices.shape[1]
            return self.prompt_encoder.visual(task, source, valid, num_frames, memory, draws)
        if isinstance(source, TextFeatures):
            return self.prompt_encoder.expressions(
                features, source, _all_valid(source.sentences[..., 0], valid), memory
            )
        return self.prompt_encoder.categories(features, source, _all_valid(source[..., 0], valid))

    def decode(
        self,
        features: Features,
        prompts: Prompts | None = None,
        bank: Tensor | None = None,
        draws: Draws | None = None,
    ) -> Predictions:
        """Predict from learnable queries and prompts.

        Args:
            features: The clip.
            prompts: Prompts in the clip, if any.
            bank: [K, D] text features of the label space in use; ``None`` where objects have no class.
            draws: Where a training step's random orders come from; torch's own generator if ``None``.
        """
        return self.decoder(features, self.positions, prompts, bank, draws)


def _all_valid(like: Tensor, valid: Tensor | None) -> Tensor:
    return torch.ones_like(like, dtype=torch.bool) if valid is None else valid
