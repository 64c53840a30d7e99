from dataclasses import replace

import pytest
import torch

from univs.inference.config import vss_defaults
from univs.inference.frames import VideoInput, plan_geometry
from univs.inference.vss import label_pixels, segment_vss

CONFIG = replace(vss_defaults(), frames_per_clip=3, clip_stride=1, short_edge_px=64)


@pytest.mark.parametrize("num_frames", [1, 3, 7])
def test_vss_labels_every_pixel(model, make_frames, label_space, num_frames):
    result = segment_vss(model, VideoInput(video_id="v", frames=make_frames(num_frames)), label_space, CONFIG)
    assert result.labels.shape == (num_frames, 64, 96)
    assert result.labels.min() >= 0
    assert result.labels.max() < 5


def test_vss_clips_do_not_depend_on_earlier_ones(model, make_frames, label_space):
    frames = make_frames(6)
    long = segment_vss(model, VideoInput(video_id="v", frames=frames), label_space, CONFIG)
    changed = frames.copy()
    changed[:3] = 255 - changed[:3]
    other = segment_vss(model, VideoInput(video_id="v", frames=changed), label_space, CONFIG)
    assert (long.labels[3:] == other.labels[3:]).all()


def test_label_pixels_sums_class_times_mask_probability_over_queries():
    # two weak queries of class 1 together beat a stronger one of class 0 on the left half
    geometry = plan_geometry(32, 32, 32, 100)
    logits = torch.full((3, 8, 8), -20.0)
    logits[0] = 20.0
    logits[1:, :, :4] = 20.0
    probabilities = torch.tensor([[0.6, 0.0], [0.0, 0.4], [0.0, 0.4]])
    labels = label_pixels(probabilities, logits, geometry)
    assert (labels[:, :14] == 1).all()
    assert (labels[:, 18:] == 0).all()


def test_label_pixels_brings_labels_to_the_original_size():
    geometry = plan_geometry(64, 80, 32, 100)
    labels = label_pixels(torch.eye(2), torch.randn(2, *geometry.quarter), geometry)
    assert labels.shape == (64, 80)
