import numpy as np
import pytest
import torch

from univs.data.images import PIXEL_MEAN, PIXEL_STD
from univs.inference.frames import (
    VideoInput,
    plan_geometry,
    prepare_frame,
    prepare_mask,
    restore_logits,
    upsample_masks,
)


def test_plan_geometry_caps_the_long_edge_and_pads_to_32():
    geometry = plan_geometry(100, 400, 50, 150)
    assert geometry.resized == (38, 150)
    assert geometry.padded == (64, 160)
    assert geometry.quarter == (16, 40)


def test_prepare_frame_normalizes_then_pads_with_zeros():
    frame = np.full((40, 50, 3), 200, dtype=np.uint8)
    pixels = prepare_frame(frame, plan_geometry(40, 50, 40, 100))
    expected = (200 - torch.tensor(PIXEL_MEAN)) / torch.tensor(PIXEL_STD)
    assert pixels.shape == (3, 64, 64)
    assert torch.allclose(pixels[:, :40, :50], expected.view(3, 1, 1).expand(3, 40, 50))
    assert pixels[:, 40:].abs().max() == 0
    assert pixels[:, :, 50:].abs().max() == 0


def test_prepare_frame_of_another_size_is_refused():
    with pytest.raises(ValueError, match="one size"):
        prepare_frame(np.zeros((40, 51, 3), dtype=np.uint8), plan_geometry(40, 50, 40, 100))


@pytest.mark.parametrize("size", [(96, 128), (61, 97), (90, 120)])
def test_restored_logits_of_a_prepared_mask_cover_the_original(size):
    geometry = plan_geometry(*size, 64, 200)
    mask = np.zeros(size, dtype=bool)
    mask[10 : size[0] - 20, 15 : size[1] - 30] = True
    prepared = prepare_mask(mask, geometry)
    assert prepared.shape == geometry.padded
    assert not prepared[geometry.resized[0] :].any()
    logits = torch.nn.functional.avg_pool2d(prepared[None].float(), 4) * 2 - 1
    restored = (restore_logits(logits, geometry) > 0)[0].numpy()
    assert restored.shape == size
    assert (restored & mask).sum() / (restored | mask).sum() > 0.85


def test_prepare_mask_of_one_pixel_survives_shrinking():
    mask = np.zeros((200, 200), dtype=bool)
    mask[77, 133] = True
    prepared = prepare_mask(mask, plan_geometry(200, 200, 32, 100))
    rows, columns = prepared.nonzero(as_tuple=True)
    assert len(rows) >= 1
    assert abs(rows.float().mean() - 77 * 32 / 200) < 1.5
    assert abs(columns.float().mean() - 133 * 32 / 200) < 1.5


def test_upsample_masks_repeats_cells():
    masks = torch.tensor([[True, False], [False, True]])
    assert upsample_masks(masks)[0:4, 0:4].all()
    assert upsample_masks(masks).shape == (8, 8)
    assert not upsample_masks(masks)[0:4, 4:8].any()


def test_video_input_without_frames_is_refused():
    with pytest.raises(ValueError, match="no frames"):
        VideoInput(video_id="empty", frames=[])


def test_video_input_with_too_few_names_is_refused(make_frames):
    with pytest.raises(ValueError, match="1 frame names for 2"):
        VideoInput(video_id="v", frames=make_frames(2), frame_names=("a",))
