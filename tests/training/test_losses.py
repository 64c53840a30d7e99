import torch
import torch.nn.functional as F

from univs.training.config import LossConfig
from univs.training.losses import class_term, mask_terms, query_labels, semantic_term

UNIFORM = LossConfig(num_points=12, oversample_ratio=1, importance_ratio=0)
"""Candidates are drawn but unused: the last twelve of 24 points are taken."""


def _points(seed: int = 0):
    """Logits [B=2, T=2, L=3, M=2, S=24], truth and weights."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 2, 3, 2, 24, generator=generator) * 3
    truth = torch.rand(2, 2, 2, 24, generator=generator)
    weight = (torch.rand(2, 2, 24, generator=generator) > 0.3).float()
    return logits, truth, weight


def test_mask_terms_equal_a_slow_loop_over_pairs():
    logits, truth, weight = _points()
    weight[0, 1] = 0
    valid = torch.tensor([[[True, False]] * 3, [[True, True]] * 3])
    mask, dice = mask_terms(logits, truth, weight, valid, UNIFORM)
    expected_mask = expected_dice = 0.0
    for b, t, layer, m in (
        (b, t, y, m) for b in range(2) for t in range(2) for y in range(3) for m in range(2)
    ):
        keep = weight[b, t, 12:] > 0
        if not valid[b, layer, m] or not keep.any():
            continue
        x, g = logits[b, t, layer, m, 12:][keep], truth[b, t, m, 12:][keep]
        expected_mask += F.binary_cross_entropy_with_logits(x, g).item()
        p = x.sigmoid()
        expected_dice += (1 - (2 * (p * g).sum() + 1) / (p.sum() + g.sum() + 1)).item()
    torch.testing.assert_close(mask.total, torch.tensor(expected_mask))
    torch.testing.assert_close(dice.total, torch.tensor(expected_dice))
    # Three valid objects in two frames, but clip 0 has only one frame with points.
    assert mask.count == dice.count == 1 + 4


def test_mask_terms_look_at_the_least_certain_candidates():
    config = LossConfig(num_points=2, oversample_ratio=4, importance_ratio=1)
    logits = torch.tensor([9.0, 0.1, 9.0, 9.0, -0.2, 9.0, 9.0, 9.0]).view(1, 1, 1, 1, 8)
    mask, _ = mask_terms(
        logits, torch.zeros(1, 1, 1, 8), torch.ones(1, 1, 8), torch.ones(1, 1, 1, dtype=torch.bool), config
    )
    expected = F.softplus(torch.tensor([0.1, -0.2])).mean()
    torch.testing.assert_close(mask.total, expected)


def test_mask_terms_never_prefer_ignored_points():
    config = LossConfig(num_points=2, oversample_ratio=4, importance_ratio=1)
    logits = torch.tensor([9.0, 0.1, 9.0, 9.0, -0.2, 9.0, 9.0, 9.0]).view(1, 1, 1, 1, 8)
    weight = torch.tensor([1.0, 0, 1, 1, 0, 1, 1, 1]).view(1, 1, 8)
    mask, _ = mask_terms(
        logits, torch.zeros(1, 1, 1, 8), weight, torch.ones(1, 1, 1, dtype=torch.bool), config
    )
    torch.testing.assert_close(mask.total, F.softplus(torch.tensor(9.0)))


def test_mask_terms_without_any_valid_point_are_zero_with_finite_gradient():
    logits, truth, weight = _points()
    logits.requires_grad_()
    mask, dice = mask_terms(logits, truth, weight * 0, torch.ones(2, 1, 2, dtype=torch.bool), UNIFORM)
    (mask.total + dice.total).backward()
    assert mask.total == dice.total == mask.count == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_semantic_term_is_the_cross_entropy_of_covered_points():
    logits, _, weight = _points()
    labels = torch.randint(3, (2, 2, 24), generator=torch.Generator().manual_seed(1))
    truth = F.one_hot(labels, 3)[..., :2].movedim(-1, 2).float()
    everyone = torch.ones(2, 2, dtype=torch.bool)
    term = semantic_term(logits, truth, weight, everyone, UNIFORM)
    expected = torch.tensor(0.0)
    for layer in range(3):
        keep = ((labels < 2) & (weight > 0))[..., 12:]
        rows = logits[:, :, layer, :, 12:].transpose(-1, -2)[keep]
        expected += F.cross_entropy(rows, labels[..., 12:][keep])
    torch.testing.assert_close(term.total, expected)
    assert term.count == 1
    # A prompt more that is padding changes nothing.
    wider = torch.cat([logits, 9 + logits[:, :, :, :1]], dim=3)
    padding = torch.cat([truth, torch.zeros_like(truth[:, :, :1])], dim=2)
    valid = torch.tensor([[True, True, False]] * 2)
    padded = semantic_term(wider, padding, weight, valid, UNIFORM)
    torch.testing.assert_close(padded.total, expected)


def test_class_term_equals_a_slow_loop_over_queries():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, 4, 5, generator=generator)
    labels = torch.tensor([[[3, -1, -1, 0], [-1, -1, -1, -1]]] * 2)
    weight = torch.tensor([[[1.0, 1.0, 0.0, 1.0], [1.0] * 4]] * 2)
    term = class_term(logits, labels, weight, LossConfig())
    expected = 0.0
    for layer in range(2):
        for query in (0, 1, 3):
            row, label = logits[layer, 0, query], int(labels[layer, 0, query])
            p = row.sigmoid()
            for k in range(5):
                right = p[k] if k == label else 1 - p[k]
                expected += float(-0.5 * (1 - right) ** 2 * right.log())
            if label >= 0:
                expected += float(F.cross_entropy(row[None], torch.tensor([label])))
    torch.testing.assert_close(term.total, torch.tensor(expected))
    # Two positives; the clip without any is left out.
    assert term.count == 2


def test_query_labels_ignore_dropped_and_classless_objects():
    queries = torch.tensor([[[2, 0, 3, -1, 5]]])
    labels = torch.tensor([[7, 8, -1, 9, 4]])
    kept = torch.tensor([[True, False, True, True, True]])
    judged = torch.tensor([[[True, False, True, True, True, False, True]]])
    query_label, weight = query_labels(queries, labels, kept, judged)
    assert query_label.tolist() == [[[-1, -1, 7, -1, -1, 4, -1]]]
    # Query 0 has a dropped object, 3 a class-less one, 1 lies in ignored pixels (5, too, but has an object).
    assert weight.tolist() == [[[0, 0, 1, 0, 1, 1, 1]]]


def test_class_term_with_every_category_judged_is_the_plain_one():
    torch.manual_seed(0)
    logits, labels = torch.randn(2, 1, 5, 4), torch.tensor([[[0, -1, 3, -1, 2]], [[-1, 1, -1, 0, 2]]])
    weight = torch.ones(2, 1, 5)
    plain = class_term(logits, labels, weight, LossConfig())
    judged = class_term(logits, labels, weight, LossConfig(), torch.ones(1, 4, dtype=torch.bool))
    torch.testing.assert_close(judged.total, plain.total)


def test_category_that_was_not_looked_for_is_no_negative():
    torch.manual_seed(0)
    logits = torch.randn(1, 1, 3, 4, requires_grad=True)
    labels = torch.tensor([[[1, 2, -1]]])
    judged = torch.tensor([[True, True, False, False]])
    class_term(logits, labels, torch.ones(1, 1, 3), LossConfig(), judged).total.backward()
    moved = logits.grad[0, 0] != 0
    # Category 2 counts only for the query that is one; nothing is known of category 3.
    assert moved.tolist() == [
        [True, True, False, False],
        [True, True, True, False],
        [True, True, False, False],
    ]


def test_clip_in_which_nothing_was_looked_for_moves_nothing():
    logits = torch.randn(1, 1, 3, 4, requires_grad=True)
    labels = torch.full((1, 1, 3), -1)
    judged = torch.zeros(1, 4, dtype=torch.bool)
    class_term(logits, labels, torch.ones(1, 1, 3), LossConfig(), judged).total.backward()
    assert torch.equal(logits.grad, torch.zeros_like(logits))
