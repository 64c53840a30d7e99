from dataclasses import replace

import pytest
import torch

from univs.data.masks import decode_rle
from univs.inference.config import vis_defaults
from univs.inference.frames import VideoInput
from univs.inference.tracks import EntitySummary
from univs.inference.vis import final_scores, ranked_classes, segment_vis

CONFIG = replace(
    vis_defaults(),
    frames_per_clip=3,
    short_edge_px=64,
    memory_frames=2,
    class_threshold=0.0,
    stability_threshold=0.0,
    overlap_threshold=0.0,
    max_detections=8,
)


def _segment(model, frames, label_space, config=CONFIG):
    video = VideoInput(video_id="v", frames=frames)
    return segment_vis(model, video, label_space, config, torch.Generator().manual_seed(0))


@pytest.mark.parametrize("num_frames", [1, 2, 7])
def test_vis_tracks_are_scored_and_cover_every_frame(model, make_frames, label_space, num_frames):
    result = _segment(model, make_frames(num_frames), label_space)
    assert (result.height, result.width) == (64, 96)
    assert result.tracks
    scores = [track.score for track in result.tracks]
    assert scores == sorted(scores, reverse=True)
    for track in result.tracks:
        assert 0 <= track.label < 5
        assert 0 <= track.score <= 1
        assert len(track.rles) == num_frames
        assert any(rle is not None for rle in track.rles)
        for counts in filter(None, track.rles):
            assert decode_rle(counts, 64, 96).any()


def test_vis_with_the_same_generator_state_repeats_itself(model, make_frames, label_space):
    frames = make_frames(6)
    assert _segment(model, frames, label_space) == _segment(model, frames, label_space)


def test_vis_finds_nothing_above_an_unreachable_threshold(model, make_frames, label_space):
    result = _segment(model, make_frames(4), label_space, replace(CONFIG, class_threshold=1.0))
    assert result.tracks == ()


def test_final_scores_discount_entities_seen_in_few_clips():
    probabilities = torch.tensor([0.8, 0.4])
    often = EntitySummary(entity_id=0, class_probabilities=probabilities, quality_sum=8.0, num_masks=10)
    rarely = EntitySummary(entity_id=1, class_probabilities=probabilities, quality_sum=2.0, num_masks=2)
    expected = torch.tensor([[0.64, 0.32], [0.16, 0.08]])
    assert torch.allclose(final_scores((often, rarely)), expected)


def test_ranked_classes_reports_every_probable_class_best_first():
    probabilities = torch.tensor([[0.5, 0.001, 0.2], [0.3, 0.01, 0.0]])
    scores = probabilities * torch.tensor([[0.5], [1.0]])
    assert ranked_classes(probabilities, scores, 10) == [(1, 0), (0, 0), (0, 2), (1, 1)]
    # three likely ones allow int(4.5) results, however small the limit is
    assert len(ranked_classes(probabilities, scores, 1)) == 4
    assert len(ranked_classes(probabilities / 10, scores, 1)) == 1


def test_vis_runs_in_bfloat16(model, make_frames, label_space):
    result = _segment(model, make_frames(5), label_space, replace(CONFIG, autocast_bfloat16=True))
    assert result.tracks
