from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from univs.data.schedule import MixtureSchedule, SampleOrder

WEIGHTS = st.lists(st.integers(1, 60), min_size=1, max_size=8)


@given(WEIGHTS)
@example([20, 7, 2, 100, 7, 100])
@example([10, 50, 1, 1, 3, 50, 1, 1, 50])
def test_counts_stay_within_one_of_the_ratios(weights):
    schedule = MixtureSchedule.from_weights(weights)
    chosen = np.array([schedule.dataset_at(step) for step in range(2 * schedule.period)])
    shares = np.array(weights) / sum(weights)
    counts = (chosen[:, None] == np.arange(len(weights))).cumsum(0)
    drift = counts - np.arange(1, len(chosen) + 1)[:, None] * shares
    assert np.abs(drift).max() < 1
    assert counts[schedule.period - 1].tolist() == [int(schedule.period * s + 0.5) for s in shares]


STAGE_2 = [0.15, 0.35, 0.25, 0.5, 0.25, 0.5, 0.5, 0.35, 0.25, 0.25, 0.15, 0.15]
"""The original's ratios of LVIS, OVIS, YTVIS 2021, EntitySeg, COCO, VIPSeg, RefCOCO, RefYTVOS, SA-1B, ..."""


def test_the_original_ratios_hold_at_every_one_of_100_000_steps():
    schedule, num_steps = MixtureSchedule.from_weights(STAGE_2), 100_000
    chosen = np.array([schedule.dataset_at(step) for step in range(num_steps)])
    counts = (chosen[:, None] == np.arange(len(STAGE_2))).cumsum(0)
    wanted = np.arange(1, num_steps + 1)[:, None] * (np.array(STAGE_2) / sum(STAGE_2))
    assert np.abs(counts - wanted).max() < 1


@given(WEIGHTS, st.integers(0, 10**9))
def test_count_before_is_the_number_of_earlier_steps(weights, start):
    schedule = MixtureSchedule.from_weights(weights)
    for dataset in range(len(weights)):
        grown = sum(schedule.dataset_at(step) == dataset for step in range(start, start + 20))
        before = schedule.count_before(start, dataset)
        assert schedule.count_before(start + 20, dataset) == before + grown
        assert schedule.count_before(0, dataset) == 0
    assert sum(schedule.count_before(start, d) for d in range(len(weights))) == start


def test_decimal_weights_are_taken_exactly():
    schedule = MixtureSchedule.from_weights([0.15, 0.35, 0.5])
    assert schedule.period == 20
    assert [schedule.count_before(20, dataset) for dataset in range(3)] == [3, 7, 10]


@pytest.mark.parametrize("weights", [[], [1.0, 0.0], [-1.0], [1 / 3, 1 / 7]])
def test_unusable_weights_are_refused(weights):
    with pytest.raises(ValueError, match="mixture weights"):
        MixtureSchedule.from_weights(weights)


def test_fractions_are_weights_too():
    assert MixtureSchedule.from_weights([Fraction(1, 3), Fraction(2, 3)]).period == 3


@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 2**40))
def test_every_epoch_visits_every_sample_once(num_samples, epoch, seed):
    order = SampleOrder(seed=seed, name="a/train", num_samples=num_samples)
    draws = [order.sample_at(epoch * num_samples + i) for i in range(num_samples)]
    assert sorted(draws) == list(range(num_samples))


def test_epochs_datasets_and_seeds_are_permuted_independently():
    def first(epoch: int = 0, **changes) -> list[int]:
        order = SampleOrder(**{"seed": 1, "name": "a/train", "num_samples": 50, **changes})
        return [order.sample_at(epoch * 50 + i) for i in range(50)]

    assert first() == first()
    assert len({tuple(order) for order in (first(), first(epoch=1), first(seed=2), first(name="b"))}) == 4


def test_every_place_of_an_epoch_is_equally_likely_for_every_sample():
    num_samples, num_epochs = 7, 4000
    order = SampleOrder(seed=3, name="a/train", num_samples=num_samples)
    draws = np.array([order.sample_at(draw) for draw in range(num_samples * num_epochs)])
    table = np.zeros((num_samples, num_samples))
    np.add.at(table, (np.tile(np.arange(num_samples), num_epochs), draws), 1)
    expected = num_epochs / num_samples
    chi_square = ((table - expected) ** 2 / expected).sum()
    assert chi_square < 36 + 5 * (2 * 36) ** 0.5  # 36 degrees of freedom, five standard deviations


def test_neighbors_in_order_are_no_neighbors_in_the_shards():
    order = SampleOrder(seed=3, name="a/train", num_samples=10_000)
    draws = np.array([order.sample_at(draw) for draw in range(10_000)])
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(draws, np.arange(10_000))[0, 1]) < 0.05
    assert (np.abs(np.diff(draws)) == 1).sum() < 15


def test_a_draw_costs_the_same_anywhere_in_eleven_million_samples():
    order = SampleOrder(seed=3, name="sa_1b/train", num_samples=11_185_362)
    draws = [order.sample_at(draw) for draw in range(10**15, 10**15 + 300)]
    assert len(set(draws)) == 300
    assert all(0 <= draw < order.num_samples for draw in draws)


def test_an_empty_dataset_is_refused():
    with pytest.raises(ValueError, match="at least one sample"):
        SampleOrder(seed=0, name="a/train", num_samples=0)
