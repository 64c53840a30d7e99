import torch

from univs.draws import Draws


def _draws(seed: int = 0) -> Draws:
    return Draws(torch.Generator().manual_seed(seed))


def test_draws_of_one_seed_are_the_same_and_of_another_are_not():
    first, again, other = (_draws(seed).randn(2, 3) for seed in (0, 0, 1))
    assert first.shape == (2, 3)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_draws_go_on_from_call_to_call():
    draws = _draws()
    assert not torch.equal(draws.rand(4), draws.rand(4))


def test_rand_without_a_shape_is_a_number_below_one():
    assert 0 <= float(_draws().rand()) < 1


def test_randperm_holds_every_item_once():
    assert sorted(_draws().randperm(9).tolist()) == list(range(9))


def test_choices_repeat_items_and_reach_all():
    drawn = _draws().choices(3, 200)
    assert drawn.shape == (200,)
    assert set(drawn.tolist()) == {0, 1, 2}
