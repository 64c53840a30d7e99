import itertools
import math

import torch
from torch.nn.functional import cosine_similarity

from univs.inference.association import (
    IdentityMemory,
    bisoftmax_similarity,
    cosine_agreement,
    identity_slots,
    match,
    pairwise_agreement,
    temporal_weights,
)


def _draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_temporal_weights_grow_exponentially_over_valid_slots():
    weights = temporal_weights(torch.tensor([[True, True, False, True], [False] * 4]))
    raw = [math.exp(5 / 4), math.exp(10 / 4), 0.0, math.exp(5)]
    assert torch.allclose(weights[0], torch.tensor(raw) / sum(raw))
    assert weights[1].tolist() == [0.0] * 4


def test_cosine_agreement_matches_loops_over_slots_and_frames():
    memory, embeddings = _draw(2, 3, 5), _draw(2, 4, 5, seed=1)
    valid = torch.tensor([[False, True, True], [True, True, True]])
    agreement = cosine_agreement(memory, valid, embeddings)
    weights = temporal_weights(valid)
    for n in range(2):
        expected = 0.0
        for v in range(3):
            cosines = [cosine_similarity(memory[n, v], embeddings[n, t], dim=0).item() for t in range(4)]
            expected += weights[n, v].item() * sum(cosines) / 4
        assert abs(agreement[n].item() - expected) < 1e-5


def test_pairwise_agreement_is_the_agreement_of_every_pair():
    memory, valid, embeddings = _draw(3, 2, 4), torch.ones(3, 2, dtype=torch.bool), _draw(2, 5, 4, seed=3)
    pairs = pairwise_agreement(memory, valid, embeddings)
    for detection in range(2):
        same = embeddings[detection].expand(3, -1, -1)
        assert torch.allclose(pairs[:, detection], cosine_agreement(memory, valid, same), atol=1e-6)


def test_bisoftmax_matches_loops_over_votes():
    memory, embeddings = _draw(3, 2, 4), _draw(5, 3, 4, seed=2)
    valid = torch.tensor([[True, True], [False, True], [False, False]])
    similarity = bisoftmax_similarity(memory, valid, embeddings)
    for n, d in itertools.product(range(3), range(5)):
        votes = []
        for v, t in itertools.product(range(2), range(3)):
            if not valid[n, v]:
                continue
            over_detections = [math.exp((memory[n, v] @ embeddings[k, t]).item()) for k in range(5)]
            over_objects = [
                math.exp((memory[m, v] @ embeddings[d, t]).item()) for m in range(3) if valid[m, v]
            ]
            own = math.exp((memory[n, v] @ embeddings[d, t]).item())
            votes.append((own / sum(over_detections) + own / sum(over_objects)) / 2)
        expected = sum(votes) / len(votes) if votes else 0.0
        assert abs(similarity[n, d].item() - expected) < 1e-5


def test_match_is_one_to_one_and_drops_what_is_below_the_threshold():
    similarity = torch.tensor([[0.9, 0.8, 0.0], [0.85, 0.1, 0.0], [0.05, 0.05, 0.09]])
    assert match(similarity, 0.1).tolist() == [1, 0, -1]


def test_match_with_more_objects_than_detections_leaves_some_without():
    assert match(torch.tensor([[0.2], [0.9], [0.5]]), 0.1).tolist() == [-1, 0, -1]


def test_match_of_nothing_is_nothing():
    assert match(torch.zeros(2, 0), 0.1).tolist() == [-1, -1]
    assert match(torch.zeros(0, 3), 0.1).tolist() == []


def test_identity_memory_keeps_only_the_last_accepted_clips_of_each_object():
    memory = IdentityMemory.empty(2, 2, 1, torch.device("cpu"))
    for value, accepted in ((1.0, [True, True]), (2.0, [True, False]), (3.0, [True, True])):
        memory = memory.pushed(torch.full((2, 1), value), torch.tensor(accepted))
    assert memory.embeddings[..., 0].tolist() == [[2.0, 3.0], [1.0, 3.0]]
    assert memory.valid.all()


def test_identity_memory_blends_into_the_newest_slot_and_fills_an_empty_one():
    memory = IdentityMemory.empty(2, 2, 1, torch.device("cpu"))
    memory = memory.pushed(torch.tensor([[4.0], [0.0]]), torch.tensor([True, False]))
    memory = memory.blended(torch.tensor([[2.0], [2.0]]), torch.tensor([True, True]))
    assert memory.embeddings[:, -1, 0].tolist() == [3.0, 2.0]
    assert memory.valid.tolist() == [[False, True], [False, True]]


def test_identity_slots_cover_the_memory_but_at_least_three_clips():
    assert [identity_slots(5, 1), identity_slots(5, 5), identity_slots(12, 2)] == [5, 3, 6]
