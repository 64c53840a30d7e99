"""The clip loop under every task: overlapping clips over a video of any length."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from univs.inference.config import InferenceConfig
from univs.inference.features import FeatureCache
from univs.inference.frames import Geometry, VideoInput
from univs.model.types import Features
from univs.model.univs import UniVS


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipRange:
    """Which frames a clip covers; all bounds are positions in the video, stops exclusive."""

    start: int
    stop: int
    overlap_stop: int
    """Frames start..overlap_stop-1 were already in the clip before."""
    finished_stop: int
    """Frames start..finished_stop-1 are in no later clip."""
    is_last: bool

    @property
    def num_frames(self) -> int:
        """Frames in the clip."""
        return self.stop - self.start

    @property
    def num_finished(self) -> int:
        """Frames that leave the window after this clip."""
        return self.finished_stop - self.start


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """One clip ready for the decoder."""

    range: ClipRange
    features: Features


def clip_ranges(num_frames: int, frames_per_clip: int, clip_stride: int) -> Iterator[ClipRange]:
    """Start clips at 0, stride, 2 stride, ... until one reaches the last frame.

    The last clip may be shorter than the others, and is the only one of a short video.
    """
    start, previous_stop = 0, 0
    while previous_stop < num_frames:
        stop = min(start + frames_per_clip, num_frames)
        is_last = stop == num_frames
        yield ClipRange(
            start=start,
            stop=stop,
            overlap_stop=max(start, previous_stop),
            finished_stop=stop if is_last else start + clip_stride,
            is_last=is_last,
        )
        start, previous_stop = start + clip_stride, stop


class ClipStream:
    """The clips of one video with their features; holds one clip at a time."""

    def __init__(self, model: UniVS, video: VideoInput, config: InferenceConfig) -> None:
        self._cache = FeatureCache(model, video, config)
        self._config = config
        self._num_frames = video.num_frames

    @property
    def geometry(self) -> Geometry:
        """Sizes of the frames before and after resizing."""
        return self._cache.geometry

    def __iter__(self) -> Iterator[Clip]:
        config = self._config
        for clip in clip_ranges(self._num_frames, config.frames_per_clip, config.clip_stride):
            yield Clip(range=clip, features=self._cache.clip(clip.start, clip.stop))


@contextmanager
def inference_on(model: UniVS, config: InferenceConfig) -> Iterator[torch.device]:
    """Run the model in evaluation mode, without gradients, optionally in bfloat16; give its device."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    try:
        with (
            torch.inference_mode(),
            torch.autocast(device.type, dtype=torch.bfloat16, enabled=config.autocast_bfloat16),
        ):
            yield device
    finally:
        model.train(was_training)
