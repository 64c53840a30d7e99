"""The unified video mask decoder.

Legend: B clips, T frames, Q queries (learnable first), P prompts, C hidden channels, N cells of a level.
Queries are kept as [B, T, Q, C], so that frames fold into the batch without a copy.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from univs.config import ModelConfig
from univs.draws import Draws
from univs.model.attention import AttentionBlock, FeedForwardBlock, PromptAttentionBlock
from univs.model.heads import Heads
from univs.model.position import SinePosition
from univs.model.types import Features, LayerPrediction, Predictions, Prompts

INITIAL_STD_256 = 0.02
"""Standard deviation of the linear layers of a decoder of 256 channels."""


class DecoderLayer(nn.Module):
    """Attention to own prompt tokens, to each frame, among queries of all frames; then a feed-forward net."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden_dim, num_heads = config.hidden_dim, config.decoder.num_heads
        self.prompt_attention = PromptAttentionBlock(hidden_dim, num_heads)
        self.image_attention = AttentionBlock(hidden_dim, num_heads)
        self.self_attention = AttentionBlock(hidden_dim, num_heads)
        self.ffn = FeedForwardBlock(hidden_dim, config.decoder.ffn_dim)

    def look_at_prompts(self, x: Tensor, positions: Tensor, prompts: Prompts) -> Tensor:
        """Update prompt queries [B, T, P, C] from their tokens."""
        updated = self.prompt_attention(
            x.transpose(1, 2),
            positions.transpose(1, 2),
            prompts.tokens,
            prompts.token_positions,
            prompts.token_valid,
        )
        return updated.transpose(1, 2)

    def look_at_image(
        self, x: Tensor, positions: Tensor, key: Tensor, value: Tensor, keep_mask: Tensor
    ) -> Tensor:
        """Update [B, T, Q, C] from the cells [B * T, N, C] that ``keep_mask`` [B * T, 1, Q, N] leaves."""
        frames = x.flatten(0, 1)
        query = (x + positions).flatten(0, 1)
        return self.image_attention(frames, query, key, value, keep_mask).view_as(x)

    def look_at_queries(self, x: Tensor, positions: Tensor, keep_mask: Tensor | None) -> Tensor:
        """Update [B, T, Q, C] from all queries of all frames of the clip."""
        tokens = x.flatten(1, 2)
        query = tokens + positions.flatten(1, 2)
        return self.self_attention(tokens, query, query, tokens, keep_mask).view_as(x)


class ImageKeys:
    """Keys, values and attention-mask features of the three levels."""

    def __init__(self, features: Features, positions: SinePosition) -> None:
        self.values = [level.flatten(3).transpose(2, 3) for level in features.levels]
        sizes = [(level.shape[-2], level.shape[-1]) for level in features.levels]
        self.values = [value.flatten(0, 1) for value in self.values]
        # The time of a frame would move all of its keys alike, which a softmax over them does not see.
        self.keys = [
            value + positions.grid(*size, value.device)
            for value, size in zip(self.values, sizes, strict=True)
        ]
        self.mask_features = [_resize(features.mask, size) for size in sizes]

    def keep_mask(self, prediction: LayerPrediction, level: int) -> Tensor:
        """Keep the cells inside each predicted mask, or all where it is empty: [B * T, 1, Q, N] bool.

        Resizing is linear and channel-wise, hence a mask's product with resized features is the resized mask.
        """
        embeddings = prediction.mask_embeddings.detach().transpose(1, 2).flatten(0, 1)
        keep = (embeddings @ self.mask_features[level].flatten(2)) >= 0
        return (keep | ~keep.any(-1, keepdim=True))[:, None]


