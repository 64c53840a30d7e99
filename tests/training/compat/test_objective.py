from dataclasses import replace

import pytest
import torch

from univs.model.univs import UniVS
from univs.training.objective import Objective

NAMES = {"class", "mask", "dice", "reid", "reid_aux", "reid_l2p", "reid_l2p_aux"}


@pytest.fixture
def make_original(make_model):
    """Build the miniature model with the original's behavior."""

    def build():
        torch.manual_seed(0)
        return UniVS(replace(make_model().config, reference_compat=True))

    return build


def _losses(model, config, batch, seed=0):
    return Objective(model, config)(batch, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("num_frames", "counts"), [(1, (3, 2)), (3, (3, 2)), (5, (3,))])
@pytest.mark.parametrize("task", ["detection", "sot", "grounding"])
@pytest.mark.parametrize("seed", [0, 3])
def test_objective_of_the_original_gives_finite_terms_and_gradients(
    make_original, make_batch, make_config, num_frames, counts, task, seed
):
    model = make_original()
    losses = _losses(model, make_config(), make_batch(task, num_frames, counts=counts), seed)
    interclip = {"reid_interclip", "reid_interclip_aux"} if num_frames == 5 else set()
    assert set(losses) == NAMES | interclip
    assert all(loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert (bool(losses["class"] > 0)) == (task == "detection")


def test_objective_of_the_original_repeats_with_the_seed(make_original, make_batch, make_config):
    first, again, other = (
        _losses(make_original(), make_config(), make_batch("sot"), seed) for seed in (1, 1, 2)
    )
    assert {name: loss.item() for name, loss in first.items()} == {
        n: loss.item() for n, loss in again.items()
    }
    assert first["mask"].item() != other["mask"].item()


def test_objective_of_the_original_drops_all_prompts_where_one_clip_shows_nothing(
    make_original, make_batch, make_targets, make_config
):
    blank = make_targets(3, 3)
    blank.masks[:] = False
    batch = make_batch("sot", counts=(3, 3))
    losses = _losses(make_original(), make_config(), replace(batch, targets=(blank, batch.targets[1])))
    assert losses["reid_l2p"].item() == 0
    assert losses["mask"].item() > 0


def test_objective_of_the_original_refuses_several_long_videos(make_original, make_batch, make_config):
    with pytest.raises(ValueError, match="one at a time"):
        _losses(make_original(), make_config(), make_batch("sot", 5, counts=(3, 2)))
