import numpy as np
import pytest

from univs.evaluation.jaccard import jaccard, summarize


def test_jaccard_is_intersection_over_union():
    ours, theirs = np.zeros((2, 4, 4), bool)
    ours[:2], theirs[1:3] = True, True
    assert jaccard(ours, theirs) == pytest.approx(4 / 12)
    assert jaccard(ours, np.zeros_like(ours)) == 0.0


def test_jaccard_of_two_empty_masks_is_one():
    assert jaccard(np.zeros((4, 4), bool), np.zeros((4, 4), bool)) == 1.0


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


def test_decay_of_long_videos_does_not_overflow():
    values = np.linspace(1, 0, 401)
    assert summarize(values).decay == pytest.approx(0.75)


def test_summary_of_no_frame_raises():
    with pytest.raises(ValueError, match="frame"):
        summarize(np.zeros(0))
