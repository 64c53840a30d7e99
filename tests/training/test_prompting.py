from dataclasses import replace

import pytest
import torch

from univs.model.types import RegionTokens
from univs.training.config import PromptSampling
from univs.training.prompting import (
    draw_kinds,
    draw_pixels,
    draw_regions,
    fold_slots,
    jitter_boxes,
    memory_regions,
)
from univs.training.targets import choose_targets, visual_targets

SAMPLING = PromptSampling(max_objects=4)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_draw_pixels_are_uniform_inside_the_mask():
    mask = torch.zeros(4, 5, dtype=torch.bool)
    mask[0, 0] = mask[1, 3] = mask[3, 4] = True
    points = draw_pixels(mask.expand(1, 3000, -1, -1), _generator())[0]
    columns, rows = (points[:, 0] * 5 - 0.5), (points[:, 1] * 4 - 0.5)
    hits = torch.bincount((rows * 5 + columns).round().long(), minlength=20).view(4, 5)
    assert (hits[~mask] == 0).all()
    torch.testing.assert_close(hits[mask] / 3000, torch.full((3,), 1 / 3), atol=0.04, rtol=0)


def test_draw_pixels_of_an_empty_mask_stays_in_the_image():
    points = draw_pixels(torch.zeros(1, 1, 4, 5, dtype=torch.bool), _generator())
    assert ((points >= 0) & (points <= 1)).all()


def test_draw_kinds_follow_their_probabilities():
    sampling = PromptSampling(mask_probability=0.2, box_probability=0.7, point_probability=0.1)
    share = torch.bincount(draw_kinds((20000,), sampling, _generator())) / 20000
    torch.testing.assert_close(share, torch.tensor([0.2, 0.7, 0.1]), atol=0.02, rtol=0)


@pytest.mark.parametrize(("mask", "box", "kind"), [(1.0, 0.0, 0), (0.0, 1.0, 1), (0.0, 0.0, 2)])
def test_draw_kinds_of_certain_kinds_are_certain(mask, box, kind):
    sampling = PromptSampling(mask_probability=mask, box_probability=box, point_probability=1 - mask - box)
    assert (draw_kinds((1000,), sampling, _generator()) == kind).all()


def test_jitter_boxes_moves_large_boxes_within_bounds_and_leaves_small_ones():
    boxes = torch.tensor([[[0.2, 0.2, 0.7, 0.8], [0.1, 0.1, 0.3, 0.3]]]).repeat(500, 1, 1)
    moved = jitter_boxes(boxes, SAMPLING, _generator())
    assert torch.equal(moved[:, 1], boxes[:, 1])
    # A corner moves by at most 10 % of the size through the center and half of 10 % through the size.
    limit = 0.15 * torch.tensor([0.5, 0.6, 0.5, 0.6])
    shift = (moved[:, 0] - boxes[:, 0]).abs()
    assert (shift <= limit + 1e-6).all()
    assert (shift.amax(0) > 0.6 * limit).all()


def test_draw_regions_take_frames_that_show_the_object(make_targets):
    clips = [make_targets(3), make_targets(1)]
    clips[0] = replace(clips[0], masks=clips[0].masks.clone())
    clips[0].masks[1, 0], clips[0].masks[2, :2] = False, False
    frames_of_one = set()
    for seed in range(20):
        targets = choose_targets(clips, 4, _generator(seed))
        regions = draw_regions(targets, SAMPLING, _generator(seed))
        assert regions.valid.sum(1).tolist() == [3, 1]
        for prompt, row in enumerate(targets.kept_rows[0].tolist()):
            key = int(regions.key_frames[0, prompt])
            assert torch.equal(regions.masks[0, prompt], clips[0].masks[row, key])
            assert regions.masks[0, prompt].any()
            x, y = regions.points[0, prompt].tolist()
            assert regions.masks[0, prompt, int(y * 64), int(x * 96)]
            if row == 1:
                frames_of_one.add(key)
    assert frames_of_one == {1, 2}


def test_draw_regions_of_an_absent_object_leave_the_other_clips_prompted(make_targets):
    clips = [make_targets(2), make_targets(2)]
    clips[0] = replace(clips[0], masks=torch.zeros_like(clips[0].masks))
    targets = choose_targets(clips, 4, _generator())
    assert draw_regions(targets, SAMPLING, _generator()).valid.tolist() == [[False, False], [True, True]]


def test_draw_regions_repeat_with_the_generator(make_targets):
    targets = choose_targets([make_targets(3)], 4, _generator())
    first = draw_regions(targets, SAMPLING, _generator(5))
    again = draw_regions(targets, SAMPLING, _generator(5))
    for name in ("masks", "boxes", "points", "kinds", "key_frames"):
        assert torch.equal(getattr(first, name), getattr(again, name))


def test_memory_regions_hold_the_last_frames_of_each_prompt(make_targets):
    clip = make_targets(3)
    clip = replace(clip, masks=clip.masks.clone())
    clip.masks[1, 2] = False
    targets = choose_targets([clip], 4, _generator())
    members = visual_targets(targets).members
    regions = memory_regions(targets, members, num_frames=2)
    assert regions.key_frames.tolist() == [[1, 2] * 3]
    for prompt, row in enumerate(members[0].int().argmax(-1).tolist()):
        for slot in range(2):
            assert torch.equal(regions.masks[0, 2 * prompt + slot], clip.masks[row, 1 + slot])
            assert regions.valid[0, 2 * prompt + slot] == (row != 1 or slot == 0)


def test_fold_slots_keeps_a_prompt_with_its_frames():
    features = torch.arange(6.0).view(1, 6, 1, 1, 1)
    tokens = RegionTokens(features=features, positions=features, valid=features[..., 0] > 2)
    folded = fold_slots(tokens, 2)
    assert folded.features.shape == (1, 3, 2, 1, 1)
    assert folded.features.flatten(1).tolist() == [[0, 1, 2, 3, 4, 5]]
    assert folded.valid[0, :, :, 0].tolist() == [[False, False], [False, True], [True, True]]
