import torch

from univs.inference.memory import PromptMemory, encode_masks, spread_slots
from univs.model.types import Features, RegionTokens


def _tokens(values, valid):
    """Slots whose two tokens of one channel all carry the value of their (object, slot)."""
    features = torch.tensor(values, dtype=torch.float32)[None, :, :, None, None].expand(-1, -1, -1, 2, 1)
    mask = torch.tensor(valid)[None, :, :, None].expand(-1, -1, -1, 2)
    return RegionTokens(features=features, positions=features + 100, valid=mask)


def _values(tokens):
    return torch.where(tokens.valid[..., 0], tokens.features[..., 0, 0], -1.0)[0].tolist()


def test_memory_keeps_the_first_slot_and_the_last_seen_ones():
    memory = PromptMemory.empty(2, 2, _tokens([[0.0], [0.0]], [[False], [False]]))
    for time in range(1, 6):
        # object 0 is always seen, object 1 only at times 2 and 3
        memory = memory.pushed(_tokens([[time], [10 + time]], [[True], [time in (2, 3)]]))
    assert _values(memory.slots()) == [[1.0, 4.0, 5.0], [12.0, 12.0, 13.0]]
    assert _values(memory.newest()) == [[5.0], [13.0]]
    assert (memory.slots().positions - memory.slots().features == 100).all()


def test_memory_takes_several_slots_like_one_after_another():
    blank = PromptMemory.empty(1, 2, _tokens([[0.0]], [[False]]))
    together = blank.pushed(_tokens([[1.0, 2.0, 3.0]], [[True, False, True]]))
    apart = blank.pushed(_tokens([[1.0]], [[True]])).pushed(_tokens([[3.0]], [[True]]))
    assert _values(together.slots()) == _values(apart.slots()) == [[1.0, 1.0, 3.0]]


def test_memory_grows_and_drops_rows_without_mixing_objects():
    memory = PromptMemory.empty(1, 1, _tokens([[0.0]], [[False]])).pushed(_tokens([[7.0]], [[True]]))
    grown = memory.grown(1)
    assert _values(grown.slots()) == [[7.0, 7.0], [-1.0, -1.0]]
    grown = grown.pushed(_tokens([[8.0], [9.0]], [[True], [True]]))
    assert _values(grown.selected(torch.tensor([1])).slots()) == [[9.0, 9.0]]


def test_spread_slots_inherits_the_newest_known_frame():
    tokens = _tokens([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [[True, True], [False, True], [False, False]])
    fallback = _tokens([[70.0], [71.0], [72.0]], [[True], [True], [True]])
    spread = spread_slots(tokens, torch.tensor([0, 2]), 4, fallback)
    assert _values(spread) == [[1.0, 1.0, 2.0, 2.0], [4.0, 4.0, 4.0, 4.0], [72.0, 72.0, 72.0, 72.0]]


def test_spread_slots_without_any_token_stays_invalid():
    blank = _tokens([[0.0]], [[False]])
    assert not spread_slots(blank, torch.tensor([0]), 3, blank).valid.any()


def test_encode_masks_reads_the_features_of_the_masks_own_frame(model):
    # features say which frame and which column they are from
    channels = model.config.hidden_dim
    fine = torch.zeros(1, 3, channels, 8, 12)
    fine[:, :, 0] = torch.tensor([5.0, 6.0, 7.0]).view(1, 3, 1, 1)
    fine[:, :, 1] = torch.arange(12.0)
    coarse = [torch.zeros(1, 3, channels, 2, 3), torch.zeros(1, 3, channels, 4, 6)]
    features = Features(
        levels=(coarse[0], coarse[1], fine),
        mask=torch.zeros(1, 3, channels, 16, 24),
        frame_indices=torch.tensor([[4, 5, 6]]),
    )
    masks = torch.zeros(2, 2, 64, 96, dtype=torch.bool)
    masks[0, 0, :, :16] = True
    masks[1, 1, 8:40, 80:] = True
    tokens = encode_masks(model, features, masks, torch.tensor([0, 2]), torch.Generator().manual_seed(0))
    assert tokens.valid.any(-1)[0].tolist() == [[True, False], [False, True]]
    left, right = tokens.features[0, 0, 0], tokens.features[0, 1, 1]
    assert (left[:, 0] == 5).all()
    assert set(left[:, 1].tolist()) == {0.0, 1.0}
    assert (right[:, 0] == 7).all()
    assert set(right[:, 1].tolist()) == {10.0, 11.0}
