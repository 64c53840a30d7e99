from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch

from univs.data.augment import AugmentConfig
from univs.data.loader import ClipSteps, LoaderConfig, MixtureSource, make_loader

CONFIG = LoaderConfig(
    batch_size=4,
    frames_per_clip=2,
    max_objects=3,
    augment=AugmentConfig(short_edges_px=(24, 40), max_long_edge_px=64),
    num_workers=0,
)


@pytest.fixture
def sources(maker) -> list[MixtureSource]:
    def moving(num_frames: int, **changes):
        tracks = [
            maker.track(i + 1, [maker.rectangle(3 * t + 5 * i, 4 * i, 6, 7) for t in range(num_frames)])
            for i in range(4)
        ]
        return maker.record(num_frames, tracks, **changes)

    images = [moving(1, item_id=f"image{i}", dataset="images") for i in range(5)]
    videos = [moving(4, item_id=f"video{i}", dataset="videos") for i in range(3)]
    return [
        MixtureSource(path=maker.pack(images), weight=0.75),
        MixtureSource(path=maker.pack(videos, task="sot"), weight=0.25, frame_range_frames=2),
    ]


def take(sources, number=5, config=CONFIG, **options):
    return list(islice(make_loader(sources, config, **{"seed": 9, **options}), number))


def assert_same(left, right):
    assert (left.step, left.dataset, left.keys) == (right.step, right.dataset, right.keys)
    assert torch.equal(left.frames, right.frames)
    assert torch.equal(left.frame_indices, right.frame_indices)
    for mine, other in zip(left.targets, right.targets, strict=True):
        assert_same_targets(mine, other)


def assert_same_targets(left, right):
    for name in ("masks", "ignore", "labels", "object_ids", "is_thing", "expression_objects"):
        assert torch.equal(getattr(left, name), getattr(right, name))
    assert left.expressions == right.expressions


def test_batches_are_whole_and_of_one_dataset(sources):
    for step, batch in enumerate(take(sources)):
        assert batch.step == step
        assert batch.task == {"images": "detection", "videos": "sot"}[batch.dataset]
        assert all(key.startswith(batch.dataset) for key in batch.keys)
        assert batch.frames.shape[:3] == (4, 2, 3)
        assert batch.frames.shape[3] % 32 == batch.frames.shape[4] % 32 == 0
        for targets in batch.targets:
            assert targets.masks.shape[1:] == (2, *batch.frames.shape[3:])
            assert 1 <= len(targets.object_ids) <= 3
            assert not (targets.masks.any(0) & targets.ignore).any()


@pytest.mark.parametrize("world_size", [1, 2, 4])
@pytest.mark.parametrize("workers", [0, 1, 2])
def test_ranks_and_workers_together_give_the_same_global_batches(sources, world_size, workers):
    config = replace(CONFIG, num_workers=workers)
    parts = [take(sources, 5, config, rank=rank, world_size=world_size) for rank in range(world_size)]
    for step, batch in enumerate(take(sources)):
        ranks = [part[step] for part in parts]
        assert all((rank.dataset, rank.task) == (batch.dataset, batch.task) for rank in ranks)
        for slot, key in enumerate(batch.keys):
            rank, index = ranks[slot % world_size], slot // world_size
            assert rank.keys[index] == key
            assert torch.equal(rank.frames[index], batch.frames[slot])
            assert torch.equal(rank.frame_indices[index], batch.frame_indices[slot])
            assert torch.equal(rank.image_sizes[index], batch.image_sizes[slot])
            assert_same_targets(rank.targets[index], batch.targets[slot])


