import math

import torch
import torch.nn.functional as F

from univs.training.reid import Tokens, contrastive, interclip_terms, reid_terms, token_relation


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _tokens(num: int, num_layers: int = 2, channels: int = 8) -> Tokens:
    embeddings = torch.randn(num_layers, num, channels, generator=_generator())
    return Tokens(embeddings=embeddings, valid=torch.ones(num, dtype=torch.bool))


def test_token_relation_holds_in_all_frames_of_one_clip_only():
    relation = torch.tensor([[[True, False, True]], [[False, True, True]]])
    spread = token_relation(relation, num_frames=2)
    assert spread.shape == (2 * 1 * 2, 2 * 3 * 2)
    for row in range(4):
        for column in range(12):
            b, b_other, prompt = row // 2, column // 6, column % 6 // 2
            assert spread[row, column] == (b == b_other and relation[b, 0, prompt])


def test_reid_terms_equal_the_formula_when_every_column_is_taken():
    tokens = _tokens(6)
    tokens.valid[5] = False
    group = torch.tensor([0, 0, 1, 1, 2, 2])
    same = group[:, None] == group
    contrast, aux = reid_terms(tokens, tokens, same, num_columns=64, generator=_generator())
    expected_contrast = expected_aux = 0.0
    for embeddings in tokens.embeddings:
        for i in range(5):
            positives = [j for j in range(5) if group[j] == group[i]]
            score = [float(embeddings[i] @ embeddings[j]) / math.sqrt(8) for j in range(5)]
            marks = (score[positives[0]], sum(score[j] for j in positives) / len(positives))
            gaps = [score[j] - mark for j in range(5) if j not in positives for mark in marks]
            expected_contrast += math.log(1 + sum(math.exp(gap) for gap in gaps))
            for j in range(5):
                cosine = float(F.cosine_similarity(embeddings[i], embeddings[j], dim=0))
                gap = abs(max(cosine, 0) - (j in positives))
                expected_aux += 0.5 * gap * gap
    torch.testing.assert_close(contrast.total, torch.tensor(expected_contrast))
    torch.testing.assert_close(aux.total, torch.tensor(expected_aux))
    assert contrast.count == aux.count == 5


def test_reid_terms_reward_embeddings_that_tell_objects_apart():
    group = torch.arange(3).repeat_interleave(2)
    apart = Tokens(embeddings=4 * torch.eye(3)[group][None], valid=torch.ones(6, dtype=torch.bool))
    mixed = Tokens(embeddings=4 * torch.eye(3)[group.flip(0) % 2][None], valid=apart.valid)
    same = group[:, None] == group
    good = reid_terms(apart, apart, same, 20, _generator())
    bad = reid_terms(mixed, mixed, same, 20, _generator())
    assert good[0].total < 0.1 * bad[0].total
    assert good[1].total < 1e-6 < bad[1].total


def test_reid_terms_without_any_pair_are_zero_with_finite_gradient():
    tokens = _tokens(4)
    embeddings = tokens.embeddings.requires_grad_()
    contrast, aux = reid_terms(tokens, tokens, torch.zeros(4, 4, dtype=torch.bool), 20, _generator())
    (contrast.total + aux.total).backward()
    assert contrast.total == aux.total == contrast.count == 0
    assert embeddings.grad is not None
    assert (embeddings.grad == 0).all()


def test_contrastive_has_a_gradient_however_wrong_the_similarities_are():
    positives = torch.zeros(1, 1, 1, requires_grad=True)
    loss = contrastive(positives, torch.full((1, 1, 1), 500.0), torch.ones(1, 1, dtype=torch.bool))
    loss.sum().backward()
    torch.testing.assert_close(loss, torch.tensor([[500.0]]))
    assert positives.grad is not None
    torch.testing.assert_close(positives.grad, torch.full((1, 1, 1), -1.0))


def test_interclip_terms_reward_identities_that_last():
    objects = torch.tensor([0, 1, 2, 0, 1, 2])
    valid = torch.ones(6, dtype=torch.bool)
    lasting = Tokens(embeddings=4 * torch.eye(3)[objects][None], valid=valid)
    swapped = Tokens(embeddings=4 * torch.eye(3)[torch.tensor([0, 1, 2, 1, 2, 0])][None], valid=valid)
    good = interclip_terms(lasting, objects, 4, (30, 3), _generator())
    bad = interclip_terms(swapped, objects, 4, (30, 3), _generator())
    assert good[0].total < 0.3 * bad[0].total
    assert good[1].total < 1e-6 < bad[1].total
    # The fourth object has no token.
    assert good[0].count == 3
