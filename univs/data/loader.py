"""The training feed: batches of clips as a pure function of (seed, step).

Every step uses one dataset of the mixture. The global batch of a step has ``batch_size`` slots; a rank
builds its own slots and nothing else, so neither the number of ranks nor of workers changes a pixel. Only
``access="sequential"``, for storage without random access, gives that up: see ``univs.data.sequential``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Literal

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from univs.data.augment import AugmentConfig
from univs.data.batch import ClipBatch
from univs.data.clips import ClipSource, ClipSpec, draw_clip, padded_size
from univs.data.collate import collate
from univs.data.packed import PackedBatch
from univs.data.release import Release
from univs.data.schedule import MixtureSchedule, SampleOrder
from univs.data.sequential import SequentialConfig, SequentialSteps
from univs.data.worker import start_worker


@dataclass(frozen=True, kw_only=True, slots=True)
class MixtureSource:
    """One dataset of a training mixture."""

    path: Path | str
    """Folder of the release, or its URL in a store that fsspec knows, such as ``s3://bucket/ovis/train``."""
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
    datasets_per_step: int = 1
    """Datasets, hence perhaps tasks, that the ranks of one step train on; 1 keeps them alike. It must divide
    the number of ranks and the batch."""
    access: Literal["indexed", "sequential"] = "indexed"
    """How shards are read: frames by their place in the index, or whole shards from start to end."""
    shuffle_samples: int = 64
    """Sequential access: samples held, per dataset and worker, to draw from."""
    clips_per_sample: int = 2
    """Sequential access: clips made of each sample read."""

    def __post_init__(self) -> None:
        """Refuse sizes that give no batch."""
        if self.batch_size < 1 or self.num_workers < 0 or self.prefetch_batches < 1:
            raise ValueError(
                "the loader needs batch_size >= 1, num_workers >= 0 and prefetch_batches >= 1, got "
                f"{self.batch_size}, {self.num_workers}, {self.prefetch_batches}"
            )
        if self.datasets_per_step < 1 or self.batch_size % self.datasets_per_step:
            raise ValueError(
                f"datasets_per_step {self.datasets_per_step} must divide batch_size {self.batch_size}"
            )
        if min(self.shuffle_samples, self.clips_per_sample) < 1:
            raise ValueError(
                "sequential access needs shuffle_samples >= 1 and clips_per_sample >= 1, got "
                f"{self.shuffle_samples}, {self.clips_per_sample}"
            )


class ClipSteps(Dataset[PackedBatch]):
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
        _check_split(config, rank, world_size)
        self._seed = seed
        self._config = config
        self._rank, self._world_size = rank, world_size
        self._schedule = MixtureSchedule.from_weights([source.weight for source in sources])
        self._sources = open_sources(sources, config)
        self._orders = [
            SampleOrder(seed=seed, name=source.release.name, num_samples=len(source.rows))
            for source in self._sources
        ]

    def __getitem__(self, step: int) -> PackedBatch:
        """Build this rank's part of the batch of a step."""
        num_groups, size = self._config.datasets_per_step, self._config.batch_size
        # Slots of a group, and of a rank, are spread evenly, so that a rank has slots of one group only.
        group = self._rank % num_groups
        turn = step * num_groups + group
        dataset = self._schedule.dataset_at(turn)
        source, order = self._sources[dataset], self._orders[dataset]
        first_draw = self._schedule.count_before(turn, dataset) * (size // num_groups)
        rows = {
            slot: int(source.rows[order.sample_at(first_draw + slot // num_groups)])
            for slot in range(group, size, num_groups)
        }
        canvas = padded_size([source.frame(row, (self._seed, step, slot)) for slot, row in rows.items()])
        mine = range(self._rank, size, self._world_size)
        clips = [draw_clip(source, rows[slot], (self._seed, step, slot), canvas) for slot in mine]
        return collate(clips, step, source.release.manifest)


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
    device: torch.device | None = None,
) -> Iterator[ClipBatch]:
    """Yield this rank's batches of steps ``start_step``, ``start_step + 1``, ... without end.

    Starting at a later step costs nothing and gives the same batches as running there. Batches are
    normalized on ``device``, the CPU if not given.

    Raises:
        ValueError: a release is not whole, or the batch does not split over the ranks.
    """
    if config.access == "sequential":
        steps: Dataset[PackedBatch] = _sequential_steps(sources, config, seed, start_step, (rank, world_size))
        sampler = None
    else:
        steps = ClipSteps(sources, config, seed=seed, rank=rank, world_size=world_size)
        sampler = StepSampler(start_step)
    loader = DataLoader(
        steps,
        batch_size=None,
        sampler=sampler,
        num_workers=config.num_workers,
        prefetch_factor=config.prefetch_batches if config.num_workers else None,
        pin_memory=device is not None and device.type == "cuda",
        worker_init_fn=start_worker,
    )
    batches: Iterator[PackedBatch] = iter(loader)
    return (batch.unpack(device) for batch in batches)


def open_sources(sources: Sequence[MixtureSource], config: LoaderConfig) -> list[ClipSource]:
    """Open the releases of a mixture.

    Raises:
        ValueError: a release is not whole, or has nothing to train on.
    """
    return [ClipSource.of(Release.open(source.path), _clip_spec(source, config)) for source in sources]


def _sequential_steps(
    sources: Sequence[MixtureSource],
    config: LoaderConfig,
    seed: int,
    start_step: int,
    place: tuple[int, int],
) -> SequentialSteps:
    """Give this rank's (rank, world_size) batches from shards read from start to end."""
    rank, world_size = place
    _check_split(config, rank, world_size)
    reading = SequentialConfig(
        clips_per_step=config.batch_size // world_size,
        shuffle_samples=config.shuffle_samples,
        clips_per_sample=config.clips_per_sample,
        datasets_per_step=config.datasets_per_step,
        seed=seed,
        start_step=start_step,
    )
    return SequentialSteps(
        open_sources(sources, config),
        [source.weight for source in sources],
        reading,
        rank=rank,
        world_size=world_size,
    )


def _clip_spec(source: MixtureSource, config: LoaderConfig) -> ClipSpec:
    return ClipSpec(
        frames_per_clip=config.frames_per_clip,
        frame_range_frames=source.frame_range_frames,
        max_objects=config.max_objects,
        as_images=source.as_images,
        augment=config.augment,
    )


def _check_split(config: LoaderConfig, rank: int, world_size: int) -> None:
    if config.batch_size % world_size or not 0 <= rank < world_size:
        raise ValueError(
            f"batch_size {config.batch_size} does not split over {world_size} ranks (rank {rank}): "
            "make it a multiple of the number of ranks"
        )
    if world_size % config.datasets_per_step:
        raise ValueError(
            f"datasets_per_step {config.datasets_per_step} does not divide the number of ranks {world_size}"
        )
