"""The original's training losses, matchings and gradients on recorded steps (``reference_compat``)."""

import math

import numpy as np
import pytest
import torch
from goldens import ShapeKeyedDraws, case_params
from loss_cases import INTERCLIP_TERMS, TERMS, LossCase, layer_values, run

from univs.training.compat.targets import prepare_goals

TERM_TOLERANCE = 1e-4
GRADIENT_TOLERANCE = 1e-3
UNRECORDED_TOLERANCE = 5e-2
"""Of gradients of steps with draws that nobody recorded: there are many that give the same losses."""


@pytest.fixture(scope="module", params=case_params("loss_*.npz"))
def step(request):
    """Take one recorded step."""
    return run(LossCase(request.param))


def _relative(value, recorded):
    return abs(value - recorded) / max(abs(recorded), 1e-12) if recorded else abs(value)


def test_goals_of_a_recorded_step_equal_the_original_targets(step):
    if "targets0/labels" not in step.case:
        pytest.skip("targets of this case were not recorded")
    goals = prepare_goals(step.batch, step.config.prompts.max_objects, ShapeKeyedDraws(step.case.salt))
    for index, goal in enumerate(goals.clips):
        recorded = f"targets{index}"
        labels = torch.from_numpy(step.case.array(f"{recorded}/labels"))
        assert torch.equal(goal.labels, torch.where(labels > 0, labels - 1, -1))
        ids = torch.from_numpy(step.case.array(f"{recorded}/ids")).long()
        shift = goal.ids[ids >= 0].min() - ids[ids >= 0].min() if (ids >= 0).any() else 0
        assert torch.equal(goal.ids, torch.where(ids >= 0, ids + shift, -1))
        areas = torch.from_numpy(step.case.array(f"{recorded}/masks_sum_per_frame"))
        assert torch.equal(goal.masks.flatten(2).sum(-1), areas.long())
        if goals.kind != "visual":
            assert goal.prompt_rows.tolist() == step.case.array(f"{recorded}/prompt_obj_ids").tolist()
        if goals.kind == "category":
            assert (goal.prompt_labels + 1).tolist() == step.case.array(
                f"{recorded}/prompt_gt_labels"
            ).tolist()


def test_points_of_a_recorded_step_are_where_the_original_looked(step):
    points = step.sampling.points
    is_category = "targets0/sem_labels" in step.case
    per_layer = 3 if is_category else 2
    last = len(points) - per_layer
    calls = {"learnable/call0": last, "learnable/call1": 0, "prompt/call0": last + 1}
    calls["prompt/call1"] = last + 2 if is_category else 1
    for name, index in calls.items():
        if f"points/{name}" in step.case:
            assert _share_found(points[index].numpy(), *step.case.strided(f"points/{name}")) > 0.999, name


def _share_found(points, recorded, stride):
    """Tell how many recorded coordinates are among ours of the same map [R, S, 2], in whatever order."""
    places = np.unravel_index(np.arange(len(recorded)) * stride, points.shape)
    found = [
        value in points[row, :, axis] for value, row, axis in zip(recorded, places[0], places[2], strict=True)
    ]
    return np.mean(found)


def test_matching_of_a_recorded_step_equals_the_original(step):
    if "match/layer0/video0/query" not in step.case:
        pytest.skip("matchings of this case were not recorded")
    for layer, matches in enumerate(step.terms.clips[0].matches):
        for video, (queries, rows) in enumerate(matches):
            recorded = f"match/layer{layer}/video{video}"
            assert queries.tolist() == step.case.array(f"{recorded}/query").tolist(), recorded
            assert rows.tolist() == step.case.array(f"{recorded}/target").tolist(), recorded


def test_terms_of_a_recorded_step_equal_the_original(step, note_error):
    for number, (recorded, clip) in enumerate(zip(step.case.clips, step.terms.clips, strict=True)):
        num_layers = len(clip.matches)
        for name, theirs in TERMS.items():
            values = layer_values(recorded, theirs, num_layers)
            for layer, (ours, value) in enumerate(zip(clip.terms[name].tolist(), values, strict=True)):
                error = _relative(ours, value)
                note_error(step.case.name, theirs, error)
                allowed = TERM_TOLERANCE * max(abs(value), 1e-12) + _tie_slack(step, name, number, layer)
                assert abs(ours - value) <= allowed, f"{theirs} of layer {layer}, clip {number}: {error:.1e}"


def _tie_slack(step, name, clip, layer):
    """Give what nearly tied points may do to a term: a mean over learnable queries and prompts."""
    if name not in ("mask", "dice"):
        return 0.0
    num_layers = len(step.terms.clips[0].matches)
    per_layer = len(step.sampling.slack) // (num_layers * len(step.terms.clips))
    first = (clip * num_layers + layer) * per_layer
    column = ("mask", "dice").index(name)
    calls = range(first, first + min(per_layer, 2))
    return sum(0.5 * step.sampling.slack[call][column] / len(step.sampling.points[call]) for call in calls)


def test_interclip_terms_of_a_recorded_step_equal_the_original(step, note_error):
    if not step.terms.interclip:
        pytest.skip("one clip per video")
    num_layers = len(step.terms.clips[0].matches)
    for name, theirs in INTERCLIP_TERMS.items():
        weighted = layer_values(step.case.record["weighted_losses"], theirs, num_layers, first=1)
        for ours, value in zip(step.terms.interclip[name].tolist(), weighted, strict=True):
            error = _relative(ours * step.case.reid_weight, value)
            note_error(step.case.name, theirs, error)
            assert error <= TERM_TOLERANCE


def test_total_of_a_recorded_step_equals_the_original(step, note_error):
    error = _relative(step.total, step.case.record["total"])
    note_error(step.case.name, "total", error)
    assert error <= GRADIENT_TOLERANCE


def test_gradients_of_a_recorded_step_equal_the_original(step, note_error):
    recorded = dict(
        zip(step.case.array("grad/name").tolist(), step.case.array("grad/norm").tolist(), strict=True)
    )
    tolerance = UNRECORDED_TOLERANCE if step.terms.interclip else GRADIENT_TOLERANCE
    for name, norm in recorded.items():
        if name.endswith("reid_temp.weight"):
            continue  # Not a parameter here; the original never trains it.
        gradient = step.gradients[name]
        assert (gradient is None) == (norm < 0), f"{name}: recorded norm {norm}"
        if gradient is not None:
            error = _relative(float(gradient.norm()), norm)
            note_error(step.case.name, "gradient norm", error)
            assert error <= tolerance, f"{name}: {error:.1e}"
    squares = [(float(g.norm()) ** 2, recorded[n] ** 2) for n, g in step.gradients.items() if g is not None]
    ours, theirs = (math.sqrt(sum(column)) for column in zip(*squares, strict=True))
    assert _relative(ours, theirs) <= GRADIENT_TOLERANCE


def test_gradient_values_of_a_recorded_step_equal_the_original(step, note_error):
    for name, gradient in step.gradients.items():
        if f"grad_tensor/{name}" in step.case:
            recorded, stride = step.case.strided(f"grad_tensor/{name}")
            ours = gradient.numpy().ravel()[::stride]
            error = float(np.linalg.norm(ours - recorded) / np.linalg.norm(recorded))
            note_error(step.case.name, "gradient values", error)
            assert error <= GRADIENT_TOLERANCE, name
