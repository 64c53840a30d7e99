from dataclasses import replace

import numpy as np
import pytest
import torch

from univs.data.augment import AugmentConfig
from univs.data.images import PIXEL_MEAN, PIXEL_STD
from univs.data.loader import ClipSteps, LoaderConfig, MixtureSource, make_loader
from univs.data.pictures import draw_annotation, draw_batch, draw_sample
from univs.data.release import Release
from univs.draw import color_of
from univs.schema import OfficialPrompt, Region

AUGMENT = AugmentConfig(short_edges_px=(24,), max_long_edge_px=64)
GRAY = np.full((24, 32, 3), 100, np.uint8)


@pytest.fixture
def videos(maker):
    squares = [maker.rectangle(2 + t, 4, 9, 8) for t in range(5)]
    others = [maker.rectangle(20, 2 + t, 7, 9) for t in range(5)]
    return [
        maker.record(5, [maker.track(1, squares), maker.track(2, [*others[:4], "A"])], item_id=f"v{n}")
        for n in range(3)
    ]


def test_draw_sample_shows_frames_in_order_and_every_object(maker, videos):
    path = maker.pack(videos, task="sot")
    picture = draw_sample(Release.open(path), 1, max_frames=3)
    captions = [caption for caption, _ in picture.frames]
    assert captions == ["00000.png, as stored", "00000.png", "00002.png", "00004.png"]
    assert [line.states for line in picture.objects] == [(("V", 5),), (("V", 4), ("A", 1))]
    assert [line.color for line in picture.objects] == [color_of(1), color_of(2)]
    stored, drawn = picture.frames[0][1], picture.frames[1][1]
    changed = (stored != drawn).any(-1)
    assert changed[4:12, 2:11].all()
    # Names are written above.
    assert not changed[20:].any()


def test_draw_annotation_tints_masks_darkens_regions_and_marks_prompts(maker):
    void = maker.rectangle(0, 16, 32, 8)
    record = maker.record(
        1,
        [maker.track(1, [maker.rectangle(1, 1, 3, 3)])],
        regions=(Region(kind="void", rles=(maker.encode_mask(void),)),),
        prompts=(
            OfficialPrompt(kind="point", object_id=1, frame_index=0, coordinates=(20.0, 8.0)),
            OfficialPrompt(kind="box", object_id=1, frame_index=1, coordinates=(29.0, 2.0, 2.0, 3.0)),
        ),
    )
    drawn = draw_annotation(record, 0, GRAY, None)
    assert (drawn[16:] < 40).all()
    assert (drawn[2, 2] != 100).any()
    assert tuple(drawn[8, 20]) == color_of(1)
    # The box belongs to another frame.
    assert (drawn[:14, 28:] == 100).all()


@pytest.mark.parametrize("kind", ["box", "scribble"])
def test_draw_annotation_marks_boxes_and_scribbles(maker, kind):
    prompt = OfficialPrompt(kind=kind, object_id=3, frame_index=0, coordinates=(4.0, 5.0, 12.0, 9.0))
    record = maker.record(1, [], prompts=(prompt,))
    drawn = draw_annotation(record, 0, GRAY, None)
    assert (drawn == color_of(3)).all(-1).sum() > 10


def test_draw_annotation_shrinks_large_frames(maker):
    record = replace(maker.record(1), height=1000, width=2000)
    assert draw_annotation(record, 0, np.zeros((1000, 2000, 3), np.uint8), None).shape == (320, 640, 3)


def test_drawn_batch_has_the_keys_and_pixels_the_training_loader_gives(maker, videos):
    sources = [MixtureSource(path=maker.pack(videos, task="sot"))]
    config = LoaderConfig(batch_size=4, frames_per_clip=3, augment=AUGMENT, num_workers=2)
    step = 5
    # Two ranks, two worker processes each, trained from the first step on.
    feeds = [make_loader(sources, config, seed=7, rank=rank, world_size=2) for rank in range(2)]
    trained = [[next(feed) for _ in range(step + 1)][-1] for feed in feeds]
    replayed = next(make_loader(sources, replace(config, num_workers=0), seed=7, start_step=step))
    clips = draw_batch(replayed)
    assert [clip.key for clip in clips[::2]] == list(trained[0].keys)
    assert [clip.key for clip in clips[1::2]] == list(trained[1].keys)
    mean, scale = torch.tensor(PIXEL_MEAN)[:, None, None], torch.tensor(PIXEL_STD)[:, None, None]
    for slot, clip in enumerate(clips):
        part, place = trained[slot % 2], slot // 2
        height, width = part.image_sizes[place].tolist()
        trained_on = (part.frames[place] * scale + mean)[..., :height, :width].clamp(0, 255)
        drawn = torch.from_numpy(np.stack(clip.inputs)).permute(0, 3, 1, 2)
        assert (drawn - trained_on).abs().max() <= 0.501
        assert (part.frames[place] == replayed.frames[slot]).all()
        assert (part.targets[place].masks == replayed.targets[slot].masks).all()


def test_drawn_batch_tints_targets_and_darkens_what_is_not_judged(maker, videos):
    sources = [MixtureSource(path=maker.pack(videos, task="sot"))]
    config = LoaderConfig(batch_size=2, frames_per_clip=2, augment=AUGMENT, num_workers=0)
    batch = ClipSteps(sources, config, seed=1)[0].unpack()
    for index, clip in enumerate(draw_batch(batch)):
        height, width = batch.image_sizes[index].tolist()
        masks = batch.targets[index].masks.any(0)[:, :height, :width].numpy()
        ignore = batch.targets[index].ignore[:, :height, :width].numpy()
        for time, (before, after) in enumerate(zip(clip.inputs, clip.targets, strict=True)):
            changed = (before != after).any(-1)
            assert changed[masks[time]].mean() > 0.95
            assert (after[ignore[time]] <= before[ignore[time]]).all()
        assert [line.object_id for line in clip.objects] == batch.targets[index].object_ids.tolist()
