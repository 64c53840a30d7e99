"""Which frames of a sample become a clip. Pure functions of an explicit generator."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_SIZE = 1
"""Tells the generator of sizes from that of contents."""


def clip_generator(seed: int, step: int, slot: int, attempt: int = 0) -> np.random.Generator:
    """Make the generator of everything random about one clip but its size: frames, augmentation, caps."""
    return np.random.Generator(np.random.PCG64([seed, step, slot, attempt]))


def size_generator(seed: int, step: int, slot: int, attempt: int = 0) -> np.random.Generator:
    """Make the generator of a clip's size, which every rank draws for every clip of a step."""
    return np.random.Generator(np.random.PCG64([seed, step, slot, attempt, _SIZE]))


def choose_reference(labelled: Sequence[bool], generator: np.random.Generator) -> int:
    """Choose the frame that a clip is drawn around, uniform among the labelled ones.

    Raises:
        ValueError: no frame is labelled.
    """
    usable = np.flatnonzero(np.asarray(labelled, dtype=bool))
    if usable.size == 0:
        raise ValueError("no labelled frame to train on")
    return int(generator.choice(usable))


def choose_frames(
    labelled: Sequence[bool],
    reference: int,
    num_frames: int,
    range_frames: int,
    generator: np.random.Generator,
) -> NDArray[np.int64]:
    """Choose ascending positions of a clip around a reference frame, which is one of them.

    The others are labelled frames at most ``range_frames`` away from it, without repeats unless there are
    too few.
    """
    usable = np.flatnonzero(np.asarray(labelled, dtype=bool))
    near = usable[(np.abs(usable - reference) <= range_frames) & (usable != reference)]
    wanted = num_frames - 1
    chosen = generator.permutation(near)[:wanted]
    pool = np.append(near, reference)
    repeats = generator.choice(pool, size=wanted - chosen.size)
    return np.sort(np.concatenate([[reference], chosen, repeats])).astype(np.int64)