def _resize(mask_features: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize [B, T, C, H, W] -> [B * T, C, h, w]; masks of attention get no gradient."""
    frames = mask_features.detach().flatten(0, 1)
    return F.interpolate(frames, size, mode="bilinear", align_corners=False)


class Decoder(nn.Module):
    """Refine learnable and prompt queries; the two groups never attend to each other."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.query_features = nn.Embedding(config.decoder.num_queries, config.hidden_dim)
        self.query_positions = nn.Embedding(config.decoder.num_queries, config.hidden_dim)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder.num_layers))
        self.heads = Heads(config)

    def forward(
        self,
        features: Features,
        positions: SinePosition,
        prompts: Prompts | None,
        bank: Tensor | None,
        draws: Draws | None = None,
    ) -> Predictions:
        """Decode a clip; arguments as for ``UniVS.decode``."""
        image = ImageKeys(features, positions)
        x, query_positions = self._initial_queries(features, prompts)
        unit_bank = None if bank is None else F.normalize(bank.float(), dim=-1)
        num_learnable = self.query_features.num_embeddings
        num_fused = num_learnable if prompts is not None and prompts.task == "grounding" else 0
        predictions = [self.heads(x, unit_bank, num_fused, draws)]
        for index, layer in enumerate(self._typed_layers()):
            level = index % len(features.levels)
            if prompts is not None and index > 0:
                x = self._look_at_prompts(layer, x, query_positions, prompts)
            keep_mask = image.keep_mask(predictions[-1], level)
            x = layer.look_at_image(x, query_positions, image.keys[level], image.values[level], keep_mask)
            x = layer.ffn(self._look_at_queries(layer, x, query_positions, prompts))
            predictions.append(self.heads(x, unit_bank, num_fused, draws))
        return Predictions(
            layers=tuple(predictions), mask_features=features.mask, num_learnable=num_learnable
        )

    def _typed_layers(self) -> list[DecoderLayer]:
        return [layer for layer in self.layers if isinstance(layer, DecoderLayer)]

    def _initial_queries(self, features: Features, prompts: Prompts | None) -> tuple[Tensor, Tensor]:
        """Join learnable and prompt queries and their positions: two [B, T, Q, C].

        Prompts pass through the first layer's prompt attention; its result is also their position from
        then on.
        """
        num_clips, num_frames = features.frame_indices.shape
        x = self.query_features.weight.expand(num_clips, num_frames, -1, -1)
        positions = self.query_positions.weight.expand(num_clips, num_frames, -1, -1)
        if prompts is None:
            return x, positions
        prompted = self._typed_layers()[0].look_at_prompts(
            prompts.queries.transpose(1, 2), prompts.query_positions.transpose(1, 2), prompts
        )
        return torch.cat([x, prompted], dim=2), torch.cat([positions, prompted], dim=2)

    def _look_at_prompts(self, layer: DecoderLayer, x: Tensor, positions: Tensor, prompts: Prompts) -> Tensor:
        sizes = [x.shape[2] - prompts.num_prompts, prompts.num_prompts]
        learnable, prompted = x.split(sizes, dim=2)
        prompted = layer.look_at_prompts(prompted, positions.split(sizes, dim=2)[1], prompts)
        return torch.cat([learnable, prompted], dim=2)

    def _look_at_queries(
        self, layer: DecoderLayer, x: Tensor, positions: Tensor, prompts: Prompts | None
    ) -> Tensor:
        """Attend among learnable queries, and apart from them among prompts.

        Grounding prompts see only themselves over time; other prompts see every valid prompt.
        """
        if prompts is None:
            return layer.look_at_queries(x, positions, None)
        sizes = [x.shape[2] - prompts.num_prompts, prompts.num_prompts]
        learnable, prompted = x.split(sizes, dim=2)
        positions, prompt_positions = positions.split(sizes, dim=2)
        learnable = layer.look_at_queries(learnable, positions, None)
        if prompts.task == "grounding":
            prompted = _alone(layer, prompted, prompt_positions)
        else:
            prompted = layer.look_at_queries(prompted, prompt_positions, _valid_keys(prompts, x.shape[1]))
        return torch.cat([learnable, prompted], dim=2)


def _alone(layer: DecoderLayer, x: Tensor, positions: Tensor) -> Tensor:
    """Let each prompt of [B, T, P, C] attend to itself over time."""
    num_clips = x.shape[0]
    sequences = x.transpose(1, 2).flatten(0, 1)[:, :, None]
    sequence_positions = positions.transpose(1, 2).flatten(0, 1)[:, :, None]
    updated = layer.look_at_queries(sequences, sequence_positions, None)
    return updated[:, :, 0].unflatten(0, (num_clips, -1)).transpose(1, 2)


def _valid_keys(prompts: Prompts, num_frames: int) -> Tensor:
    """Keep valid prompts as keys, or all where a clip has none: [B, 1, 1, T * P] bool."""
    keep = prompts.valid | ~prompts.valid.any(-1, keepdim=True)
    return keep[:, None].expand(-1, num_frames, -1).flatten(1)[:, None, None]


def initialize(modules: Sequence[nn.Module], hidden_dim: int) -> None:
    """Draw linear weights from a truncated normal that widens as the decoder gets narrower."""
    std = INITIAL_STD_256 * (256 / hidden_dim) ** 0.5
    for module in modules:
        for linear in (child for child in module.modules() if isinstance(child, nn.Linear)):
            nn.init.trunc_normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)
