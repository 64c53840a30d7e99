import math

import pytest
import torch
import torch.nn.functional as F

from univs.draws import Draws
from univs.training.compat.points import Sampling
from univs.training.compat.reid import identity_terms, interclip_terms
from univs.training.config import LossConfig


def _sampling(**sizes):
    return Sampling(LossConfig(**sizes), Draws(torch.Generator().manual_seed(0)))


def test_identity_terms_equal_a_loop_where_every_column_is_drawn():
    torch.manual_seed(0)
    tokens, ids = torch.randn(8, 4) * 2, torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])
    same = ids[:, None] == ids
    contrast, aux = identity_terms(tokens, tokens, same, _sampling(num_reid_columns=20))
    rows, aux_rows = [], []
    for row in range(8):
        scores = [float(tokens[row] @ other) / 2 for other in tokens]
        positives = [score for score, is_same in zip(scores, same[row], strict=True) if is_same]
        negatives = [score for score, is_same in zip(scores, same[row], strict=True) if not is_same]
        anchors = (positives[0], sum(positives) / len(positives))
        rows.append(math.log1p(sum(math.exp(min(n - p, 10)) for n in negatives for p in anchors)))
        cosines = F.cosine_similarity(tokens[row, None], tokens).clamp(min=0)
        aux_rows.append(float(F.smooth_l1_loss(cosines, same[row].float(), reduction="sum")))
    assert float(contrast) == pytest.approx(sum(rows) / 8, rel=1e-5)
    assert float(aux) == pytest.approx(sum(aux_rows) / 8, rel=1e-5)


def test_identity_terms_of_one_row_are_compared_with_no_unrelated_token():
    # One row allows for three columns: two related ones, and int(0.75) unrelated ones.
    row, columns = torch.ones(1, 4), torch.cat([torch.ones(1, 4), -torch.ones(9, 4)])
    same = torch.zeros(1, 10, dtype=torch.bool)
    same[0, 0] = True
    contrast, aux = identity_terms(row, columns, same, _sampling())
    assert float(contrast) == 0
    assert float(aux) == 0


def test_identity_terms_leave_out_rows_without_a_positive():
    torch.manual_seed(0)
    rows, columns = torch.randn(3, 4), torch.randn(5, 4)
    same = torch.zeros(3, 5, dtype=torch.bool)
    same[0, 1] = same[1, 2] = True
    with_idle = identity_terms(rows, columns, same, _sampling())
    without = identity_terms(rows[:2], columns, same[:2], _sampling())
    assert all(torch.equal(a, b) for a, b in zip(with_idle, without, strict=True))


def test_identity_terms_without_tokens_are_zero():
    none = torch.zeros(0, 4)
    terms = identity_terms(none, none, torch.zeros(0, 0, dtype=torch.bool), _sampling())
    assert [float(term) for term in terms] == [0, 0]


def test_identity_terms_have_no_gradient_beyond_the_largest_gap():
    rows = torch.tensor([[10.0, 0.0, 0.0, 0.0]], requires_grad=True)
    columns = torch.tensor([[-10.0, 0, 0, 0], [10.0, 0, 0, 0]]).repeat(8, 1)
    same = torch.tensor([[True, False]]).repeat(1, 8)
    contrast, _ = identity_terms(rows.expand(4, -1), columns, same.expand(4, -1), _sampling())
    contrast.backward()
    assert contrast.item() > 10
    assert not rows.grad.any()


def test_interclip_terms_are_small_where_objects_agree_and_large_where_they_are_swapped():
    eye = torch.eye(4)[:3] * 6
    tokens = torch.cat([eye, eye])
    ids = torch.arange(3)
    agreed = interclip_terms(tokens, torch.cat([ids, ids]), _sampling())
    swapped = interclip_terms(tokens, torch.cat([ids, ids.roll(1)]), _sampling())
    assert float(agreed[0]) < 0.01
    assert float(agreed[1]) == pytest.approx(0, abs=1e-6)
    assert float(swapped[0]) > 1
    assert float(swapped[1]) > 0.5
