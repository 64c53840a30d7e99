"""Higher order tracking accuracy (HOTA), as TrackEval computes it.

How well objects are detected (DetA), kept apart over time (AssA) and placed (LocA), at 19 thresholds of
similarity, averaged. A video and class is matched on its own; what it adds are sums.

Legend: F frames, G true tracks, D predicted tracks, A thresholds.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

ALPHAS = np.arange(0.05, 0.99, 0.05)
FIELDS = ("hota", "deta", "assa", "detre", "detpr", "assre", "asspr", "loca", "owta")
_EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, kw_only=True, slots=True)
class HotaFrame:
    """What is there in one frame."""

    truths: NDArray[np.intp]
    """Positions of tracks, as ``detections``."""
    detections: NDArray[np.intp]
    similarity: NDArray[np.float64]
    """[truths, detections], in [0, 1]."""


@dataclass(frozen=True, kw_only=True, slots=True)
class HotaSums:
    """What one video and class adds, each [A]."""

    right: NDArray[np.float64]
    missed: NDArray[np.float64]
    wrong: NDArray[np.float64]
    similarity: NDArray[np.float64]
    """Of right detections."""
    association: NDArray[np.float64]
    """Over right detections: how much of both tracks is matched to each other."""
    association_recall: NDArray[np.float64]
    association_precision: NDArray[np.float64]


def evaluate_hota(frames: Sequence[HotaFrame], num_truths: int, num_detections: int) -> HotaSums:
    """Match one video's tracks of one class, frame by frame, favoring pairs that fit the whole video."""
    true_counts = _count([frame.truths for frame in frames], num_truths)[:, None]
    counts = _count([frame.detections for frame in frames], num_detections)[None]
    similar = np.zeros((len(frames), num_truths, num_detections))
    for at, frame in zip(similar, frames, strict=True):
        at[frame.truths[:, None], frame.detections] = frame.similarity
    fits = _share(similar).sum(axis=0)
    # Pairs that are never there at once have nothing to divide by.
    alignment = fits / np.maximum(true_counts + counts - fits, _EPSILON)
    pairs, similarity = _match(frames, alignment)
    is_right = similarity[:, None] >= ALPHAS - _EPSILON
    together = np.zeros((num_truths * num_detections, ALPHAS.size))
    np.add.at(together, pairs, is_right)
    right, shared = is_right.sum(axis=0), together.reshape(num_truths, num_detections, ALPHAS.size)
    either = np.maximum(1, true_counts[..., None] + counts[..., None] - shared)
    return HotaSums(
        right=right.astype(np.float64),
        missed=true_counts.sum() - right,
        wrong=counts.sum() - right,
        similarity=(similarity[:, None] * is_right).sum(axis=0),
        association=(shared * (shared / either)).sum(axis=(0, 1)),
        association_recall=(shared * (shared / np.maximum(1, true_counts[..., None]))).sum(axis=(0, 1)),
        association_precision=(shared * (shared / np.maximum(1, counts[..., None]))).sum(axis=(0, 1)),
    )


def merge_hota(parts: Sequence[HotaSums]) -> HotaSums:
    """Add up; the order does not matter."""
    return HotaSums(
        **{
            field.name: np.asarray(
                [math.fsum(column) for column in zip(*(getattr(p, field.name) for p in parts), strict=True)]
            )
            for field in fields(HotaSums)
        }
    )


def score_hota(sums: HotaSums) -> dict[str, NDArray[np.float64]]:
    """Give the scores by the names of ``FIELDS``, fractions at each threshold, [A]."""
    right, found = sums.right, np.maximum(1, sums.right)
    det_a = right / np.maximum(1, right + sums.missed + sums.wrong)
    det_re, det_pr = right / np.maximum(1, right + sums.missed), right / np.maximum(1, right + sums.wrong)
    ass_a, ass_re, ass_pr = (
        part / found for part in (sums.association, sums.association_recall, sums.association_precision)
    )
    # Where nothing is right, nothing is out of place.
    loc_a = np.maximum(1e-10, sums.similarity) / np.maximum(1e-10, right)
    hota, owta = np.sqrt(det_a * ass_a), np.sqrt(det_re * ass_a)
    values = (hota, det_a, ass_a, det_re, det_pr, ass_re, ass_pr, loc_a, owta)
    return dict(zip(FIELDS, values, strict=True))


def _count(frames: Sequence[NDArray[np.intp]], num_tracks: int) -> NDArray[np.float64]:
    """Count the frames of each track."""
    return np.bincount(np.concatenate([np.zeros(0, np.intp), *frames]), minlength=num_tracks).astype(
        np.float64
    )


def _share(similarity: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide the similarity of each pair by what both have in all in that frame, [F, G, D]."""
    whole = similarity.sum(1)[:, None] + similarity.sum(2)[..., None] - similarity
    share = np.zeros_like(similarity)
    np.divide(similarity, whole, out=share, where=whole > _EPSILON)
    return share


def _match(
    frames: Sequence[HotaFrame], alignment: NDArray[np.float64]
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Give the flat positions of all matched pairs, and how similar they are there."""
    pairs, similarities = [np.zeros(0, np.intp)], [np.zeros(0)]
    for frame in frames:
        if frame.similarity.size:
            value = alignment[frame.truths[:, None], frame.detections] * frame.similarity
            g, d = linear_sum_assignment(-value)
            pairs.append(frame.truths[g] * alignment.shape[1] + frame.detections[d])
            similarities.append(frame.similarity[g, d])
    return np.concatenate(pairs), np.concatenate(similarities)
