"""One training clip: chosen frames of a sample, decoded and augmented, with their targets.

Legend: T frames, H W padded size, h w size after augmentation.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from univs.data.augment import AugmentConfig, Framing, Source, draw_framing, draw_view, shrink_framing
from univs.data.images import decode_image, is_reducible, jpeg_header, round_up
from univs.data.packed import PackedTargets
from univs.data.release import Release
from univs.data.samples import IndexedSample, Sample, Stretch
from univs.data.sampling import choose_frames, choose_reference, clip_generator, size_generator
from univs.data.targets import ClipMasks, build_targets, draw_anchor, select_objects
from univs.data.view import ClipView
from univs.labels import LabelSpace
from univs.schema import Manifest, Task, VideoRecord

_LOGGER = logging.getLogger(__name__)

_MAX_ATTEMPTS = 50
"""Draws before a dataset counts as unfit for its task."""

Seeds = tuple[int, int, int]
"""Run seed, step and slot: all that a clip's randomness follows from."""


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
    """[T, H, W, 3] uint8 RGB, the clip in the top left corner."""
    color: Tensor
    """[3, 4] float32, the change of color that is still to be made."""
    height: int
    width: int
    """Size of the clip after augmentation."""
    frame_indices: Tensor
    """[T] int64 positions in the video; a pseudo-clip counts on from its only frame."""
    targets: PackedTargets
    num_redraws: int = 0
    """Samples tried before this one that had nothing to train on."""


@dataclass(frozen=True, kw_only=True)
class ClipSource:
    """A release that clips are drawn from."""

    release: Release
    spec: ClipSpec
    rows: NDArray[np.int64]
    """Rows of the samples in the order's reach: those with something to prompt with."""

    @classmethod
    def of(cls, release: Release, spec: ClipSpec) -> "ClipSource":
        """Find the usable samples of a release.

        Raises:
            ValueError: there are none.
        """
        task = release.manifest.task
        rows = release.rows.usable_for(task)
        if not len(rows):
            raise ValueError(
                f"{release.location}: none of its {len(release.rows)} samples has anything to prompt with "
                f"(task {task}); check the release's objects and expressions"
            )
        if len(rows) < len(release.rows):
            _LOGGER.info(
                "%s: %d of %d samples have something to prompt with",
                release.location,
                len(rows),
                len(release.rows),
            )
        return cls(release=release, spec=spec, rows=rows)

    def frame(self, row_index: int, seeds: Seeds, attempt: int = 0) -> Framing:
        """Draw the sizes of a clip from the index alone."""
        generator = size_generator(*seeds, attempt)
        size = self.release.rows.size_of(row_index)
        return frame_clip(self.spec, self.release.manifest, size, generator)


def frame_clip(
    spec: ClipSpec, manifest: Manifest, size: tuple[int, int], generator: np.random.Generator
) -> Framing:
    """Draw the sizes of a clip from the height and width of its source."""
    drifts = spec.augment.pseudo_motion and spec.frames_per_clip > 1
    is_pseudo_clip = manifest.kind == "image" or spec.as_images
    return draw_framing(spec.augment, size, generator, is_moving=drifts and is_pseudo_clip)


def padded_size(framings: Sequence[Framing]) -> tuple[int, int]:
    """Give the size, a multiple of the backbone's stride, that holds clips of these sizes."""
    heights, widths = zip(*(framing.canvas for framing in framings), strict=True)
    return round_up(max(heights)), round_up(max(widths))


def draw_clip(source: ClipSource, row_index: int, seeds: Seeds, canvas: tuple[int, int]) -> ClipSample:
    """Build the clip of (seed, step, slot) from a sample, or from the next usable one.

    Detection also learns from empty clips. The other tasks need an object (or expression) to prompt
    with: a clip without one is replaced by a sample drawn from the same seeds, and counted.

    Raises:
        ValueError: no sample of many fits the task.
    """
    release, spec = source.release, source.spec
    for attempt in range(_MAX_ATTEMPTS):
        generator = clip_generator(*seeds, attempt)
        if attempt:
            row_index = int(generator.choice(source.rows))
        framing = shrink_framing(source.frame(row_index, seeds, attempt), canvas)
        sample = IndexedSample(release=release, row_index=row_index)
        clip = build_clip(sample, spec, framing, release.manifest.label_space, generator)
        if is_usable(release.manifest.task, clip):
            return replace(clip, num_redraws=attempt)
        _LOGGER.info("%s: nothing to prompt with in this clip, drawing another sample", clip.key)
    raise ValueError(
        f"{release.location}: {_MAX_ATTEMPTS} clips in a row without anything to prompt with "
        f"(task {release.manifest.task}); check the release's objects and expressions"
    )


