import gc
from dataclasses import replace

import numpy as np
import pytest
import torch

from univs.inference.config import vos_defaults
from univs.inference.frames import VideoInput
from univs.inference.given import FirstMask
from univs.inference.vos import segment_vos

CONFIG = replace(
    vos_defaults(),
    frames_per_clip=3,
    short_edge_px=64,
    memory_frames=2,
    overlap_threshold=0.0,
    consistency_threshold=0.0,
)


def _generator(seed=0):
    return torch.Generator().manual_seed(seed)


def _first(frame_index, top, bottom, left, right):
    mask = np.zeros((64, 96), dtype=bool)
    mask[top:bottom, left:right] = True
    return FirstMask(frame_index=frame_index, mask=mask)


@pytest.fixture(scope="module")
def objects():
    return {"4": _first(0, 8, 32, 8, 32), "2": _first(3, 40, 56, 60, 76)}


@pytest.fixture(scope="module")
def result(model, make_frames, objects):
    names = tuple(f"f{index}" for index in range(7))
    video = VideoInput(video_id="judo", frames=make_frames(7), frame_names=names)
    return segment_vos(model, video, objects, CONFIG, _generator())


def test_vos_result_carries_ids_names_and_original_size(result):
    assert result.video_id == "judo"
    assert result.object_ids == ("4", "2")
    assert result.frame_names == ("f0", "f1", "f2", "f3", "f4", "f5", "f6")
    assert result.masks.shape == (2, 7, 64, 96)


def test_vos_predicts_beyond_the_given_frames(result):
    assert result.masks[0, 1:].any()
    assert result.masks[1, 4:].any()


def test_vos_keeps_given_masks_and_gives_no_pixel_twice(result, objects):
    assert (result.masks[0, 0] == objects["4"].mask).all()
    assert (result.masks[1, 3] == objects["2"].mask).all()
    assert result.masks.sum(0).max() == 1


def test_vos_late_object_is_not_drawn_before_it_appears(result):
    assert not result.masks[1, :3].any()


def test_vos_with_the_same_generator_state_repeats_itself(model, make_frames, objects, result):
    video = VideoInput(video_id="judo", frames=make_frames(7))
    again = segment_vos(model, video, objects, CONFIG, _generator())
    assert (again.masks == result.masks).all()


def test_vos_of_permuted_objects_is_permuted(model, make_frames):
    # 6 and 4 cells: divisors of the 24 tokens per object, so that all draws give the same multiset
    objects = {"a": _first(0, 8, 24, 8, 32), "b": _first(1, 40, 56, 64, 80)}
    video = VideoInput(video_id="v", frames=make_frames(3))
    one = segment_vos(model, video, objects, CONFIG, _generator())
    other = segment_vos(model, video, {"b": objects["b"], "a": objects["a"]}, CONFIG, _generator(5))
    assert other.object_ids == ("b", "a")
    assert one.masks[:, 1:].any()
    assert (one.masks != other.masks[::-1]).mean() < 1e-3


def test_vos_of_one_frame_returns_the_given_mask(model, make_frames, objects):
    video = VideoInput(video_id="v", frames=make_frames(1))
    result = segment_vos(model, video, {"1": objects["4"]}, CONFIG)
    assert (result.masks[0, 0] == objects["4"].mask).all()


def test_vos_without_overlap_of_clips_finishes_every_frame(model, make_frames, objects):
    config = replace(CONFIG, clip_stride=3)
    result = segment_vos(
        model, VideoInput(video_id="v", frames=make_frames(7)), objects, config, _generator()
    )
    assert result.masks[0, [1, 2]].any()
    assert result.masks.sum(0).max() == 1


def test_vos_resizes_masks_to_the_original_size(model, make_frames):
    frames = make_frames(2).repeat(2, axis=1).repeat(2, axis=2)
    mask = np.zeros((128, 192), dtype=bool)
    mask[16:64, 16:64] = True
    video = VideoInput(video_id="v", frames=frames)
    result = segment_vos(model, video, {"1": FirstMask(frame_index=0, mask=mask)}, CONFIG, _generator())
    assert result.masks.shape == (1, 2, 128, 192)


def test_vos_refuses_an_empty_first_mask(model, make_frames):
    video = VideoInput(video_id="v", frames=make_frames(2))
    with pytest.raises(ValueError, match="object '1'"):
        segment_vos(model, video, {"1": _first(0, 0, 0, 0, 0)}, CONFIG)


def test_vos_refuses_a_mask_of_another_size(model, make_frames):
    video = VideoInput(video_id="v", frames=make_frames(2))
    first = FirstMask(frame_index=0, mask=np.ones((32, 96), dtype=bool))
    with pytest.raises(ValueError, match="mask has shape"):
        segment_vos(model, video, {"1": first}, CONFIG)


def test_vos_memory_does_not_grow_with_the_video(model, make_frames, objects):
    class Watched:
        """Frames that note, when read, how many bytes of tensors are alive."""

        def __init__(self):
            self.frames = make_frames(40)
            self.live_bytes = []

        def __len__(self):
            return len(self.frames)

        def __getitem__(self, index):
            if index in (10, 39):
                tensors = [value for value in gc.get_objects() if type(value) is torch.Tensor]
                self.live_bytes.append(sum(value.untyped_storage().nbytes() for value in tensors))
            return self.frames[index]

    source = Watched()
    segment_vos(model, VideoInput(video_id="v", frames=source), objects, CONFIG, _generator())
    early, late = source.live_bytes
    assert late <= 1.02 * early


def test_vos_in_bfloat16_stays_close_to_float32(model, make_frames, objects, result):
    video = VideoInput(video_id="v", frames=make_frames(7))
    config = replace(CONFIG, autocast_bfloat16=True)
    rounded = segment_vos(model, video, objects, config, _generator())
    assert (rounded.masks != result.masks).mean() < 0.1