def test_a_redrawn_clip_keeps_the_padded_size_of_its_step(maker):
    crowd = maker.track(1, [maker.rectangle(0, 0, 9, 9)], is_crowd=True)
    thing = maker.track(1, [maker.rectangle(3, 3, 9, 9)])
    records = [maker.record(1, [crowd], item_id=f"crowd{i}") for i in range(8)]
    records += [maker.record(1, [thing], item_id=f"thing{i}") for i in range(2)]
    alone = [MixtureSource(path=maker.pack(records, task="sot"))]
    augment = replace(CONFIG.augment, short_edges_px=(24, 64, 100), max_long_edge_px=200)
    config = replace(CONFIG, frames_per_clip=1, augment=augment)
    whole = take(alone, 6, config)
    assert len({batch.frames.shape for batch in whole}) > 1
    halves = [take(alone, 6, config, rank=rank, world_size=2) for rank in (0, 1)]
    for batch, *ranks in zip(whole, *halves, strict=True):
        assert all("thing" in key for key in batch.keys)
        for slot, frames in enumerate(batch.frames):
            assert torch.equal(ranks[slot % 2].frames[slot // 2], frames)


def test_ranks_can_be_given_datasets_of_their_own(sources):
    config = replace(CONFIG, datasets_per_step=2)
    for world_size in (2, 4):
        parts = [take(sources, 10, config, rank=rank, world_size=world_size) for rank in range(world_size)]
        used = [part[step].dataset for step in range(10) for part in parts[:2]]
        assert [used.count(name) for name in ("images", "videos")] == [15, 5]
        assert any(used[i] != used[i + 1] for i in range(0, 20, 2))
        keys = [[key for part in parts[group::2] for key in part[0].keys] for group in (0, 1)]
        assert keys == [sorted(group, key=keys[i].index) for i, group in enumerate(keys)]
        if world_size == 2:
            expected = [part[0].frames for part in parts]
    joined = [torch.cat([parts[rank][0].frames for rank in (group, group + 2)]) for group in (0, 1)]
    assert all(torch.equal(left, right) for left, right in zip(joined, expected, strict=True))
    with pytest.raises(ValueError, match="does not divide the number of ranks 1"):
        make_loader(sources, config, seed=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_gives_the_batches_of_a_run_that_went_on(sources, workers):
    config = replace(CONFIG, num_workers=workers)
    for left, right in zip(take(sources, 7)[4:], take(sources, 3, config, start_step=4), strict=True):
        assert_same(left, right)


def test_starting_far_away_costs_nothing(sources):
    assert take(sources, 1, start_step=10**9)[0].step == 10**9


def test_resuming_in_the_middle_of_an_epoch_is_exact_at_every_step(sources):
    steps = ClipSteps(sources, CONFIG, seed=9)
    for step, batch in enumerate(take(sources, 8)):
        assert_same(batch, steps[step].unpack())


def test_datasets_and_samples_are_used_in_proportion(sources):
    batches = take(sources, 20)
    assert [sum(b.dataset == name for b in batches) for name in ("images", "videos")] == [15, 5]
    counts = np.unique([key for b in batches for key in b.keys if b.dataset == "images"], return_counts=True)[
        1
    ]
    assert counts.tolist() == [12] * 5


def test_the_seed_changes_order_and_augmentation(sources):
    left, right = take(sources, 8), take(sources, 8, seed=10)
    assert [b.dataset for b in left] == [b.dataset for b in right]
    assert [b.keys for b in left] != [b.keys for b in right]


def test_one_clip_differs_between_epochs(sources):
    seen = {}
    for batch in take(sources, 12):
        for slot, key in enumerate(batch.keys):
            seen.setdefault(key, []).append(batch.frames[slot])
    assert all(len({frames.sum().item() for frames in clips}) > 1 for clips in seen.values())


def test_videos_can_be_taken_as_images(sources):
    alone = [replace(sources[1], as_images=True)]
    config = replace(CONFIG, frames_per_clip=1)
    batches = take(alone, 6, config)
    assert all(batch.frames.shape[:2] == (4, 1) for batch in batches)
    assert len({int(i) for batch in batches for i in batch.frame_indices.flatten()}) > 1


@pytest.mark.parametrize(
    "changes", [{"datasets_per_step": 3}, {"shuffle_samples": 0}, {"batch_size": 0}, {"num_workers": -1}]
)
def test_impossible_sizes_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        replace(CONFIG, **changes)


@pytest.mark.parametrize("options", [{"world_size": 3}, {"world_size": 2, "rank": 2}])
def test_a_batch_that_does_not_split_is_refused(sources, options):
    with pytest.raises(ValueError, match="does not split"):
        make_loader(sources, CONFIG, seed=0, **options)


def test_an_unfinished_release_is_refused_before_training(sources):
    (sources[1].path / "manifest.json").unlink()
    with pytest.raises(ValueError, match="no whole release"):
        make_loader(sources, CONFIG, seed=0)


def test_miniature_datasets_feed_every_task(miniature_releases):
    mixture = [MixtureSource(path=path, frame_range_frames=5) for path in miniature_releases.values()]
    augment = AugmentConfig(short_edges_px=(64, 96), max_long_edge_px=160)
    config = replace(CONFIG, frames_per_clip=3, max_objects=20, augment=augment)
    batches = {batch.dataset: batch for batch in take(mixture, 4, config)}
    assert set(batches) == set(miniature_releases)
    assert {batch.task for batch in batches.values()} == {"detection", "sot", "grounding"}
    for name in ("sa_1b", "refytvos"):
        assert all(set(t.labels.tolist()) == {-1} for t in batches[name].targets)
    for targets in batches["refytvos"].targets:
        assert targets.expressions
        assert targets.masks[targets.expression_objects].flatten(1).any(1).all()
    for name in ("coco_panoptic", "vipseg"):
        for targets in batches[name].targets:
            assert torch.equal(targets.masks.any(0), ~targets.ignore)
            assert targets.masks.sum(0).max() == 1
            assert not targets.is_thing.all()
            things = batches[name].label_space.is_thing
            assert targets.is_thing.tolist() == [things[label] for label in targets.labels.tolist()]
