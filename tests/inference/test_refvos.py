from dataclasses import replace

import pytest
import torch

from univs.inference.config import refvos_defaults
from univs.inference.frames import VideoInput
from univs.inference.refvos import segment_refvos

CONFIG = replace(
    refvos_defaults(), frames_per_clip=3, short_edge_px=64, memory_frames=2, consistency_threshold=0.0
)


def _segment(model, frames, expressions, config=CONFIG):
    video = VideoInput(video_id="v", frames=frames)
    return segment_refvos(model, video, expressions, config, torch.Generator().manual_seed(0))


def test_refvos_result_is_keyed_by_expression(model, make_frames):
    result = _segment(model, make_frames(5), {"0": "the red square", "7": "a green thing on the right"})
    assert result.object_ids == ("0", "7")
    assert result.masks.shape == (2, 5, 64, 96)
    assert result.masks.any()
    assert result.frame_names[-1] == "00004"


def test_refvos_expressions_do_not_influence_each_other(model, make_frames):
    # without memory nothing is drawn at random, so even long videos must agree
    config = replace(CONFIG, expression_memory=False)
    frames = make_frames(5)
    both = _segment(model, frames, {"a": "the red square", "b": "a dog"}, config)
    alone = _segment(model, frames, {"b": "a dog"}, config)
    swapped = _segment(model, frames, {"b": "a dog", "a": "the red square"}, config)
    assert (both.masks[1] != alone.masks[0]).mean() < 1e-3
    assert (both.masks != swapped.masks[::-1]).mean() < 1e-3


def test_refvos_remembers_predicted_masks_only_from_the_second_clip_on(model, make_frames):
    frames, expressions = make_frames(6), {"a": "the red square"}
    remembering = _segment(model, frames, expressions)
    forgetting = _segment(model, frames, expressions, replace(CONFIG, expression_memory=False))
    assert (remembering.masks[:, 0] == forgetting.masks[:, 0]).all()
    assert (remembering.masks[:, 3:] != forgetting.masks[:, 3:]).any()


@pytest.mark.parametrize("num_frames", [1, 2])
def test_refvos_of_a_video_shorter_than_a_clip_covers_it(model, make_frames, num_frames):
    result = _segment(model, make_frames(num_frames), {"a": "the red square"})
    assert result.masks.shape == (1, num_frames, 64, 96)


def test_refvos_inconsistent_predictions_leave_later_frames_empty(model, make_frames):
    result = _segment(
        model, make_frames(6), {"a": "the red square"}, replace(CONFIG, consistency_threshold=1.0)
    )
    assert result.masks[0, :3].any()
    assert not result.masks[0, 3:].any()


def test_refvos_without_expressions_is_refused(model, make_frames):
    with pytest.raises(ValueError, match="no expression"):
        _segment(model, make_frames(2), {})
