from dataclasses import replace
from itertools import islice

import pytest
import torch

from univs.data.augment import AugmentConfig
from univs.data.clips import ClipSource, ClipSpec
from univs.data.loader import LoaderConfig, MixtureSource, make_loader
from univs.data.release import Release
from univs.data.sequential import SequentialConfig, StreamPlace, assign_shards, iter_samples

CONFIG = LoaderConfig(
    batch_size=4,
    frames_per_clip=2,
    max_objects=3,
    augment=AugmentConfig(short_edges_px=(24, 40), max_long_edge_px=64),
    num_workers=0,
    access="sequential",
    shuffle_samples=3,
)
READING = SequentialConfig(
    clips_per_step=1, shuffle_samples=3, clips_per_sample=2, datasets_per_step=1, seed=5, start_step=0
)


@pytest.fixture
def sources(maker) -> list[MixtureSource]:
    def moving(num_frames: int, **changes):
        masks = [maker.rectangle(3 * t, 4, 6, 7) for t in range(num_frames)]
        return maker.record(num_frames, [maker.track(1, masks)], **changes)

    images = [moving(1, item_id=f"image{i}", dataset="images") for i in range(7)]
    videos = [moving(4, item_id=f"video{i}", dataset="videos") for i in range(5)]
    return [
        MixtureSource(path=maker.pack(images, frames_per_shard=2), weight=0.75),
        MixtureSource(path=maker.pack(videos, task="sot"), weight=0.25, frame_range_frames=2),
    ]


def take(sources, number=6, config=CONFIG, **options):
    return list(islice(make_loader(sources, config, **{"seed": 9, **options}), number))


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_same_place_gives_the_same_batches(sources, workers):
    config = replace(CONFIG, num_workers=workers)
    first, again = (take(sources, 6, config, rank=1, world_size=2) for _ in range(2))
    for step, (left, right) in enumerate(zip(first, again, strict=True)):
        assert left.step == step
        assert left.keys == right.keys
        assert torch.equal(left.frames, right.frames)
        assert torch.equal(left.targets[0].masks, right.targets[0].masks)


def test_steps_train_on_the_datasets_of_the_indexed_feed(sources):
    indexed = take(sources, 8, replace(CONFIG, access="indexed"))
    for rank in (0, 1):
        found = take(sources, 8, rank=rank, world_size=2)
        assert [batch.dataset for batch in found] == [batch.dataset for batch in indexed]
        assert all(len(batch.keys) == 2 for batch in found)


@pytest.mark.parametrize("num_streams", [1, 2, 3, 4])
def test_streams_together_read_every_shard_once_per_epoch(sources, num_streams):
    release = Release.open(sources[0].path)
    orders = []
    for epoch in range(8):
        parts = [
            assign_shards(release, READING, StreamPlace(index=index, count=num_streams), epoch)
            for index in range(num_streams)
        ]
        assert sorted(sum(parts, [])) == sorted(shard.name for shard in release.manifest.shards)
        orders.append(str(parts))
    assert len(set(orders)) > 3


def test_no_stream_starves_where_streams_outnumber_shards(sources):
    release = Release.open(sources[0].path)
    seen = set()
    for index in range(9):
        seen |= {s.key for s in islice(iter_samples(release, READING, StreamPlace(index=index, count=9)), 4)}
    assert seen == {row.key for row in release.rows}


def test_an_epoch_of_one_stream_has_every_sample_once(sources):
    release = Release.open(sources[0].path)
    keys = [s.key for s in islice(iter_samples(release, READING, StreamPlace(index=0, count=1)), 14)]
    assert sorted(keys[:7]) == sorted(keys[7:]) == sorted(row.key for row in release.rows)
    assert keys[:7] != keys[7:]


def test_a_sample_read_from_a_tar_is_the_indexed_one(sources):
    release = Release.open(sources[1].path)
    rows = {row.key: index for index, row in enumerate(release.rows)}
    for sample in islice(iter_samples(release, READING, StreamPlace(index=0, count=1)), 5):
        index = rows[sample.key]
        assert sample.record == release.read_record(index)
        assert list(sample.frames) == release.read_frames(index, range(4))


def test_a_resumed_run_goes_on_with_its_step_and_another_order(sources):
    resumed = take(sources, 3, start_step=4)
    assert [batch.step for batch in resumed] == [4, 5, 6]
    assert [batch.dataset for batch in resumed] == [batch.dataset for batch in take(sources, 7)[4:]]
    assert all(
        torch.equal(left.frames, right.frames)
        for left, right in zip(resumed, take(sources, 3, start_step=4), strict=True)
    )


def test_each_sample_gives_several_clips_that_differ(sources):
    alone = [replace(sources[1], weight=1.0)]
    config = replace(CONFIG, clips_per_sample=3, batch_size=1)
    batches = take(alone, 60, config)
    clips = {}
    for batch in batches:
        clips.setdefault(batch.keys[0], []).append(batch.frames.sum().item())
    assert len(clips) == 5
    # Three of each in every one of four epochs, but for those that still wait in the buffer.
    assert all(abs(len(sums) - 12) <= CONFIG.shuffle_samples for sums in clips.values())
    assert all(len(set(sums)) > 6 for sums in clips.values())


def test_a_dataset_without_prompts_gives_up(maker):
    crowd = maker.track(1, [maker.rectangle(1, 1, 3, 3)], is_crowd=True)
    path = maker.pack([maker.record(1, [crowd])], task="sot")
    assert len(ClipSource.of(Release.open(path), ClipSpec()).rows) == 1
    with pytest.raises(ValueError, match="clips in a row without anything to prompt with"):
        take([MixtureSource(path=path)], 1, replace(CONFIG, frames_per_clip=1))
