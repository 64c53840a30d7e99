"""The decoder's last word on a clip, split into learnable queries and prompts; B = 1 is dropped.

Legend: Q queries of one kind, T frames, K categories, C channels, q a quarter of the padded size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from univs.inference.overlap import mask_quality
from univs.model.types import Predictions


@dataclass(frozen=True, kw_only=True, slots=True)
class QueryOutputs:
    """What some queries say, in float32; row i of every field is the same query."""

    mask_logits: Tensor
    """[Q, T, hq, wq]."""
    embeddings: Tensor
    """[Q, T, C]."""
    class_probabilities: Tensor
    """[Q, K], times the mask quality."""
    quality: Tensor
    """[Q] mask quality."""

    def __len__(self) -> int:
        return len(self.quality)

    def selected(self, rows: Tensor) -> "QueryOutputs":
        """Keep some queries, by index or by a bool mask."""
        return QueryOutputs(
            mask_logits=self.mask_logits[rows],
            embeddings=self.embeddings[rows],
            class_probabilities=self.class_probabilities[rows],
            quality=self.quality[rows],
        )

    @property
    def scores(self) -> Tensor:
        """[Q] largest class probability."""
        return self.class_probabilities.amax(1)

    @property
    def labels(self) -> Tensor:
        """[Q] most probable class."""
        return self.class_probabilities.argmax(1)

    @property
    def mean_embeddings(self) -> Tensor:
        """[Q, C] average over the frames."""
        return self.embeddings.mean(1)


def learnable_outputs(predictions: Predictions) -> QueryOutputs:
    """Take the learnable queries."""
    return _outputs(predictions, 0, predictions.num_learnable)


def prompt_outputs(predictions: Predictions) -> QueryOutputs:
    """Take the prompts, in the order they were given."""
    return _outputs(predictions, predictions.num_learnable, None)


def all_outputs(predictions: Predictions) -> QueryOutputs:
    """Take every query."""
    return _outputs(predictions, 0, None)


def _outputs(predictions: Predictions, start: int, stop: int | None) -> QueryOutputs:
    final = predictions.final
    mask_embeddings, mask_features = final.mask_embeddings[0, start:stop], predictions.mask_features[0]
    # the one large product of inference: autocast may do it in bfloat16
    mask_logits = torch.einsum("qtc,tchw->qthw", mask_embeddings, mask_features).float()
    quality = mask_quality(mask_logits)
    return QueryOutputs(
        mask_logits=mask_logits,
        embeddings=final.embeddings[0, start:stop].float(),
        class_probabilities=final.class_logits[0, start:stop].float().sigmoid() * quality[:, None],
        quality=quality,
    )
