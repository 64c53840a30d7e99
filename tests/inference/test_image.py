from dataclasses import replace

import numpy as np
import pytest
import torch

from univs.inference.config import image_defaults
from univs.inference.frames import VideoInput
from univs.inference.image import merge_stuff, segment_image, select_queries
from univs.inference.outputs import QueryOutputs

CONFIG = replace(image_defaults(), short_edge_px=64, class_threshold=0.0, overlap_threshold=0.0)


def _queries(labels, scores, masks):
    probabilities = torch.full((len(labels), 3), 0.01)
    probabilities[torch.arange(len(labels)), torch.tensor(labels)] = torch.tensor(scores)
    return QueryOutputs(
        mask_logits=torch.where(masks, 4.0, -4.0)[:, None],
        embeddings=torch.zeros(len(labels), 1, 4),
        class_probabilities=probabilities,
        quality=torch.ones(len(labels)),
    )


@pytest.mark.parametrize("class_prompts", [True, False])
def test_image_maps_and_segments_list_the_same_ids(model, make_frames, label_space, class_prompts):
    image = VideoInput(video_id="i", frames=make_frames(1))
    result = segment_image(model, image, label_space, replace(CONFIG, class_prompts=class_prompts))
    assert result.maps.shape == (1, 64, 96)
    assert result.maps.dtype == np.int32
    assert result.segments
    assert set(np.unique(result.maps)) - {0} == {s.segment_id for s in result.segments}
    stuff = [s.label for s in result.segments if not label_space.is_thing[s.label]]
    assert len(set(stuff)) == len(stuff)


def test_image_without_a_sure_query_is_empty(model, make_frames, label_space):
    image = VideoInput(video_id="i", frames=make_frames(1))
    result = segment_image(model, image, label_space, replace(CONFIG, class_threshold=1.0))
    assert result.segments == ()
    assert result.maps.shape == (1, 64, 96)
    assert not result.maps.any()


def test_image_of_two_frames_is_refused(model, make_frames, label_space):
    with pytest.raises(ValueError, match="2 frames, expected 1"):
        segment_image(model, VideoInput(video_id="i", frames=make_frames(2)), label_space, CONFIG)


def test_select_queries_suppresses_only_within_a_class():
    masks = torch.ones(3, 8, 8, dtype=torch.bool)
    kept = select_queries(_queries([0, 0, 1], [0.5, 0.9, 0.3], masks), CONFIG)
    assert kept.tolist() == [1, 2]


def test_merge_stuff_joins_queries_of_a_stuff_class():
    masks = torch.zeros(4, 8, 8, dtype=torch.bool)
    for row in range(4):
        masks[row, 2 * row : 2 * row + 2] = True
    is_thing = torch.tensor([True, False, False])
    labels, scores, logits = merge_stuff(_queries([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.6], masks), is_thing)
    assert labels.tolist() == [0, 0, 1]
    assert (logits[2] > 0).any(1).tolist() == [True, True, False, False, True, True, False, False]
    assert scores[2] > scores[0] > scores[1]
