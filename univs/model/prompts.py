"""Prompt queries and tokens from pixels, category names and expressions.

Legend: B clips, T frames, P prompts, S slots, R tokens of a slot, W words, D text channels, C hidden
channels.
"""

import torch
from torch import Tensor, nn

from univs.config import ModelConfig
from univs.draws import Draws
from univs.model.attention import AttentionBlock
from univs.model.regions_compat import first_clip_slots, mean_of_nonzero
from univs.model.types import Features, Prompts, RegionTokens, TextFeatures
from univs.schema import Task


class PromptEncoder(nn.Module):
    """Build ``Prompts``; visual prompts only learn one vector, text is projected and looks at the image."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden_dim, text_dim = config.hidden_dim, config.text.embed_dim
        self.reference_compat = config.reference_compat
        self.text_norm = nn.LayerNorm(text_dim)
        self.text_to_vision = nn.Linear(text_dim, hidden_dim)
        self.image_attention = AttentionBlock(hidden_dim, config.decoder.num_heads)
        self.sot_vector = nn.Embedding(1, hidden_dim)
        self.detection_vector = nn.Embedding(1, hidden_dim)
        self.grounding_vector = nn.Embedding(1, hidden_dim)

    def visual(
        self,
        task: Task,
        current: RegionTokens,
        valid: Tensor,
        num_frames: int,
        memory: RegionTokens | None,
        draws: Draws | None,
    ) -> Prompts:
        """Prompt with pixels: one slot for all frames, or one slot per frame; keys also from memory."""
        content, positions = self._means(current)
        if self.training:
            # One coin per step, as in the original: queries also learn to start without knowing their place.
            coin = (
                torch.rand(1, device=content.device)
                if draws is None
                else draws.rand(1, device=content.device)
            )
            positions = torch.where(coin > 0.5, positions, content)
        queries = content + self.sot_vector.weight[0]
        slots = self._slots(current, memory, num_frames)
        token_valid = slots.valid.flatten(2)
        if self.reference_compat:
            token_valid = valid[..., None].expand_as(token_valid)
        return Prompts(
            task=task,
            queries=queries.expand(-1, -1, num_frames, -1),
            query_positions=positions.expand(-1, -1, num_frames, -1),
            tokens=slots.features.flatten(2, 3)[:, :, None],
            token_positions=slots.positions.flatten(2, 3)[:, :, None],
            token_valid=token_valid,
            valid=valid,
        )

    def _means(self, current: RegionTokens) -> tuple[Tensor, Tensor]:
        """Average the content and the positions of each slot's tokens: two [B, P, S, C]."""
        if self.reference_compat:
            return mean_of_nonzero(current.features), mean_of_nonzero(current.positions)
        return (
            _mean_of_valid(current.features, current.valid),
            _mean_of_valid(current.positions, current.valid),
        )

    def _slots(self, current: RegionTokens, memory: RegionTokens | None, num_frames: int) -> RegionTokens:
        """Join the slots that the queries may look at."""
        if memory is not None:
            return memory.cat(current)
        # A key that is there several times weighs more beside the query itself.
        is_first_clip = self.reference_compat and not self.training
        return first_clip_slots(current, num_frames) if is_first_clip else current

    def categories(self, features: Features, sentences: Tensor, valid: Tensor) -> Prompts:
        """Prompt detection with category features [B, P, D], each its own only token."""
        tokens = self._look_at_image(features, self._project(sentences))[:, :, :, None]
        return Prompts(
            task="detection",
            queries=tokens[:, :, :, 0] + self.detection_vector.weight[0],
            query_positions=tokens[:, :, :, 0],
            tokens=tokens,
            token_positions=None,
            token_valid=valid[..., None],
            valid=valid,
        )

    def expressions(
        self, features: Features, text: TextFeatures, valid: Tensor, memory: RegionTokens | None
    ) -> Prompts:
        """Prompt grounding with expressions: tokens are memory, the sentence and its words."""
        strings = torch.cat([text.sentences[:, :, None], text.words], dim=2)
        num_prompts, num_tokens = strings.shape[1:3]
        tokens = self._look_at_image(features, self._project(strings).flatten(1, 2))
        tokens = tokens.unflatten(1, (num_prompts, num_tokens)).transpose(2, 3)
        sentence = tokens[:, :, :, 0]
        token_valid = torch.cat([valid[..., None], text.word_valid & valid[..., None]], dim=2)
        if memory is not None:
            remembered = memory.features.flatten(2, 3)[:, :, None]
            tokens = torch.cat([remembered.expand(-1, -1, tokens.shape[2], -1, -1), tokens], dim=3)
            token_valid = torch.cat([memory.valid.flatten(2), token_valid], dim=2)
        return Prompts(
            task="grounding",
            queries=sentence + self.grounding_vector.weight[0],
            query_positions=sentence,
            tokens=tokens,
            token_positions=None,
            token_valid=token_valid,
            valid=valid,
        )

    def _project(self, text: Tensor) -> Tensor:
        return self.text_to_vision(self.text_norm(text))

    def _look_at_image(self, features: Features, text: Tensor) -> Tensor:
        """Attend text [B, N, C] to all levels of each frame -> [B, N, T, C]."""
        num_clips, num_frames = features.frame_indices.shape
        image = torch.cat([level.flatten(3) for level in features.levels], dim=-1)
        image = image.transpose(2, 3).flatten(0, 1)
        per_frame = text[:, None].expand(-1, num_frames, -1, -1).flatten(0, 1)
        attended = self.image_attention(per_frame, per_frame, image, image, None)
        return attended.unflatten(0, (num_clips, num_frames)).transpose(1, 2)


def _mean_of_valid(tokens: Tensor, valid: Tensor) -> Tensor:
    """Average tokens [B, P, S, R, C] over the valid ones of each slot; zero where there is none."""
    weights = valid.to(tokens.dtype)[..., None]
    return (tokens * weights).sum(3) / weights.sum(3).clamp(min=1)
