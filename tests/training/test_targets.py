from dataclasses import replace

import torch

from univs.model.types import TextFeatures
from univs.training.targets import (
    category_targets,
    choose_targets,
    draw_expressions,
    draw_rows,
    expression_targets,
    visual_targets,
)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_choose_targets_pads_to_the_largest_clip(make_targets):
    clips = [make_targets(3), make_targets(1)]
    targets = choose_targets(clips, 4, _generator())
    assert targets.masks.shape[:3] == (2, 3, 3)
    assert torch.equal(targets.masks[0], clips[0].masks)
    assert torch.equal(targets.present, torch.tensor([[True, True, True], [True, False, False]]))
    assert targets.labels.tolist() == [[0, 1, 2], [0, -1, -1]]
    assert torch.equal(targets.kept, targets.present)


def test_choose_targets_without_any_object_has_one_empty_row(make_targets):
    targets = choose_targets([make_targets(0), make_targets(0)], 4, _generator())
    assert targets.masks.shape[:2] == (2, 1)
    assert not targets.kept.any()
    assert not visual_targets(targets).valid.any()


def test_choose_targets_keeps_a_random_few_and_only_visible_ones(make_targets):
    clip = make_targets(6)
    clip = replace(clip, masks=clip.masks & (torch.arange(6) != 4)[:, None, None, None])
    seen = torch.zeros(6, dtype=torch.bool)
    for seed in range(40):
        targets = choose_targets([clip], 2, _generator(seed))
        assert targets.kept.sum() == 2
        assert targets.present.sum() == 5
        seen |= targets.kept[0]
    assert seen.tolist() == [True, True, True, True, False, True]


def test_draw_rows_is_uniform_over_candidates():
    candidates = torch.tensor([[True, False, True, True]]).repeat(3000, 1)
    rows, valid = draw_rows(candidates, 1, _generator())
    assert valid.all()
    share = torch.bincount(rows[:, 0], minlength=4) / 3000
    torch.testing.assert_close(share, torch.tensor([1 / 3, 0, 1 / 3, 1 / 3]), atol=0.04, rtol=0)


def test_visual_targets_name_one_kept_object_each(make_targets):
    targets = choose_targets([make_targets(6), make_targets(1)], 3, _generator())
    prompts = visual_targets(targets)
    assert torch.equal(prompts.members.any(1), targets.kept)
    assert prompts.members.sum(-1).tolist() == [[1, 1, 1], [1, 0, 0]]
    named = prompts.members.int().argmax(-1)
    assert torch.equal(targets.labels.gather(1, named)[prompts.valid], prompts.labels[prompts.valid])


def test_visual_prompts_of_objects_out_of_sight_are_not_used(make_targets):
    clip = make_targets(3)
    clip = replace(clip, masks=clip.masks.clone())
    clip.masks[1, :2] = False
    targets = choose_targets([clip], 4, _generator())
    prompts = visual_targets(targets)
    early = prompts.used(targets.slice_frames(0, 2).present)
    assert early.sum() == 2
    assert not early[prompts.members[:, :, 1]].any()
    assert prompts.used(targets.slice_frames(1, 3).present).sum() == 3


def test_category_targets_list_present_classes_first_with_all_their_objects(make_targets):
    # Objects 0 and 3 share label 0, 1 and 4 label 1; the cap on objects does not thin out a class.
    targets = choose_targets([make_targets(5), make_targets(1)], 2, _generator())
    bank = torch.randn(6, 8, generator=_generator(1))
    prompts = category_targets(targets, bank, 4, _generator(2))
    positive = prompts.positive(targets.present)
    assert positive.tolist() == [[True, True, True, False], [True, False, False, False]]
    assert sorted(prompts.labels[0, :3].tolist()) == [0, 1, 2]
    assert prompts.labels[1, 0] == 0
    row = prompts.labels[0].tolist().index(0)
    assert prompts.members[0, row].tolist() == [True, False, False, True, False]
    assert len(set(prompts.labels[1].tolist())) == 4
    assert torch.equal(prompts.sentences, bank[prompts.labels])
    assert prompts.used(targets.present).all()


def test_category_targets_never_exceed_the_label_space(make_targets):
    targets = choose_targets([make_targets(2)], 4, _generator())
    assert category_targets(targets, torch.randn(3, 8), 20, _generator()).labels.shape == (1, 3)


def test_expression_targets_follow_rows_when_an_object_is_named_twice(make_targets):
    clips = [make_targets(3, expressions=(0, 0, 2, 2, 1)), make_targets(2, expressions=(1,))]
    chosen = [[0, 1, 2, 3, 4], [0]]
    text = TextFeatures(
        sentences=torch.arange(6.0)[:, None].expand(-1, 4),
        words=torch.arange(6.0)[:, None, None].expand(-1, 3, 4),
        word_valid=torch.ones(6, 3, dtype=torch.bool),
    )
    prompts = expression_targets(clips, chosen, text, num_rows=3)
    assert prompts.members.int().argmax(-1).tolist() == [[0, 0, 2, 2, 1], [1, 0, 0, 0, 0]]
    assert prompts.valid.tolist() == [[True] * 5, [True] + [False] * 4]
    assert not prompts.members[1, 1:].any()
    assert prompts.text.sentences[0, :, 0].tolist() == [0, 1, 2, 3, 4]
    assert prompts.text.words[1, 0, 0, 0] == 5


def test_draw_expressions_caps_each_clip_without_repeats(make_targets):
    clips = [make_targets(3, expressions=(0, 0, 1, 2, 2)), make_targets(2), make_targets(1, expressions=(0,))]
    chosen = draw_expressions(clips, 3, _generator())
    assert [len(indices) for indices in chosen] == [3, 0, 1]
    assert len(set(chosen[0])) == 3


def test_category_targets_take_only_what_was_looked_for_as_absent(make_targets):
    looked_for = torch.tensor([False, False, False, False, True])
    clip = replace(make_targets(2), judged_labels=looked_for)
    targets = choose_targets([clip, make_targets(1)], 4, _generator())
    prompts = category_targets(targets, torch.randn(5, 8), 5, _generator(1))
    assert set(prompts.labels[0][prompts.valid[0]].tolist()) == {0, 1, 4}
    assert prompts.valid[1].all()
    assert prompts.positive(targets.present)[0].sum() == 2
