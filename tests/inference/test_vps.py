from dataclasses import replace

import numpy as np
import pytest
import torch

from univs.inference.config import InferenceConfig, vps_defaults
from univs.inference.frames import VideoInput
from univs.inference.outputs import QueryOutputs
from univs.inference.vps import name_segments, paint_frame, segment_vps, select_segments

CONFIG = replace(
    vps_defaults(),
    frames_per_clip=3,
    short_edge_px=64,
    memory_frames=2,
    class_threshold=0.0,
    overlap_threshold=0.1,
)


def _segment(model, frames, label_space, config=CONFIG):
    video = VideoInput(video_id="v", frames=frames)
    return segment_vps(model, video, label_space, config, torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("num_frames", "clip_stride"), [(1, 1), (2, 1), (7, 1), (7, 3)])
def test_vps_maps_and_segments_list_the_same_ids(model, make_frames, label_space, num_frames, clip_stride):
    config = replace(CONFIG, clip_stride=clip_stride)
    result = _segment(model, make_frames(num_frames), label_space, config)
    assert result.maps.shape == (num_frames, 64, 96)
    assert result.maps.dtype == np.int32
    ids = [segment.segment_id for segment in result.segments]
    assert ids
    assert set(np.unique(result.maps)) - {0} == set(ids)
    assert len(set(ids)) == len(ids)
    stuff = [s.label for s in result.segments if not label_space.is_thing[s.label]]
    assert len(set(stuff)) == len(stuff), "stuff of one class is one segment"


def test_vps_with_the_same_generator_state_repeats_itself(model, make_frames, label_space):
    frames = make_frames(6)
    first, second = _segment(model, frames, label_space), _segment(model, frames, label_space)
    assert (first.maps == second.maps).all()
    assert first.segments == second.segments


def test_vps_without_any_entity_is_empty(model, make_frames, label_space):
    result = _segment(model, make_frames(4), label_space, replace(CONFIG, class_threshold=1.0))
    assert not result.maps.any()
    assert result.segments == ()


def test_name_segments_merges_stuff_and_keeps_things_apart():
    maps = np.array([[[1, 2, 3], [4, 0, 5]]], dtype=np.int32)
    labels = {0: 1, 1: 0, 2: 1, 3: 0, 4: 2, 5: 0}
    named, segments = name_segments(maps, labels, (True, False, False))
    assert named.tolist() == [[[1, 2, 1], [4, 0, 5]]]
    assert [(s.segment_id, s.label) for s in segments] == [(1, 1), (2, 0), (4, 0), (5, 2)]


def test_paint_frame_leaves_out_entities_that_lose_too_much():
    logits = torch.tensor([[[2.0, 2.0, 2.0, 2.0]], [[3.0, 3.0, -1.0, -1.0]], [[-1.0, -1.0, -1.0, -1.0]]])
    scores, ids = torch.tensor([0.2, 0.9, 1.0]), torch.tensor([10, 20, 30])
    assert paint_frame(scores, logits, torch.tensor([0.5, 0.5, 0.5]), ids).tolist() == [[21, 21, 11, 11]]
    assert paint_frame(scores, logits, torch.tensor([0.6, 0.5, 0.5]), ids).tolist() == [[21, 21, 0, 0]]


def _outputs(masks, labels, scores):
    probabilities = torch.zeros(len(labels), 2)
    probabilities[torch.arange(len(labels)), torch.tensor(labels)] = torch.tensor(scores)
    return QueryOutputs(
        mask_logits=torch.where(masks, 4.0, -4.0)[:, None],
        embeddings=torch.zeros(len(labels), 1, 4),
        class_probabilities=probabilities,
        quality=torch.ones(len(labels)),
    )


def test_select_segments_compares_things_by_box_and_stuff_by_mask():
    masks = torch.zeros(4, 8, 8, dtype=torch.bool)
    masks[0] = True  # thing: the whole frame
    masks[1].fill_diagonal_(fill_value=True)  # thing: a diagonal with the same box
    masks[2] = True  # stuff: the whole frame
    masks[3].fill_diagonal_(fill_value=True)  # stuff: a diagonal
    outputs = _outputs(masks, [0, 0, 1, 1], [0.9, 0.8, 0.7, 0.6])
    config = InferenceConfig(max_detections=10, stability_threshold=0.0)
    kept = select_segments(torch.tensor([True, False]), outputs, config)
    assert sorted(kept.tolist()) == [0, 2, 3]
