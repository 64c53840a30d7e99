"""Which frames of a sample become a clip. Pure functions of an explicit generator."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def clip_generator(seed: int, step: int, slot: int, attempt: int = 0) -> np.random.Generator:
    """Make the generator of everything random about one clip: frames, augmentation, caps."""
    return np.random.Generator(np.random.PCG64([seed, step, slot, attempt]))


def choose_frames(
    labelled: Sequence[bool], num_frames: int, range_frames: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Choose ascending positions of a clip from a stretch of video.

    A reference frame is uniform among the labelled frames; the others are labelled frames at most
    ``range_frames`` away from it, without repeats unless there are too few.

    Raises:
        ValueError: no frame is labelled.
    """
    usable = np.flatnonzero(np.asarray(labelled, dtype=bool))
    if usable.size == 0:
        raise ValueError("no labelled frame to train on")
    reference = generator.choice(usable)
    near = usable[(np.abs(usable - reference) <= range_frames) & (usable != reference)]
    wanted = num_frames - 1
    chosen = generator.permutation(near)[:wanted]
    pool = np.append(near, reference)
    repeats = generator.choice(pool, size=wanted - chosen.size)
    return np.sort(np.concatenate([[reference], chosen, repeats])).astype(np.int64)


def choose_image(
    labelled: Sequence[bool], num_frames: int, generator: np.random.Generator
) -> NDArray[np.int64]:
    """Choose one labelled frame and repeat it: the positions of a pseudo-clip.

    Raises:
        ValueError: no frame is labelled.
    """
    return np.repeat(choose_frames(labelled, 1, 0, generator), num_frames)
