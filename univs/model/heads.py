"""Prediction heads shared by all decoder layers.

Legend: B clips, T frames, Q queries, C hidden channels, K categories, D text channels.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from univs.config import ModelConfig
from univs.draws import Draws
from univs.model.types import LayerPrediction

INITIAL_TEMPERATURE = math.log(1 / 0.07)
"""CLIP's starting logit scale."""


class Heads(nn.Module):
    """Normalize queries and read their masks and categories."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden_dim = config.hidden_dim
        self.norm = nn.LayerNorm(hidden_dim)
        self.mask_embed = nn.ModuleList(nn.Linear(hidden_dim, hidden_dim) for _ in range(3))
        self.vision_to_text = nn.Linear(hidden_dim, config.text.embed_dim)
        self.class_temperature = nn.Embedding(1, 1)
        nn.init.constant_(self.class_temperature.weight, INITIAL_TEMPERATURE)
        has_linear = config.class_head == "linear"
        self.class_embed = nn.Linear(hidden_dim, config.num_linear_classes + 1) if has_linear else None

    def forward(
        self, x: Tensor, unit_bank: Tensor | None, num_fused: int, draws: Draws | None = None
    ) -> LayerPrediction:
        """Predict from queries [B, T, Q, C].

        Args:
            x: Queries.
            unit_bank: [K, D] normalized text features; ``None`` for no categories.
            num_fused: Number of learnable queries where each prompt shares the mask of the one most like
                it, 0 for no sharing.
            draws: Where a training step's order of frames comes from; torch's own generator if ``None``.
        """
        embeddings = self.norm(x)
        mask_embeddings = self.mask_embeddings(embeddings)
        if self.training:
            # Each frame's mask comes from another frame's query, so that queries stay the same object.
            mask_embeddings = mask_embeddings[:, _draw_order(x.shape[1], x.device, draws)]
        elif num_fused:
            mask_embeddings = _share_masks(mask_embeddings, embeddings, num_fused)
        return LayerPrediction(
            embeddings=embeddings.transpose(1, 2),
            mask_embeddings=mask_embeddings.transpose(1, 2),
            class_logits=self._class_logits(embeddings, unit_bank),
        )

    def mask_embeddings(self, embeddings: Tensor) -> Tensor:
        """Turn normalized queries [..., C] into each one's own mask embedding."""
        first, second, third = self.mask_embed
        return third(F.relu(second(F.relu(first(embeddings))))).float()

    def _class_logits(self, embeddings: Tensor, unit_bank: Tensor | None) -> Tensor:
        """Scale the cosine to each bank row, averaged over frames: [B, Q, K]; or apply the linear head."""
        if self.class_embed is not None:
            if unit_bank is not None:
                raise ValueError("this model has a linear class head, which goes without a text bank")
            return self.class_embed(embeddings).float().mean(1)
        if unit_bank is None:
            return embeddings.new_zeros(embeddings.shape[0], embeddings.shape[2], 0)
        text = F.normalize(self.vision_to_text(embeddings).float(), dim=-1).mean(1)
        return self.class_temperature.weight[0, 0].exp() * (text @ unit_bank.T).float()


def _draw_order(num_frames: int, device: torch.device, draws: Draws | None) -> Tensor:
    if draws is None:
        return torch.randperm(num_frames, device=device)
    return draws.randperm(num_frames, device=device)


def _share_masks(mask_embeddings: Tensor, embeddings: Tensor, num_learnable: int) -> Tensor:
    """Average each prompt's mask with that of the learnable query most like it over the clip.

    Masks are linear in their embeddings, so averaging these [B, T, Q, C] averages the logits.
    """
    unit = F.normalize(embeddings.float(), dim=-1)
    learnable, prompts = unit[:, :, :num_learnable], unit[:, :, num_learnable:]
    similarity = torch.einsum("btpc,btqc->bpq", prompts, learnable)
    best = similarity.argmax(-1)[:, None, :, None].expand_as(prompts)
    own = mask_embeddings[:, :, num_learnable:]
    shared = (own + mask_embeddings[:, :, :num_learnable].gather(2, best)) / 2
    return torch.cat([mask_embeddings[:, :, :num_learnable], shared], dim=2)
