"""The original's matching of learnable queries and objects.

Legend: B clips, T frames, Q learnable queries, N objects, C channels, K categories, h w the mask map.
"""

import torch
from torch import Tensor

from univs.training.compat.points import Sampling, sample
from univs.training.compat.targets import BatchGoals
from univs.training.matching import class_costs, match


@torch.no_grad()
def match_objects(
    mask_embeddings: Tensor,
    class_logits: Tensor,
    maps: Tensor,
    goals: BatchGoals,
    sampling: Sampling,
) -> list[tuple[Tensor, Tensor]]:
    """Match one layer's queries to all objects, at points shared by the frames of a clip.

    Args:
        mask_embeddings: [B, Q, T, C].
        class_logits: [B, Q, K].
        maps: [B, T, C, h, w] mask features.
        goals: what the clips show.
        sampling: points and cost weights.

    Returns:
        Queries and rows of objects of each clip, in the order of the queries.
    """
    pairs = []
    for index, clip in enumerate(goals.clips):
        num_objects, num_frames = clip.masks.shape[:2]
        if not num_objects:
            pairs.append((clip.labels, clip.labels))
            continue
        points = sampling.shared_points(maps.device).expand(num_frames, -1, -1)
        logits = mask_embeddings[index].transpose(0, 1) @ sample(maps[index], points)
        truth = sample(clip.masks.transpose(0, 1).float(), points)
        costs = None
        if class_logits.shape[-1]:
            costs = class_costs(class_logits[index, None, None], clip.labels[None], sampling.config)
        everything = torch.ones_like(clip.labels, dtype=torch.bool)[None]
        weight = torch.ones_like(truth[:, 0])
        chosen = match(
            logits[None, :, None], truth[None], weight[None], costs, everything, everything, sampling.config
        )[0, 0]
        order = chosen.argsort()
        order = order[chosen[order] >= 0]
        pairs.append((chosen[order], order))
    return pairs
