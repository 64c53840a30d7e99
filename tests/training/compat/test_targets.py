from dataclasses import replace

import torch

from univs.draws import Draws
from univs.training.compat.targets import prepare_goals


def _draws(seed=0):
    return Draws(torch.Generator().manual_seed(seed))


def _prepare_as(kind, batch, max_objects=4):
    """Prepare with the first seed that gives this kind of prompts."""
    for seed in range(50):
        goals = prepare_goals(batch, max_objects, _draws(seed))
        if goals.kind == kind:
            return goals
    raise AssertionError(f"no {kind} prompts in 50 draws")


def test_detection_is_prompted_by_regions_in_a_third_of_the_steps(make_batch):
    batch = make_batch("detection")
    kinds = [prepare_goals(batch, 4, _draws(seed)).kind for seed in range(400)]
    assert 0.24 < kinds.count("visual") / 400 < 0.38


def test_the_first_objects_are_kept_and_the_rest_are_dropped(make_batch):
    batch = make_batch("sot", counts=(3, 2))
    goals = prepare_goals(batch, 2, _draws())
    assert goals.kind == "visual"
    assert goals.num_prompts == 2
    for clip, target in zip(goals.clips, batch.targets, strict=True):
        assert torch.equal(clip.masks, target.masks[:2])


def test_ids_are_negative_where_the_object_is_not_seen(make_batch, make_targets):
    target = make_targets(3, 3)
    target.masks[1, 0] = False
    target.masks[2] = False
    batch = replace(make_batch("sot", counts=(3,)), targets=(target,))
    (clip,) = prepare_goals(batch, 4, _draws()).clips
    assert clip.ids.tolist() == [[1, 1, 1], [-1, 2, 2]]


def test_category_prompts_are_the_present_ones_in_order_then_absent_ones(make_batch):
    batch = make_batch("detection", counts=(3, 2))
    goals = _prepare_as("category", batch)
    first, second = goals.clips
    assert first.prompt_labels.tolist() == [0, 1, 2]
    assert first.prompt_rows.tolist() == [0, 1, 2]
    assert second.prompt_labels[:2].tolist() == [0, 1]
    assert int(second.prompt_labels[2]) in (2, 3)
    assert second.prompt_rows.tolist() == [0, 1, -1]
    assert torch.equal(second.category_masks, batch.targets[1].masks)


def test_categories_of_hidden_objects_are_no_negatives(make_batch, make_targets):
    target = make_targets(3, 3)
    target.masks[2] = False
    batch = replace(make_batch("detection", counts=(3, 3)), targets=(target, make_targets(3, 3)))
    hidden, _ = _prepare_as("category", batch).clips
    assert hidden.prompt_labels.tolist() == [0, 1, 3]


def test_expressions_of_one_object_push_the_others_onto_wrong_masks(make_batch, make_targets):
    target = replace(
        make_targets(2, 3), expression_objects=torch.tensor([0, 0, 1]), expressions=("a", "b", "c")
    )
    batch = replace(make_batch("grounding", counts=(2,)), targets=(target,))
    goals = prepare_goals(batch, 4, _draws())
    (clip,) = goals.clips
    assert clip.expressions == ("a", "b", "c")
    assert clip.ids[:, 0].tolist() == [0, 0, 1]
    assert clip.prompt_rows.tolist() == [0, 0, 1]
    # The prompt for the second object is supervised by row 1, which is the first object again.
    assert torch.equal(clip.masks[clip.prompt_rows[2]], target.masks[0])


def test_expressions_fill_up_by_repetition(make_batch):
    batch = make_batch("grounding", counts=(3, 2))
    first, second = prepare_goals(batch, 4, _draws()).clips
    assert len(first.expressions) == 3
    assert second.expressions == (*batch.targets[1].expressions, batch.targets[1].expressions[0])
    assert second.prompt_rows.tolist() == [0, 1, 0]


def test_a_clip_that_shows_no_named_object_has_no_expressions(make_batch, make_targets):
    blank = make_targets(2, 3, (0, 1))
    blank.masks[:] = False
    batch = replace(make_batch("grounding", counts=(2, 2)), targets=(blank, make_targets(2, 3, (0, 1))))
    goals = prepare_goals(batch, 4, _draws())
    assert goals.clips[0].expressions == ()
    assert goals.clips[0].prompt_rows.tolist() == [-1, -1]
