"""The training feed: batches of clips as a pure function of (seed, step).

Every step uses one dataset of the mixture. The global batch of a step has ``batch_size`` slots; a rank
builds its own slots and nothing else, so neither the number of ranks nor of workers changes a sample.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import cv2
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from univs.data.augment import AugmentConfig
from univs.data.batch import ClipBatch
from univs.data.clips import ClipSample, ClipSpec, draw_clip
from univs.data.collate import collate
from univs.data.release import Release
from univs.data.schedule import MixtureSchedule, SampleOrder


@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureSource:
    """One dataset of a training mixture."""

    path: Path
    """Directory of the release."""
    weight: float = 1.0
    """Share of the steps, relative to the other sources."""
    frame_range_frames: int = 20
    """Largest distance of a frame from the clip's reference frame."""
    as_images: bool = False
    """Take single frames of videos, as stage 1 does."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoaderConfig:
    """Sizes of the training feed."""

    batch_size: int = 8
    """Clips per step over all ranks."""
    frames_per_clip: int = 1
    max_objects: int = 30
    """Cap on objects, and on expressions, of a clip."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    num_workers: int = 2
    """Processes per rank; 0 loads in the training process."""
    prefetch_batches: int = 2
    """Batches kept ready per worker."""

    def __post_init__(self) -> None:
        """Refuse sizes that give no batch."""
        if self.batch_size < 1 or self.num_workers < 0 or self.prefetch_batches < 1:
            raise ValueError(
                "the loader needs batch_size >= 1, num_workers >= 0 and prefetch_batches >= 1, got "
                f"{self.batch_size}, {self.num_workers}, {self.prefetch_batches}"
            )


class ClipSteps(Dataset[ClipBatch]):
    """One rank's part of the batch of any step; indexed by step."""

    def __init__(
        self,
        sources: Sequence[MixtureSource],
        config: LoaderConfig,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Open the releases.

        Raises:
            ValueError: a release is not whole, or the batch does not split over the ranks.
        """
        if config.batch_size % world_size or not 0 <= rank < world_size:
            raise ValueError(
                f"batch_size {config.batch_size} does not split over {world_size} ranks (rank {rank}): "
                "make it a multiple of the number of ranks"
            )
        self._seed = seed
        self._batch_size = config.batch_size
        self._slots = range(rank, config.batch_size, world_size)
        self._schedule = MixtureSchedule.from_weights([source.weight for source in sources])
        self._releases = [Release.open(source.path) for source in sources]
        self._specs = [_clip_spec(source, config) for source in sources]
        self._orders = [
            SampleOrder(seed=seed, name=release.name, num_samples=len(release.rows))
            for release in self._releases
        ]

    def __getitem__(self, step: int) -> ClipBatch:
        """Build this rank's part of the batch of a step."""
        source = self._schedule.dataset_at(step)
        first_draw = self._schedule.count_before(step, source) * self._batch_size
        samples = [self._draw(source, step, slot, first_draw + slot) for slot in self._slots]
        return collate(samples, step, self._releases[source].manifest)

    def _draw(self, source: int, step: int, slot: int, draw: int) -> ClipSample:
        row_index = self._orders[source].sample_at(draw)
        seeds = (self._seed, step, slot)
        return draw_clip(self._releases[source], row_index, self._specs[source], seeds)


class StepSampler(Sampler[int]):
    """Steps from ``start_step`` on, without end."""

    def __init__(self, start_step: int) -> None:
        self._start_step = start_step

    def __iter__(self) -> Iterator[int]:
        return count(self._start_step)


def make_loader(
    sources: Sequence[MixtureSource],
    config: LoaderConfig,
    *,
    seed: int,
    start_step: int = 0,
    rank: int = 0,
    world_size: int = 1,
) -> Iterator[ClipBatch]:
    """Yield this rank's batches of steps ``start_step``, ``start_step + 1``, ... without end.

    Starting at a later step costs nothing and gives the same batches as running there.

    Raises:
        ValueError: a release is not whole, or the batch does not split over the ranks.
    """
    steps = ClipSteps(sources, config, seed=seed, rank=rank, world_size=world_size)
    loader = DataLoader(
        steps,
        batch_size=None,
        sampler=StepSampler(start_step),
        num_workers=config.num_workers,
        prefetch_factor=config.prefetch_batches if config.num_workers else None,
        worker_init_fn=_start_worker,
    )
    return iter(loader)


def _clip_spec(source: MixtureSource, config: LoaderConfig) -> ClipSpec:
    return ClipSpec(
        frames_per_clip=config.frames_per_clip,
        frame_range_frames=source.frame_range_frames,
        max_objects=config.max_objects,
        as_images=source.as_images,
        augment=config.augment,
    )


def _start_worker(worker_index: int) -> None:
    """Keep a worker to one core: parallelism comes from the number of workers."""
    del worker_index
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
