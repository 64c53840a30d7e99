from itertools import permutations

import pytest
import torch
import torch.nn.functional as F

from univs.training.config import LossConfig
from univs.training.matching import class_costs, ignored_share, mask_costs, match, query_costs

CONFIG = LossConfig()


def _problem(num_queries: int, num_objects: int, seed: int = 0):
    """Random logits [B=2, T=2, L=2, Q, S=10], truth, weights and class costs."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 2, 2, num_queries, 10, generator=generator) * 3
    truth = (torch.rand(2, 2, num_objects, 10, generator=generator) > 0.5).float()
    weight = (torch.rand(2, 2, 10, generator=generator) > 0.2).float()
    costs = torch.randn(2, 2, num_queries, num_objects, generator=generator)
    return logits, truth, weight, costs


def _slow_cost(logits, truth, weight, clip, layer, query, row):
    keep = weight[clip].flatten() > 0
    x = logits[clip, :, layer, query].flatten()[keep]
    g = truth[clip, :, row].flatten()[keep]
    p = x.sigmoid()
    dice = 1 - (2 * (p * g).sum() + 1) / (p.sum() + g.sum() + 1)
    return 5 * F.binary_cross_entropy_with_logits(x, g) + 5 * dice


def test_mask_costs_equal_the_formula_of_each_pair():
    logits, truth, weight, _ = _problem(4, 3)
    costs = mask_costs(logits, truth, weight, CONFIG)
    assert costs.shape == (2, 2, 4, 3)
    for layer, clip, query, row in ((0, 0, 0, 0), (1, 0, 3, 2), (0, 1, 2, 1), (1, 1, 1, 0)):
        expected = _slow_cost(logits, truth, weight, clip, layer, query, row)
        torch.testing.assert_close(costs[layer, clip, query, row], expected)


@pytest.mark.parametrize("seed", range(4))
def test_match_equals_brute_force(seed):
    logits, truth, weight, extra = _problem(5, 3, seed)
    everything = torch.ones(2, 3, dtype=torch.bool)
    queries = match(logits, truth, weight, extra, everything, everything, CONFIG)
    costs = mask_costs(logits, truth, weight, CONFIG) + 3 * extra
    for layer in range(2):
        for clip in range(2):
            cost = costs[layer, clip]
            best = min(
                permutations(range(5), 3), key=lambda qs, c=cost: sum(c[q, n] for n, q in enumerate(qs))
            )
            assert queries[layer, clip].tolist() == list(best)


def test_match_leaves_absent_objects_out():
    logits, truth, weight, _ = _problem(5, 3)
    present = torch.tensor([[True, False, True], [False, False, False]])
    queries = match(logits, truth, weight, None, present, present, CONFIG)
    assert torch.equal(queries >= 0, present.expand(2, -1, -1))


def test_match_with_few_queries_serves_kept_objects_first():
    logits, truth, weight, _ = _problem(2, 4)
    kept = torch.tensor([[False, True, False, True], [True, False, False, True]])
    queries = match(logits, truth, weight, None, torch.ones_like(kept), kept, CONFIG)
    assert torch.equal(queries >= 0, kept.expand(2, -1, -1))


def test_match_ignores_what_lies_under_ignored_points():
    logits, truth, weight, _ = _problem(5, 3)
    everything = torch.ones(2, 3, dtype=torch.bool)
    changed = torch.where(weight[:, :, None] > 0, truth, 1 - truth)
    first = match(logits, truth, weight, None, everything, everything, CONFIG)
    assert torch.equal(first, match(logits, changed, weight, None, everything, everything, CONFIG))


def test_match_survives_logits_that_are_not_finite():
    logits, truth, weight, _ = _problem(5, 3)
    everything = torch.ones(2, 3, dtype=torch.bool)
    queries = match(logits * torch.nan, truth, weight, None, everything, everything, CONFIG)
    assert (queries >= 0).all()


def test_class_costs_prefer_the_right_category_and_skip_classless_objects():
    logits = torch.tensor([[[[4.0, -4.0, -4.0], [-4.0, 4.0, -4.0]]]])
    costs = class_costs(logits, torch.tensor([[0, 1, -1]]), CONFIG)[0, 0]
    sharp = (5 * logits[0, 0].sigmoid()).softmax(-1)
    torch.testing.assert_close(costs[:, :2], -sharp[:, :2])
    assert costs[:, 2].tolist() == [0, 0]
    assert costs[0, 0] < costs[1, 0]


def test_query_costs_are_the_mask_costs_of_the_embeddings_logits():
    generator = torch.Generator().manual_seed(0)
    embeddings = 9 * torch.randn(2, 5, 3, 4, generator=generator)
    features = 9 * torch.randn(2, 3, 4, 11, generator=generator)
    truth = (torch.rand(2, 3, 2, 11, generator=generator) > 0.5).float()
    weight = (torch.rand(2, 3, 11, generator=generator) > 0.2).float()
    logits = torch.einsum("bqtc,btcs->btqs", embeddings, features)[:, :, None]
    expected = mask_costs(logits, truth, weight, CONFIG)[0]
    torch.testing.assert_close(query_costs(embeddings, features, truth, weight, CONFIG), expected)


def test_ignored_share_is_that_of_the_predicted_mask():
    logits = torch.tensor([1.0, 1.0, 1.0, -1.0]).view(1, 1, 1, 1, 4).repeat(1, 1, 1, 2, 1)
    logits[:, :, :, 1] = -1
    weight = torch.tensor([0.0, 0.0, 1.0, 0.0]).view(1, 1, 4)
    torch.testing.assert_close(ignored_share(logits, weight), torch.tensor([[[2 / 3, 0.0]]]))