def build_clip(
    sample: Sample,
    spec: ClipSpec,
    framing: Framing,
    label_space: LabelSpace | None,
    generator: np.random.Generator,
) -> ClipSample:
    """Choose frames, objects and augmentation with one generator and apply them.

    Raises:
        ValueError: the sample cannot be trained on or its bytes contradict its record; names the sample.
    """
    try:
        return _build(sample, spec, framing, label_space, generator)
    except ValueError as error:
        raise ValueError(f"sample {sample.key}: {error}") from error


def is_usable(task: Task, clip: ClipSample) -> bool:
    """Say whether a clip has what its task prompts with."""
    match task:
        case "detection":
            return True
        case "sot":
            return len(clip.targets.object_ids) > 0
        case "grounding":
            return len(clip.targets.expressions) > 0


def _build(
    sample: Sample,
    spec: ClipSpec,
    framing: Framing,
    label_space: LabelSpace | None,
    generator: np.random.Generator,
) -> ClipSample:
    is_pseudo_clip = sample.record.kind == "image" or spec.as_images
    stretch, positions = _choose(sample, spec, generator, is_pseudo_clip=is_pseudo_clip)
    record = stretch.record
    distinct = sorted(set(positions))
    encoded = dict(zip(distinct, stretch.read_frames(distinct), strict=True))
    selection = select_objects(record, positions, spec.max_objects, generator)
    masks = ClipMasks.read(record, selection, positions)
    source = Source(
        height=record.height,
        width=record.width,
        num_frames=len(positions),
        is_pseudo_clip=is_pseudo_clip,
        anchor=draw_anchor(record, selection, masks, generator),
        is_reducible=all(map(is_reducible, encoded.values())),
    )
    view = draw_view(spec.augment, source, framing, generator)
    canvas = padded_size([framing])
    return ClipSample(
        key=sample.key,
        frames=_warp_frames(record, encoded, positions, view, canvas),
        color=torch.from_numpy(view.color),
        height=view.height,
        width=view.width,
        frame_indices=_indices(record, positions, is_pseudo_clip=is_pseudo_clip),
        targets=build_targets(record, selection, masks, positions, view, canvas, label_space),
    )


def _choose(
    sample: Sample, spec: ClipSpec, generator: np.random.Generator, *, is_pseudo_clip: bool
) -> tuple[Stretch, list[int]]:
    """Choose the frames of a clip around one of the sample's own; a pseudo-clip repeats that one."""
    record = sample.record
    if record.ground_truth == "none":
        raise ValueError("no ground truth; train on a split that has annotation")
    reference = choose_reference([frame.labelled for frame in record.frames], generator)
    range_frames = 0 if is_pseudo_clip or spec.frames_per_clip == 1 else spec.frame_range_frames
    stretch = sample.around(reference, range_frames)
    labelled = [frame.labelled for frame in stretch.record.frames]
    positions = choose_frames(
        labelled, stretch.start + reference, spec.frames_per_clip, range_frames, generator
    )
    return stretch, positions.tolist()


def _warp_frames(
    record: VideoRecord,
    encoded: dict[int, bytes],
    positions: Sequence[int],
    view: ClipView,
    canvas: tuple[int, int],
) -> Tensor:
    """Decode each distinct frame once and place its views on the canvas: [T, H, W, 3]."""
    frames = np.empty((len(positions), *canvas, 3), dtype=np.uint8)
    frames[:, view.height :] = 0
    frames[:, :, view.width :] = 0
    for position, data in encoded.items():
        times = [time for time, used in enumerate(positions) if used == position]
        _warp_views(_decode(record, position, data, view.scale), view, times, frames)
    return torch.from_numpy(frames)


def _warp_views(
    image: NDArray[np.uint8], view: ClipView, times: Sequence[int], frames: NDArray[np.uint8]
) -> None:
    for time in times:
        view.warp_frame(image, time, frames[time, : view.height, : view.width])


def _decode(record: VideoRecord, position: int, data: bytes, scale: int) -> NDArray[np.uint8]:
    image = decode_image(data, scale)
    header = jpeg_header(data) if scale > 1 else None
    height, width = (header.height, header.width) if header else image.shape[:2]
    if (height, width) != (record.height, record.width):
        raise ValueError(
            f"frame {record.frames[position].name} is {height}x{width}, the record "
            f"says {record.height}x{record.width}; preprocess it again"
        )
    return image


def _indices(record: VideoRecord, positions: Sequence[int], *, is_pseudo_clip: bool) -> Tensor:
    indices = np.array([record.frames[position].index for position in positions], dtype=np.int64)
    return torch.from_numpy(indices + np.arange(len(positions)) if is_pseudo_clip else indices)
