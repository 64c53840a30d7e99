import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from univs.data.sampling import choose_frames, choose_reference, clip_generator, size_generator

LABELLED = st.lists(st.booleans(), min_size=1, max_size=30).filter(any)


def choose(labelled, num_frames, range_frames, *seeds):
    generator = clip_generator(*seeds)
    reference = choose_reference(labelled, generator)
    return reference, choose_frames(labelled, reference, num_frames, range_frames, generator)


@given(LABELLED, st.integers(1, 6), st.integers(0, 12), st.integers(0, 999))
def test_frames_are_labelled_ascending_and_near_the_reference(labelled, num_frames, range_frames, seed):
    reference, positions = choose(labelled, num_frames, range_frames, seed, 0, 0)
    assert len(positions) == num_frames
    assert all(labelled[position] for position in positions)
    assert (np.diff(positions) >= 0).all()
    assert np.abs(positions - reference).max() <= range_frames
    assert reference in positions


@given(LABELLED, st.integers(1, 6), st.integers(0, 999))
def test_frames_repeat_only_when_there_are_too_few(labelled, num_frames, seed):
    positions = choose(labelled, num_frames, len(labelled), seed, 0, 0)[1]
    assert len(set(positions.tolist())) == min(num_frames, sum(labelled))


def test_reference_is_uniform_over_labelled_frames():
    labelled = [True, False, True, True]
    draws = [choose_reference(labelled, clip_generator(3, step, 0)) for step in range(3000)]
    counts = np.bincount(draws, minlength=4)
    assert counts[1] == 0
    assert np.abs(counts[[0, 2, 3]] - 1000).max() < 130  # five standard deviations


def test_a_range_of_zero_repeats_the_reference():
    assert choose([False, True, False], 4, 0, 0, 0, 0)[1].tolist() == [1, 1, 1, 1]


def test_draw_depends_on_seed_step_slot_and_attempt_only():
    draws = {
        seeds: tuple(choose([True] * 500, 5, 400, *seeds)[1])
        for seeds in [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    }
    assert len(set(draws.values())) == 5
    assert draws[0, 1, 0, 0] == tuple(choose([True] * 500, 5, 400, 0, 1, 0)[1])


def test_sizes_are_drawn_apart_from_contents():
    contents, sizes = clip_generator(1, 2, 3), size_generator(1, 2, 3)
    assert contents.integers(2**60) != sizes.integers(2**60)


def test_no_labelled_frame_is_refused():
    with pytest.raises(ValueError, match="no labelled frame"):
        choose_reference([False, False], clip_generator(0, 0, 0))
