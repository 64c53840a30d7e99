"""Training clips from shards that are read from start to end, for storage without random access.

What the indexed feed promises is given up here, in return for one sequential read per shard:

- whole samples are read to use a few of their frames; ``clips_per_sample`` clips are made of each, and a
  buffer of ``shuffle_samples`` samples keeps them apart;
- a clip ends at the borders of its chunk, and chunks of an item do not meet;
- the order follows from (seed, rank, worker), so another number of ranks or workers gives other batches;
- resuming at a step starts the shards over, in an order of its own that follows from (seed, step);
- streams with fewer shards begin their next epoch sooner, and where streams outnumber shards some read the
  same one.

The tars are read by the webdataset package. Which dataset a step trains on is the same as with an index.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import count, islice
from random import Random
from typing import Any

import numpy as np
import webdataset
from torch.utils.data import IterableDataset, get_worker_info
from webdataset.tariterators import group_by_keys, tar_file_expander

from univs.data.augment import shrink_framing
from univs.data.clips import ClipSample, ClipSource, build_clip, frame_clip, is_usable, padded_size
from univs.data.collate import collate
from univs.data.packed import PackedBatch
from univs.data.release import Release
from univs.data.samples import HeldSample
from univs.data.schedule import MixtureSchedule
from univs.schema import record_from_json

_MAX_ATTEMPTS = 200
"""Samples in a row without anything to prompt with before a dataset counts as unfit for its task."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamPlace:
    """Which of the parallel readers of a dataset this is."""

    index: int
    count: int


@dataclass(frozen=True, kw_only=True, slots=True)
class SequentialConfig:
    """How shards become clips."""

    clips_per_step: int
    """Clips of a step on this rank."""
    shuffle_samples: int
    clips_per_sample: int
    datasets_per_step: int
    seed: int
    start_step: int


class SequentialSteps(IterableDataset[PackedBatch]):
    """One rank's batches in the order of steps; DataLoader workers take turns."""

    def __init__(
        self,
        sources: Sequence[ClipSource],
        weights: Sequence[float],
        config: SequentialConfig,
        *,
        rank: int,
        world_size: int,
    ) -> None:
        self._sources = sources
        self._schedule = MixtureSchedule.from_weights(weights)
        self._config = config
        self._rank, self._world_size = rank, world_size

    def __iter__(self) -> Iterator[PackedBatch]:
        info = get_worker_info()
        worker, num_workers = (info.id, info.num_workers) if info else (0, 1)
        place = StreamPlace(index=self._rank * num_workers + worker, count=self._world_size * num_workers)
        streams = [iter_clips(source, self._config, place) for source in self._sources]
        config = self._config
        for step in count(config.start_step + worker, num_workers):
            turn = step * config.datasets_per_step + self._rank % config.datasets_per_step
            dataset = self._schedule.dataset_at(turn)
            clips = list(islice(streams[dataset], config.clips_per_step))
            yield collate(clips, step, self._sources[dataset].release.manifest)


def iter_clips(source: ClipSource, config: SequentialConfig, place: StreamPlace) -> Iterator[ClipSample]:
    """Make clips of one dataset without end.

    Raises:
        ValueError: a sample cannot be trained on, or none of many fits the task.
    """
    manifest, spec = source.release.manifest, source.spec
    words = _words(source.release.name, config, place)
    samples = webdataset.filters.shuffle(
        config.shuffle_samples, initial=config.shuffle_samples, rng=Random(repr(words))
    )(_repeated(iter_samples(source.release, config, place), config.clips_per_sample))
    num_unusable = 0
    for draw, sample in enumerate(samples):
        generator = np.random.Generator(np.random.PCG64([*words, draw]))
        framing = frame_clip(spec, manifest, (sample.record.height, sample.record.width), generator)
        framing = shrink_framing(framing, padded_size([framing]))
        clip = build_clip(sample, spec, framing, manifest.label_space, generator)
        num_unusable = 0 if is_usable(manifest.task, clip) else num_unusable + 1
        if num_unusable == 0:
            yield clip
        elif num_unusable == _MAX_ATTEMPTS:
            raise ValueError(
                f"{source.release.location}: {_MAX_ATTEMPTS} clips in a row without anything to prompt with "
                f"(task {manifest.task}); check the release's objects and expressions"
            )


def iter_samples(release: Release, config: SequentialConfig, place: StreamPlace) -> Iterator[HeldSample]:
    """Read this stream's shards, epoch after epoch."""
    for epoch in count():
        yield from _read(release, assign_shards(release, config, place, epoch))


def assign_shards(release: Release, config: SequentialConfig, place: StreamPlace, epoch: int) -> list[str]:
    """Give the shards this stream reads in an epoch, in order: an equal part, new in every epoch.

    Where streams outnumber shards, a shard is read by several.
    """
    names = [shard.name for shard in release.manifest.shards]
    Random(repr((config.seed, config.start_step, epoch, release.name))).shuffle(names)
    return names[place.index % len(names) :: place.count]


def _read(release: Release, names: Sequence[str]) -> Iterator[HeldSample]:
    def streams() -> Iterator[dict[str, Any]]:
        for name in names:
            with release.store.open_file(name) as stream:
                yield {"url": name, "stream": stream}

    for parts in group_by_keys(tar_file_expander(streams())):
        frames = sorted(name for name in parts if name[:6].isdigit())
        yield HeldSample(
            key=parts["__key__"],
            record=record_from_json(parts["meta.json"], parts["ann.json"]),
            frames=tuple(parts[name] for name in frames),
        )


def _repeated(samples: Iterator[HeldSample], times: int) -> Iterator[HeldSample]:
    for sample in samples:
        for _ in range(times):
            yield sample


def _words(name: str, config: SequentialConfig, place: StreamPlace) -> list[int]:
    """Give the entropy of one stream of one dataset."""
    digest = np.frombuffer(blake2b(name.encode(), digest_size=8).digest(), dtype="<u4")
    return [config.seed, config.start_step, place.index, place.count, *digest.tolist()]
