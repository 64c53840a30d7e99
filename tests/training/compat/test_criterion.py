from dataclasses import replace

import pytest
import torch

from univs.draws import Draws
from univs.model.types import LayerPrediction, Predictions
from univs.training.compat.criterion import clip_losses, mask_terms
from univs.training.compat.points import Sampling, sample
from univs.training.compat.targets import prepare_goals
from univs.training.config import LossConfig
from univs.training.losses import mask_terms as mended_mask_terms

UNIFORM = LossConfig(num_points=200, oversample_ratio=1, importance_ratio=0)


def _sampling(config=UNIFORM):
    return Sampling(config, Draws(torch.Generator().manual_seed(0)))


def _predictions(num_learnable, num_prompts, num_classes=0, num_clips=1, num_frames=3):
    torch.manual_seed(0)
    shape = (num_clips, num_learnable + num_prompts, num_frames, 16)
    layers = [
        LayerPrediction(
            embeddings=torch.randn(shape),
            mask_embeddings=torch.randn(shape),
            class_logits=torch.randn(*shape[:2], num_classes),
        )
        for _ in range(2)
    ]
    maps = torch.randn(num_clips, num_frames, 16, 16, 24)
    return Predictions(layers=tuple(layers), mask_features=maps, num_learnable=num_learnable)


@pytest.fixture
def goals(make_batch):
    """Give the goals of one clip of two class-less objects."""
    return prepare_goals(make_batch("sot", counts=(2,)), 4, Draws(torch.Generator().manual_seed(0)))


def test_mask_terms_equal_the_mended_ones_at_the_same_points_inside_the_image():
    torch.manual_seed(0)
    logits, truth = torch.randn(2, 3, 16, 24), torch.rand(2, 3, 64, 96) > 0.5
    # The two ways of sampling differ within half a cell of the border; zeros there keep them equal.
    logits[..., [0, -1], :] = logits[..., [0, -1]] = 0
    truth[..., :2, :] = truth[..., -2:, :] = truth[..., :2] = truth[..., -2:] = False
    sampling = _sampling()
    mask, dice = mask_terms(logits, truth, 6.0, sampling)
    points = _sampling().uncertain_points(logits.flatten(0, 1))
    at_points = [sample(maps.flatten(0, 1)[:, None].float(), points)[:, 0] for maps in (logits, truth)]
    # One map per clip, so that each has its own points; the first half are candidates that nobody takes.
    at_points = [values.repeat(1, 2)[:, None] for values in at_points]
    mended = mended_mask_terms(
        at_points[0][:, :, None, None],
        at_points[1][:, :, None],
        torch.ones(6, 1, 400),
        torch.ones(6, 1, 1, dtype=torch.bool),
        UNIFORM,
    )
    assert float(mask) == pytest.approx(float(mended[0].total / mended[0].count), rel=1e-5)
    assert float(dice) == pytest.approx(float(mended[1].total / mended[1].count), rel=1e-5)


def test_learnable_losses_are_halved_without_prompts(goals):
    nothing = goals.with_rows([torch.tensor([-1, -1])])
    halved = clip_losses(_predictions(6, 0), nothing, _sampling()).terms
    asked = clip_losses(_predictions(6, 2), goals.with_rows([torch.tensor([0, 1])]), _sampling()).terms
    assert (halved["mask"] > 0).all()
    assert (asked["mask"] > halved["mask"]).all()
    assert not halved["reid_l2p"].any()


def test_padding_of_prompts_lowers_their_mask_losses(goals):
    predictions = _predictions(6, 4)
    full = clip_losses(predictions, goals.with_rows([torch.tensor([0, 1, 0, 1])]), _sampling()).terms
    part = clip_losses(predictions, goals.with_rows([torch.tensor([0, 1, -1, -1])]), _sampling()).terms
    none = clip_losses(predictions, goals.with_rows([torch.tensor([-1, -1, -1, -1])]), _sampling()).terms
    # Two of four prompts have targets, but all four are counted.
    share = (part["dice"] - none["dice"]) / (full["dice"] - none["dice"])
    assert ((share > 0.4) & (share < 0.6)).all()


def test_matches_are_in_the_order_of_the_queries_and_hold_every_object(goals):
    losses = clip_losses(_predictions(6, 0), goals.with_rows([torch.tensor([-1])]), _sampling())
    for ((queries, rows),) in losses.matches:
        assert queries.tolist() == sorted(queries.tolist())
        assert sorted(rows.tolist()) == [0, 1]


def test_a_perfect_query_is_matched_and_has_no_mask_loss(goals):
    predictions = _predictions(4, 0)
    maps = torch.zeros_like(predictions.mask_features)
    object_maps = goals.clips[0].masks[:, :, 2::4, 2::4].float() * 40 - 20
    maps[0, :, :2] = object_maps.transpose(0, 1)
    layer = predictions.layers[0]
    perfect = torch.zeros_like(layer.mask_embeddings)
    perfect[0, 3, :, 0] = perfect[0, 1, :, 1] = 1
    layers = (replace(layer, mask_embeddings=perfect),)
    predictions = replace(predictions, layers=layers, mask_features=maps)
    losses = clip_losses(predictions, goals.with_rows([torch.tensor([-1])]), _sampling())
    queries, rows = losses.matches[0][0]
    assert dict(zip(rows.tolist(), queries.tolist(), strict=True)) == {0: 3, 1: 1}
    assert float(losses.terms["mask"]) < 0.3
