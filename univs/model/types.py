"""The tensors that cross the model's seams.

Legend: B clips, T frames, N objects, P prompts, Q queries (learnable first, then prompts), L tokens of one
prompt, C hidden channels, K categories, D text channels, H W the padded input size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from univs.schema import Task


@dataclass(frozen=True, kw_only=True)
class Features:
    """What the image encoder knows of a clip."""

    levels: tuple[Tensor, Tensor, Tensor]
    """[B, T, C, h, w] at strides 32, 16, 8 (coarse to fine)."""
    mask: Tensor
    """[B, T, C, H/4, W/4] features whose product with a mask embedding is a mask logit."""
    frame_indices: Tensor
    """[B, T] int64, positions of the frames in their videos; they enter the position encoding."""


@dataclass(frozen=True, kw_only=True)
class VisualRegions:
    """Where visual prompts point, one region per prompt, all at one key frame each."""

    masks: Tensor
    """[B, P, H, W] bool at the padded input size: a mask or a scribble. Boxes and points do not need it."""
    boxes: Tensor
    """[B, P, 4] x1 y1 x2 y2 as fractions of the padded size."""
    points: Tensor
    """[B, P, 2] x y as fractions of the padded size."""
    kinds: Tensor
    """[B, P] int64: 0 mask, 1 box, 2 point, 3 scribble."""
    key_frames: Tensor
    """[B, P] int64, position of the prompted frame in the clip."""
    valid: Tensor
    """[B, P] bool; false rows are padding."""

    def cat(self, others: "VisualRegions") -> "VisualRegions":
        """Append the prompts of ``others``, of whatever kinds (same clips)."""
        return VisualRegions(
            masks=torch.cat([self.masks, others.masks], dim=1),
            boxes=torch.cat([self.boxes, others.boxes], dim=1),
            points=torch.cat([self.points, others.points], dim=1),
            kinds=torch.cat([self.kinds, others.kinds], dim=1),
            key_frames=torch.cat([self.key_frames, others.key_frames], dim=1),
            valid=torch.cat([self.valid, others.valid], dim=1),
        )


@dataclass(frozen=True, kw_only=True)
class RegionTokens:
    """Pixel features taken inside prompted regions, by slot; a slot is one (object, key frame).

    Both the prompts of the current clip and the memory of earlier clips are of this type.
    """

    features: Tensor
    """[B, P, S, R, C], no gradient."""
    positions: Tensor
    """[B, P, S, R, C] position encodings of those pixels."""
    valid: Tensor
    """[B, P, S, R] bool; false where the object has no pixel in the slot's frame."""

    def cat(self, later: "RegionTokens") -> "RegionTokens":
        """Append the slots of ``later`` (same objects)."""
        return RegionTokens(
            features=torch.cat([self.features, later.features], dim=2),
            positions=torch.cat([self.positions, later.positions], dim=2),
            valid=torch.cat([self.valid, later.valid], dim=2),
        )


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """Prompt queries and the tokens each of them may look at (ProCA's keys)."""

    task: Task
    """What the prompts are for; grounding isolates prompts from one another."""
    queries: Tensor
    """[B, P, T, C] initial content of the prompt queries."""
    query_positions: Tensor
    """[B, P, T, C] initial position of the prompt queries."""
    tokens: Tensor
    """[B, P, T', L, C] content keys, T' = T, or 1 where all frames share them."""
    token_positions: Tensor | None
    """Like ``tokens``; ``None`` for text, which has no place in the image."""
    token_valid: Tensor
    """[B, P, L] bool; false tokens are never attended to."""
    valid: Tensor
    """[B, P] bool; false prompts are padding: nothing they predict is used."""

    @property
    def num_prompts(self) -> int:
        """P."""
        return self.queries.shape[1]


@dataclass(frozen=True, kw_only=True)
class LayerPrediction:
    """Predictions of one decoder layer."""

    embeddings: Tensor
    """[B, Q, T, C] normalized query embeddings; identity lives here."""
    mask_embeddings: Tensor
    """[B, Q, T, C]."""
    class_logits: Tensor
    """[B, Q, K] over the rows of the text bank given to ``decode``."""


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """Predictions after the initial queries and after each layer; the last entry is the result."""

    layers: tuple[LayerPrediction, ...]
    mask_features: Tensor
    """[B, T, C, H/4, W/4], shared by all layers."""
    num_learnable: int
    """Queries before this index are learnable, the rest are prompts in order."""

    @property
    def final(self) -> LayerPrediction:
        """Last layer."""
        return self.layers[-1]

    def mask_logits(self, layer: int = -1) -> Tensor:
        """Multiply out dense mask logits of one layer: [B, Q, T, H/4, W/4]."""
        embeddings = self.layers[layer].mask_embeddings
        return torch.einsum("bqtc,btchw->bqthw", embeddings, self.mask_features)


@dataclass(frozen=True, kw_only=True)
class TextFeatures:
    """What the text tower says of a list of strings."""

    sentences: Tensor
    """[N, D] one feature per string (mean over templates)."""
    words: Tensor
    """[N, W, D] token features of the plain template."""
    word_valid: Tensor
    """[N, W] bool, false on padding."""
