from dataclasses import replace

import pytest
import torch

from univs.training.objective import Objective

SHARED = {"mask", "dice", "reid", "reid_aux"}
PROMPTED = SHARED | {f"prompt_{name}" for name in SHARED} | {"reid_l2p"}


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return torch.stack(list(losses.values())).sum()


@pytest.mark.parametrize("num_frames", [1, 3, 5])
@pytest.mark.parametrize(
    ("task", "visual_probability", "names"),
    [
        ("detection", 1.0, PROMPTED | {"class", "prompt_class", "reid_l2p_aux"}),
        ("detection", 0.0, PROMPTED | {"class", "prompt_class", "prompt_semantic"}),
        ("sot", 0.0, PROMPTED | {"reid_l2p_aux"}),
        ("grounding", 0.5, PROMPTED | {"reid_l2p_aux"}),
    ],
)
def test_objective_gives_finite_terms_and_gradients(
    make_model, make_batch, make_config, num_frames, task, visual_probability, names
):
    model = make_model()
    config = make_config(prompts={"visual_probability": visual_probability})
    losses = Objective(model, config)(make_batch(task, num_frames), _generator())
    if num_frames > config.frames_per_clip:
        names = names | {"reid_interclip", "reid_interclip_aux"}
    assert set(losses) == names
    assert all(loss.isfinite() for loss in losses.values())
    _total(losses).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert all(gradient.isfinite().all() for gradient in gradients.values())
    assert any(
        gradient.abs().sum() > 0 for name, gradient in gradients.items() if name.startswith("backbone")
    )


def test_objective_repeats_with_the_generator_and_varies_without(make_model, make_batch, make_config):
    objective = Objective(make_model(), make_config()).eval()
    batch = make_batch("sot")
    first, again, other = (_total(objective(batch, _generator(seed))) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_objective_in_bf16_stays_close_to_fp32(make_model, make_batch, make_config):
    objective = Objective(make_model(), make_config()).eval()
    batch = make_batch("sot", num_frames=5)
    exact = objective(batch, _generator())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = objective(batch, _generator())
    assert all(loss.dtype == torch.float32 for loss in rough.values())
    torch.testing.assert_close(_total(rough), _total(exact), rtol=0.05, atol=0)


@pytest.mark.parametrize("task", ["detection", "sot", "grounding"])
def test_objective_of_clips_without_objects_is_finite(make_model, make_batch, make_config, task):
    model = make_model()
    losses = Objective(model, make_config())(make_batch(task, counts=(0, 0)), _generator())
    assert _total(losses) == 0
    _total(losses).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("task", ["sot", "grounding"])
def test_objective_of_one_empty_clip_still_prompts_the_other(make_model, make_batch, make_config, task):
    losses = Objective(make_model(), make_config())(make_batch(task, counts=(0, 2)), _generator())
    assert losses["prompt_mask"] > 0


def test_objective_trains_the_right_object_when_it_has_two_expressions(make_model, make_batch, make_config):
    """The expressions of one object share its target, so naming the wrong row must change the loss."""
    objective = Objective(make_model(), make_config()).eval()
    batch = make_batch("grounding", counts=(2,))
    target = replace(
        batch.targets[0], expressions=("a", "b", "c"), expression_objects=torch.tensor([0, 0, 1])
    )
    by_row = objective(replace(batch, targets=(target,)), _generator())["prompt_mask"]
    wrong = replace(target, expression_objects=torch.tensor([0, 1, 0]))
    assert objective(replace(batch, targets=(wrong,)), _generator())["prompt_mask"] != by_row


def test_objective_remembers_earlier_clips_through_real_frame_indices(make_model, make_batch, make_config):
    """Without a memory, shifting the first clip in time could not change the second clip's prompts."""
    objective = Objective(make_model(), make_config()).eval()
    seen = []
    objective.model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    batch = make_batch("sot", num_frames=5)
    objective(batch, _generator())
    first, second = seen
    assert second.tokens.shape[3] > first.tokens.shape[3]
    later = replace(batch, frame_indices=batch.frame_indices + torch.tensor([0, 0, 0, 40, 40]))
    objective(later, _generator())
    num_new = first.tokens.shape[3]
    moved = (seen[3].token_positions - second.token_positions).abs().amax((0, 1, 2, 4))
    # Frames 1 and 2 of the first clip are remembered at their own indices, which did not change.
    assert (moved[:-num_new] == 0).all()
    assert torch.equal(seen[3].tokens[:, :, :, :-num_new], second.tokens[:, :, :, :-num_new])


def test_objective_gives_each_prompt_the_memory_of_its_own_object(make_model, make_batch, make_config):
    """Object 0 is only seen in frame 1, the others never there: memory excludes what is prompted now."""
    objective = Objective(make_model(), make_config())
    seen = []
    objective.model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    batch = make_batch("sot", num_frames=5, counts=(3, 3))
    for target in batch.targets:
        target.masks[0, torch.arange(5) != 1] = False
        target.masks[1:, 1] = False
    objective(batch, _generator())
    prompts = seen[1]
    assert prompts.valid.sum(1).tolist() == [2, 2]
    # The remembered frames are 1 and 2, in this order, before the tokens of the current clip.
    assert torch.equal(prompts.token_valid[..., 0], ~prompts.valid)
    assert torch.equal(prompts.token_valid[..., -1], prompts.valid)
