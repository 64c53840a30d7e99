import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from univs.evaluation.jaccard import count_overlaps, jaccards, summarize


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    top=st.integers(1, 6),
)
def test_overlaps_and_ious_equal_those_of_masks(seed, size, top):
    ours, theirs = np.random.default_rng(seed).integers(0, top, (2, *size)).astype(np.uint8)
    counts = count_overlaps(ours, theirs, 6)
    assert counts.shape == (6, 6)
    ids = np.arange(6)
    ious = jaccards(counts, ids[:, None], ids)
    for i in range(6):
        for k in range(6):
            inner, outer = (theirs == i) & (ours == k), (theirs == i) | (ours == k)
            assert counts[i, k] == inner.sum()
            assert ious[i, k] == (inner.sum() / outer.sum() if outer.any() else 1.0)


def test_summary_of_falling_scores_is_computed_by_hand():
    values = np.asarray([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2])
    summary = summarize(values)
    assert summary.mean == pytest.approx(0.6)
    # One half is not above one half. Quarters of nine frames are 0-2, 2-4, 4-6, 6-8.
    assert summary.recall == pytest.approx(5 / 9)
    assert summary.decay == pytest.approx(0.9 - 0.3)


def test_decay_rounds_quarter_borders_at_one_half_up():
    # Borders 1, 1.5, 2, 2.5, 3 become frames 0, 1, 1, 2, 2.
    assert summarize(np.asarray([1.0, 0.7, 0.0])).decay == pytest.approx(0.85)


@pytest.mark.parametrize("num_frames", [256, 298, 401])
def test_official_decay_overflows_from_256_frames_on(num_frames):
    values = np.linspace(1, 0, num_frames)
    with np.errstate(over="ignore"):
        borders = (np.round(np.linspace(1, num_frames, 5) + 1e-10) - 1).astype(np.intp).astype(np.uint8)
        last = values[borders[3] : borders[4] + np.uint8(1)]
    expected = values[: int(borders[1]) + 1].mean() - (last.mean() if last.size else math.nan)
    assert summarize(values).decay == pytest.approx(expected, nan_ok=True)
    assert summarize(values, is_decay_mended=True).decay == pytest.approx(0.75, abs=0.01)


@pytest.mark.parametrize("num_frames", [1, 4, 255])
def test_both_decays_agree_below_256_frames(num_frames):
    values = np.random.default_rng(0).random(num_frames)
    assert summarize(values) == summarize(values, is_decay_mended=True)


def test_frames_that_do_not_count_are_left_out():
    values = np.asarray([0.2, 0.8, 0.9])
    assert summarize(np.asarray([math.nan, 0.2, 0.8, math.nan, 0.9])) == summarize(values)


def test_summary_of_no_frame_is_nan():
    assert math.isnan(summarize(np.zeros(0)).mean)
