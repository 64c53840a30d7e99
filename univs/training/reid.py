"""Identity losses: embeddings of one object agree across frames, queries, prompts and clips.

Legend: L layers, R anchor tokens (rows), K compared tokens (columns), J sampled columns, C channels; a token
is one query (or prompt) in one frame. B clips, M objects, P prompts, T frames.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from univs.training.losses import Term


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Embeddings with the object each belongs to."""

    embeddings: Tensor
    """[L, R, C] fp32."""
    valid: Tensor
    """[R] bool."""

    @classmethod
    def of(cls, embeddings: Tensor, valid: Tensor) -> "Tokens":
        """Flatten embeddings [L, B, M, T, C] and valid [B, M, T]."""
        return cls(embeddings=embeddings.float().flatten(1, 3), valid=valid.flatten())


def token_relation(relation: Tensor, num_frames: int) -> Tensor:
    """Spread "same object" [B, M, P] over frames and set it false across clips: [B*M*T, B*P*T]."""
    num_clips, num_rows, num_columns = relation.shape
    same_clip = torch.eye(num_clips, dtype=torch.bool, device=relation.device)
    blocks = relation[:, :, None, :] & same_clip[:, None, :, None]
    spread = blocks[:, :, None, :, :, None].expand(-1, -1, num_frames, -1, -1, num_frames)
    return spread.reshape(num_clips * num_rows * num_frames, num_clips * num_columns * num_frames)


def reid_terms(
    rows: Tokens, columns: Tokens, same: Tensor, num_columns: int, generator: torch.Generator
) -> tuple[Term, Term]:
    """Contrast every row with sampled columns: the contrastive and the auxiliary (cosine) term.

    Three quarters of the columns belong to an object of some row, one quarter to none. The positives of a row
    are its first one and the mean of all. ``same`` is [R, K] bool.
    """
    same = same & rows.valid[:, None] & columns.valid
    num_same = same.sum(1)
    anchored = num_same > 0
    index, sampled = _draw_columns(same.any(0), columns.valid, num_columns, generator)
    similarity, cosine = _similarities(rows.embeddings, columns.embeddings)
    first = similarity.gather(2, same.int().argmax(1)[None, :, None].expand(len(similarity), -1, 1))
    mean = (similarity * same).sum(2, keepdim=True) / num_same.clamp(min=1)[:, None]
    apart = ~same[:, index] & sampled & anchored[:, None]
    contrast = contrastive(torch.cat([first, mean], dim=2), similarity[..., index], apart)
    together = same[:, index].float().expand(len(cosine), -1, -1)
    aux = F.smooth_l1_loss(cosine[..., index].relu(), together, reduction="none")
    count = anchored.sum().float()
    return (
        Term(total=contrast.sum(), count=count),
        Term(total=(aux * (sampled & anchored[:, None])).sum(), count=count),
    )


def interclip_terms(
    tokens: Tokens, identity: Tensor, num_identities: int, sizes: tuple[int, int], generator: torch.Generator
) -> tuple[Term, Term]:
    """Contrast one token of every object with tokens of all clips of the video.

    Args:
        tokens: of all clips, learnable and prompted.
        identity: [R] int64 in 0..num_identities-1, the object of each token.
        num_identities: objects in the batch.
        sizes: columns and positives drawn per object.
        generator: source of the draws.
    """
    num_columns, num_positives = sizes
    device = identity.device
    same = (identity == torch.arange(num_identities, device=device)[:, None]) & tokens.valid
    anchored = same.any(1)
    draws = torch.rand((num_positives + 1, *same.shape), generator=generator, device=generator.device)
    picks = draws.to(device).masked_fill(~same, -1).argmax(-1)
    anchors = tokens.embeddings[:, picks[0]]
    similarity, cosine = _similarities(anchors, tokens.embeddings)
    positives = similarity.gather(2, picks[1:].T.expand(len(similarity), -1, -1))
    scores = torch.rand(same.shape, generator=generator, device=generator.device).to(device)
    scores, index = scores.masked_fill(~tokens.valid, -1).topk(min(num_columns, same.shape[1]), dim=1)
    sampled = (scores >= 0) & anchored[:, None]
    together = same.gather(1, index)
    wide = index.expand(len(similarity), -1, -1)
    contrast = contrastive(positives, similarity.gather(2, wide), sampled & ~together)
    target = together.float().expand(len(cosine), -1, -1)
    aux = F.smooth_l1_loss(cosine.gather(2, wide).relu(), target, reduction="none")
    count = anchored.sum().float()
    return Term(total=contrast.sum(), count=count), Term(total=(aux * sampled).sum(), count=count)


def contrastive(positives: Tensor, others: Tensor, apart: Tensor) -> Tensor:
    """Give log(1 + sum over pairs of exp(other - positive)) per row: [L, R].

    Written as a log-sum-exp, so no similarity overflows and no gradient is cut.

    Args:
        positives: [L, R, p] similarities to tokens of the same object.
        others: [L, R, J] similarities to sampled tokens.
        apart: [R, J] bool, which of those belong to another object; rows without any give 0.
    """
    gaps = others[..., None] - positives[..., None, :]
    gaps = gaps.masked_fill(~apart[..., None], -torch.inf).flatten(2)
    return torch.cat([torch.zeros_like(gaps[..., :1]), gaps], dim=2).logsumexp(2)


def _similarities(rows: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Give scaled dot products and cosines [L, R, K] of [L, R, C] and [L, K, C]."""
    products = rows @ columns.transpose(1, 2)
    norms = rows.norm(dim=2)[:, :, None] * columns.norm(dim=2)[:, None, :]
    return products / rows.shape[2] ** 0.5, products / norms.clamp(min=1e-6)


def _draw_columns(
    related: Tensor, valid: Tensor, num_columns: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw column indices [J], and whether each is usable, from related and unrelated valid columns [K]."""
    num_related = min(round(0.75 * num_columns), len(valid))
    num_unrelated = min(num_columns - num_related, len(valid))
    draws = torch.rand(len(valid), generator=generator, device=generator.device).to(valid.device)
    near, near_index = draws.masked_fill(~related, -1).topk(num_related)
    far, far_index = draws.masked_fill(related | ~valid, -1).topk(num_unrelated)
    return torch.cat([near_index, far_index]), torch.cat([near, far]) >= 0
