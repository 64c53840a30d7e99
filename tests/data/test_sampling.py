import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from univs.data.sampling import choose_frames, choose_image, clip_generator

LABELLED = st.lists(st.booleans(), min_size=1, max_size=30).filter(any)


@given(LABELLED, st.integers(1, 6), st.integers(0, 12), st.integers(0, 999))
def test_frames_are_labelled_ascending_and_near(labelled, num_frames, range_frames, seed):
    positions = choose_frames(labelled, num_frames, range_frames, clip_generator(seed, 0, 0))
    assert len(positions) == num_frames
    assert all(labelled[position] for position in positions)
    assert (np.diff(positions) >= 0).all()
    assert positions[-1] - positions[0] <= 2 * range_frames


@given(LABELLED, st.integers(1, 6), st.integers(0, 999))
def test_frames_repeat_only_when_there_are_too_few(labelled, num_frames, seed):
    positions = choose_frames(labelled, num_frames, len(labelled), clip_generator(seed, 0, 0))
    assert len(set(positions.tolist())) == min(num_frames, sum(labelled))


def test_reference_is_uniform_over_labelled_frames():
    labelled = [True, False, True, True]
    draws = [choose_frames(labelled, 1, 5, clip_generator(3, step, 0))[0] for step in range(3000)]
    counts = np.bincount(draws, minlength=4)
    assert counts[1] == 0
    assert np.abs(counts[[0, 2, 3]] - 1000).max() < 130  # five standard deviations


def test_image_clip_repeats_one_labelled_frame():
    positions = choose_image([False, True, False], 4, clip_generator(0, 0, 0))
    assert positions.tolist() == [1, 1, 1, 1]


def test_draw_depends_on_seed_step_slot_and_attempt_only():
    draws = {
        seeds: tuple(choose_frames([True] * 500, 5, 400, clip_generator(*seeds)))
        for seeds in [(0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    }
    assert len(set(draws.values())) == 5
    assert draws[0, 1, 0, 0] == tuple(choose_frames([True] * 500, 5, 400, clip_generator(0, 1, 0)))


def test_no_labelled_frame_is_refused():
    with pytest.raises(ValueError, match="no labelled frame"):
        choose_frames([False, False], 2, 5, clip_generator(0, 0, 0))
