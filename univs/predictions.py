"""What inference hands to evaluation, one type per family of benchmarks.

Numpy only; sizes are the original frames'.

The same types carry ground truth, so a metric compares like with like.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """One segment of a panoptic video (or image)."""

    segment_id: int
    """Value of its pixels in the map, > 0, one per object through the video."""
    label: int
    """0-based label in the label space."""
    is_crowd: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class PanopticVideo:
    """A panoptic labelling; an image is a video of one frame."""

    video_id: str
    maps: NDArray[np.int32]
    """[T, H, W] segment ids, 0 = void (truth) or nothing predicted."""
    segments: tuple[Segment, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceTrack:
    """One object track of a VIS result."""

    label: int
    score: float
    """Confidence in [0, 1]; ground truth carries 1."""
    rles: tuple[str | None, ...]
    """COCO compressed ``counts`` per frame, ``None`` where not visible."""
    is_crowd: bool = False
    area: float | None = None
    """Mean pixels per visible frame where a file states them; ``None`` is counted in the masks."""
    occlusion: float | None = None
    """Of truth that states it: 0 (in full view) to 1."""
    is_findable: bool = True
    """Whether a detection of it counts; COCO's code takes truth of id 0 for none."""


@dataclass(frozen=True, kw_only=True, slots=True)
class InstanceVideo:
    """The tracks of one video."""

    video_id: str
    height: int
    width: int
    tracks: tuple[InstanceTrack, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class SemanticVideo:
    """One class per pixel."""

    video_id: str
    labels: NDArray[np.int16]
    """[T, H, W] 0-based labels, -1 = void (truth only)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectVideo:
    """Masks of given objects (VOS, PVOS) or of expressions (RefVOS)."""

    video_id: str
    object_ids: tuple[str, ...]
    """Official object ids, or expression ids."""
    masks: NDArray[np.bool_]
    """[N, T, H, W]."""
    frame_names: tuple[str, ...]
    """File stems, in order; what the submission trees are named by."""
    labels: tuple[int, ...] = ()
    """0-based labels of the objects, in ground truth of benchmarks with classes."""
