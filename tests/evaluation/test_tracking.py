import math

import numpy as np
import pytest

from univs.evaluation.histogram import count_segment_pairs
from univs.evaluation.tracking import evaluate_tracking, score_tracking
from univs.predictions import PanopticVideo, Segment

IS_THING = (False, True)


def _video(rows, labels):
    segments = tuple(Segment(segment_id=number, label=label) for number, label in labels.items())
    return PanopticVideo(video_id="v", maps=np.asarray(rows, np.int32)[:, None], segments=segments)


def _score(prediction, truth, numbering="official"):
    pairs = count_segment_pairs(prediction, truth)
    return score_tracking([evaluate_tracking(pairs, IS_THING, numbering)])


def test_stq_of_an_identity_switch_is_computed_by_hand():
    truth = _video([[1, 1, 2, 2], [1, 1, 2, 2]], {1: 0, 2: 1})
    ours = _video([[5, 5, 6, 6], [5, 5, 7, 7]], {5: 0, 6: 1, 7: 1})
    scores = _score(ours, truth)
    # The tube has 4 pixels, each of two tracks covers 2 of them: (2 * 2/4 + 2 * 2/4) / 4.
    assert scores.aq == pytest.approx(0.5)
    assert scores.sq == 1.0
    assert scores.stq == pytest.approx(math.sqrt(0.5))


def test_stq_first_listed_thing_is_left_out_unless_mended():
    truth = _video([[1, 1, 2, 2]], {1: 1, 2: 1})
    ours = _video([[0, 0, 6, 6]], {6: 1})
    assert _score(ours, truth).aq == 1.0
    assert _score(ours, truth, "from_one").aq == pytest.approx(0.5)


def test_stq_first_listed_thing_also_hides_the_predictions_on_it():
    truth = _video([[1, 1, 2, 2]], {1: 1, 2: 1})
    ours = _video([[6, 6, 6, 6]], {6: 1})
    assert _score(ours, truth).aq == 1.0
    assert _score(ours, truth, "from_one").aq == pytest.approx((2 * 2 / 4) / 2)


def test_sq_counts_unpredicted_pixels_as_one_more_class():
    truth = _video([[1, 1, 1, 1]], {1: 0})
    half = _score(_video([[5, 5, 0, 0]], {5: 0}), truth)
    assert half.sq == pytest.approx((0.5 + 0) / 2)


def test_sq_ignores_what_is_predicted_on_void_but_tubes_do_not():
    truth = _video([[1, 2, 2, 0, 0]], {1: 0, 2: 1})
    scores = _score(_video([[5, 6, 6, 6, 6]], {5: 0, 6: 1}), truth)
    assert scores.sq == 1.0
    assert scores.aq == pytest.approx(2 * (2 / 4) / 2)


def test_tube_of_another_class_still_associates_by_overlap():
    truth = _video([[1, 2, 2]], {1: 0, 2: 1})
    assert _score(_video([[5, 6, 6]], {5: 0, 6: 0}), truth).aq == 0.0
