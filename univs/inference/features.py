"""Image features of a sliding window of frames; every frame is encoded exactly once.

Legend: T frames, C channels.
"""

from collections import OrderedDict
from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from univs.inference.config import InferenceConfig
from univs.inference.frames import Geometry, VideoInput, plan_geometry, prepare_frame
from univs.model.types import Features
from univs.model.univs import UniVS


class FeatureCache:
    """A ring of encoded frames. Holds the frames of one clip, whatever the length of the video."""

    def __init__(self, model: UniVS, video: VideoInput, config: InferenceConfig) -> None:
        self._model = model
        self._video = video
        self._batch_frames = config.encode_batch_frames
        self._device = next(model.parameters()).device
        self._encoded: OrderedDict[int, Features] = OrderedDict()
        self._first: NDArray[np.uint8] | None = video.frames[0]
        height, width = self._first.shape[:2]
        self.geometry: Geometry = plan_geometry(height, width, config.short_edge_px, config.max_long_edge_px)

    def clip(self, start: int, stop: int) -> Features:
        """Give the features of frames start..stop-1, B = 1, and forget the frames before them."""
        for index in [index for index in self._encoded if index < start]:
            del self._encoded[index]
        for batch in self._missing(start, stop):
            self._encode(batch)
        return concatenate([self._encoded[index] for index in range(start, stop)])

    def _missing(self, start: int, stop: int) -> Iterator[list[int]]:
        missing = [index for index in range(start, stop) if index not in self._encoded]
        for offset in range(0, len(missing), self._batch_frames):
            yield missing[offset : offset + self._batch_frames]

    def _encode(self, indices: list[int]) -> None:
        pixels = torch.stack([prepare_frame(self._read(index), self.geometry) for index in indices])
        frame_indices = torch.tensor([indices], device=self._device)
        features = self._model.encode(pixels[None].to(self._device), frame_indices)
        for position, index in enumerate(indices):
            self._encoded[index] = take_frames(features, position, position + 1)

    def _read(self, index: int) -> NDArray[np.uint8]:
        if index == 0 and self._first is not None:
            frame, self._first = self._first, None
            return frame
        return self._video.frames[index]


def concatenate(parts: list[Features]) -> Features:
    """Join features along the frames."""
    coarse, middle, fine = (torch.cat([part.levels[level] for part in parts], dim=1) for level in range(3))
    return Features(
        levels=(coarse, middle, fine),
        mask=torch.cat([part.mask for part in parts], dim=1),
        frame_indices=torch.cat([part.frame_indices for part in parts], dim=1),
    )


def take_frames(features: Features, start: int, stop: int) -> Features:
    """Copy frames start..stop-1 out, so that the rest can be freed."""
    coarse, middle, fine = (level[:, start:stop].clone() for level in features.levels)
    return Features(
        levels=(coarse, middle, fine),
        mask=features.mask[:, start:stop].clone(),
        frame_indices=features.frame_indices[:, start:stop].clone(),
    )
