"""One training clip: chosen frames of a sample, decoded and augmented, with their targets.

Legend: T frames, h w size after augmentation.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from univs.data.augment import AugmentConfig, Source, draw_view
from univs.data.batch import ClipTargets
from univs.data.images import decode_image
from univs.data.release import Release
from univs.data.sampling import choose_frames, choose_image, clip_generator
from univs.data.targets import build_targets, decode_pixels, draw_anchor, select_objects
from univs.schema import VideoRecord

_LOGGER = logging.getLogger(__name__)

_MAX_ATTEMPTS = 50
"""Draws before a dataset counts as unfit for its task."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipSpec:
    """What every clip of one dataset looks like."""

    frames_per_clip: int = 1
    frame_range_frames: int = 20
    """Largest distance of a frame from the clip's reference frame."""
    max_objects: int = 30
    """Cap on objects, and on expressions, of a clip."""
    as_images: bool = False
    """Take single frames of videos, as if they were images."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)

    def __post_init__(self) -> None:
        """Refuse an empty clip."""
        if min(self.frames_per_clip, self.max_objects) < 1 or self.frame_range_frames < 0:
            raise ValueError(
                "a clip needs frames_per_clip >= 1, max_objects >= 1 and frame_range_frames >= 0, got "
                f"{self.frames_per_clip}, {self.max_objects}, {self.frame_range_frames}"
            )


@dataclass(frozen=True, kw_only=True)
class ClipSample:
    """One clip before batching."""

    key: str
    frames: Tensor
    """[T, h, w, 3] uint8 RGB."""
    frame_indices: Tensor
    """[T] int64 positions in the video; a pseudo-clip counts on from its only frame."""
    targets: ClipTargets
    num_redraws: int = 0
    """Samples tried before this one that had nothing to train on."""

    @property
    def height(self) -> int:
        """Frame height after augmentation."""
        return self.frames.shape[1]

    @property
    def width(self) -> int:
        """Frame width after augmentation."""
        return self.frames.shape[2]


def draw_clip(release: Release, row_index: int, spec: ClipSpec, seeds: tuple[int, int, int]) -> ClipSample:
    """Build the clip of (seed, step, slot) from a sample, or from the next usable one.

    Detection also learns from empty clips. The other tasks need an object (or expression) to prompt
    with: a clip without one is replaced by a sample drawn from the same seeds, and counted.

    Raises:
        ValueError: no sample of many fits the task.
    """
    for attempt in range(_MAX_ATTEMPTS):
        generator = clip_generator(*seeds, attempt)
        if attempt:
            row_index = int(generator.integers(len(release.rows)))
        sample = build_clip(release, row_index, spec, generator)
        if _is_usable(release, sample):
            return replace(sample, num_redraws=attempt)
        _LOGGER.info("%s: nothing to prompt with in this clip, drawing another sample", sample.key)
    raise ValueError(
        f"{release.directory}: {_MAX_ATTEMPTS} clips in a row without anything to prompt with "
        f"(task {release.manifest.task}); check the release's objects and expressions"
    )


def build_clip(
    release: Release, row_index: int, spec: ClipSpec, generator: np.random.Generator
) -> ClipSample:
    """Choose frames, objects and augmentation with one generator and apply them.

    Raises:
        ValueError: the sample cannot be trained on or its bytes contradict its record; names the sample.
    """
    key = release.rows[row_index].key
    try:
        return _build(release, row_index, spec, generator)
    except ValueError as error:
        raise ValueError(f"{release.directory}: sample {key}: {error}") from error


def _build(release: Release, row_index: int, spec: ClipSpec, generator: np.random.Generator) -> ClipSample:
    record = release.read_record(row_index)
    is_pseudo_clip = record.kind == "image" or spec.as_images
    positions = _choose(record, spec, is_pseudo_clip, generator)
    selection = select_objects(record, positions, spec.max_objects, generator)
    source = Source(
        height=record.height,
        width=record.width,
        num_frames=len(positions),
        is_pseudo_clip=is_pseudo_clip,
        anchor=draw_anchor(record, selection, positions, generator),
    )
    view = draw_view(spec.augment, source, generator)
    images = _decode_frames(release, row_index, record, positions)
    pixels = {position: decode_pixels(record, selection, position) for position in images}
    warped = [view.warp_frame(images[position], time) for time, position in enumerate(positions)]
    return ClipSample(
        key=release.rows[row_index].key,
        frames=torch.from_numpy(np.stack(warped)),
        frame_indices=_indices(record, positions, is_pseudo_clip),
        targets=build_targets(record, selection, pixels, positions, view, release.manifest.label_space),
    )


def _choose(
    record: VideoRecord, spec: ClipSpec, is_pseudo_clip: bool, generator: np.random.Generator
) -> list[int]:
    if record.ground_truth == "none":
        raise ValueError("no ground truth; train on a split that has annotation")
    labelled = [frame.labelled for frame in record.frames]
    if is_pseudo_clip:
        positions = choose_image(labelled, spec.frames_per_clip, generator)
    else:
        positions = choose_frames(labelled, spec.frames_per_clip, spec.frame_range_frames, generator)
    return [int(position) for position in positions]


def _decode_frames(
    release: Release, row_index: int, record: VideoRecord, positions: Sequence[int]
) -> dict[int, NDArray[np.uint8]]:
    """Read and decode each distinct frame once."""
    distinct = sorted(set(positions))
    images = [decode_image(data) for data in release.read_frames(row_index, distinct)]
    for position, image in zip(distinct, images, strict=True):
        if image.shape[:2] != (record.height, record.width):
            raise ValueError(
                f"frame {record.frames[position].name} is {image.shape[0]}x{image.shape[1]}, the record "
                f"says {record.height}x{record.width}; preprocess it again"
            )
    return dict(zip(distinct, images, strict=True))


def _indices(record: VideoRecord, positions: Sequence[int], is_pseudo_clip: bool) -> Tensor:
    indices = torch.tensor([record.frames[position].index for position in positions])
    return indices + torch.arange(len(positions)) if is_pseudo_clip else indices


def _is_usable(release: Release, sample: ClipSample) -> bool:
    match release.manifest.task:
        case "detection":
            return True
        case "sot":
            return len(sample.targets.object_ids) > 0
        case "grounding":
            return len(sample.targets.expressions) > 0
