"""The original's parameter groups, and three of its optimizer steps."""

import json
from pathlib import Path

import pytest
import torch
from goldens import BACKBONES, ShapeKeyedDraws, case_params
from loss_cases import LossCase, training_model

from pipelines.recipes.models import released
from univs.model.keys import reference_name, to_reference
from univs.model.univs import UniVS
from univs.training.compat.objective import video_terms, weigh_video
from univs.training.compat.points import Sampling
from univs.training.config import OptimizerConfig
from univs.training.optimizer import build_optimizer, parameter_groups

REID_TEMPERATURE = "sem_seg_head.predictor.reid_temp.weight"
"""Not a parameter here; the original never trains it."""


def _frozen_stages(options):
    return int(dict(zip(options[::2], options[1::2], strict=True)).get("MODEL.BACKBONE.FREEZE_AT", 5))


@pytest.mark.parametrize("path", case_params("optimizer_*.json"))
def test_parameter_groups_equal_the_original(path):
    record = json.loads(path.read_text())
    backbone = next(name for key, name in BACKBONES.items() if key in Path(record["config"]).stem.lower())
    model = UniVS(released(backbone, frozen_stages=_frozen_stages(record["opts"])))
    names = {
        parameter: reference_name(name)
        for name, parameter in model.named_parameters()
        if not name.startswith("text.")
    }
    ours = {
        names[parameter]: {"lr": group["lr"], "weight_decay": group["weight_decay"]}
        for group in parameter_groups(model, OptimizerConfig())
        for _, parameter in group["params"]
    }
    recorded = {
        name: pytest.approx(group) for name, group in record["params"].items() if name != REID_TEMPERATURE
    }
    assert ours == recorded


@pytest.fixture(scope="module", params=case_params("train3steps_*.npz"))
def steps(request):
    """Take the recorded optimizer steps; give the case, totals, norms and updates of each step."""
    case = LossCase(request.param)
    training_model.cache_clear()
    model = training_model(
        case.yaml, _frozen_stages([part for pair in case.options.items() for part in pair])
    )
    optimizer = build_optimizer(model, OptimizerConfig())
    batch, config = case.batch(), case.config()
    clips = [(0, batch.frames.shape[1])]
    totals, norms, updates = [], [], []
    for _ in range(len(case.array("step/delta_norm_per_iter"))):
        sampling = Sampling(config.losses, ShapeKeyedDraws(case.salt))
        losses = weigh_video(video_terms(model, batch, case.bank(), clips, config, sampling), config.losses)
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        before = _weights(model)
        trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained, OptimizerConfig().max_grad_norm)))
        optimizer.step()
        totals.append(float(total.detach()))
        after = _weights(model)
        updates.append({name: float((after[name] - before[name]).norm()) for name in after})
    training_model.cache_clear()
    return case, totals, norms, updates


def _weights(model):
    return {name: tensor.clone() for name, tensor in to_reference(model.state_dict()).items()}


def test_first_step_has_the_loss_and_gradient_norm_of_the_original(steps, note_error):
    case, totals, norms, _ = steps
    loss, norm = case.array("step/total_loss_and_grad_norm_per_iter")[0]
    note_error(case.name, "first loss", abs(totals[0] / loss - 1))
    note_error(case.name, "first gradient norm", abs(norms[0] / norm - 1))
    assert totals[0] == pytest.approx(loss, rel=1e-4)
    assert norms[0] == pytest.approx(norm, rel=1e-3)


def test_later_steps_follow_the_original(steps, note_error):
    case, totals, _, updates = steps
    names = case.array("step/param_name").tolist()
    for step, recorded in enumerate(case.array("step/delta_norm_per_iter")):
        # Adam divides by the size of the gradient, so rounding grows from step to step.
        assert totals[step] == pytest.approx(
            case.array("step/total_loss_and_grad_norm_per_iter")[step, 0], rel=1e-3
        )
        for name, size in zip(names, recorded, strict=True):
            if name != REID_TEMPERATURE:
                error = abs(updates[step][name] - size) / max(size, 1e-9)
                note_error(case.name, f"update {step}", error)
                assert error <= 0.02, f"{name} in step {step}"
