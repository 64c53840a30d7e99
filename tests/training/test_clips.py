import pytest
import torch

from univs.model.types import Features
from univs.training.clips import cut_clips, slice_features


@pytest.mark.parametrize(
    ("num_frames", "frames_per_clip", "clips"),
    [
        (1, 5, [(0, 1)]),
        (5, 5, [(0, 5)]),
        (7, 5, [(0, 5), (2, 7)]),
        (6, 5, [(0, 5), (1, 6)]),
        (9, 5, [(0, 5), (4, 9)]),
        (10, 5, [(0, 5), (4, 9), (5, 10)]),
        (3, 2, [(0, 2), (1, 3)]),
        (3, 1, [(0, 1), (1, 2), (2, 3)]),
    ],
)
def test_cut_clips_overlap_by_a_frame_and_end_with_the_video(num_frames, frames_per_clip, clips):
    assert cut_clips(num_frames, frames_per_clip) == clips


def test_slice_features_keeps_the_frames_and_their_indices():
    maps = torch.arange(5.0)[None, :, None, None, None].expand(2, 5, 3, 4, 4)
    features = Features(levels=(maps, maps, maps), mask=maps, frame_indices=torch.arange(5).expand(2, -1) * 2)
    sliced = slice_features(features, 1, 3)
    assert sliced.frame_indices.tolist() == [[2, 4], [2, 4]]
    for part in (*sliced.levels, sliced.mask):
        assert torch.equal(part, maps[:, 1:3])
