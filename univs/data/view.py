"""The drawn geometry and color of one clip, applied to its frames and masks.

Each frame of a clip shows one window of the source, perhaps turned about a point, resized to the common
output size and perhaps mirrored. Frames and masks go through the same geometry, so they stay aligned.

A frame may be decoded smaller by a whole factor, ``scale``: its pixel k then covers source pixels
k * scale .. (k + 1) * scale - 1, and a window covers whole ones of these.

Legend: T frames, S source frames, M masks of each, H W source size, h w output size, in pixels; P planes of
eight masks each.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from univs.data.runs import Grid, Toggles, num_planes, paint, row_bytes

FILL_RGB = (124, 116, 104)
"""Color beyond the borders of the source: the mean, which normalization turns to zero."""
_LUMINANCE = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601 weights of red, green and blue."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A rectangle of the source, in whole pixels."""

    left: int
    top: int
    width: int
    height: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipView:
    """The drawn parameters of one clip; factor 1 leaves a color property as it is."""

    windows: tuple[Window, ...]
    """T rectangles of the source."""
    height: int
    width: int
    """Output size."""
    scale: int = 1
    """Factor by which frames are decoded smaller: 1, 2, 4 or 8."""
    angles: tuple[float, ...] = ()
    """T degrees by which the source is turned counterclockwise before the window; empty for none."""
    pivot: tuple[float, float] = (0.0, 0.0)
    """x, y in source pixels about which it turns."""
    is_flipped: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    def matrix(self, index: int) -> NDArray[np.float64]:
        """Give the map [2, 3] from source to output points; pixel (x, y) has its center at x + .5, y + .5."""
        window = self.windows[index]
        turn = np.vstack([cv2.getRotationMatrix2D(self.pivot, self._angle(index), 1.0), [0, 0, 1]])
        zoom_x, zoom_y = self.width / window.width, self.height / window.height
        fit = np.array([[zoom_x, 0, -zoom_x * window.left], [0, zoom_y, -zoom_y * window.top], [0, 0, 1]])
        mirror = np.array([[-1.0, 0, self.width], [0, 1, 0], [0, 0, 1]]) if self.is_flipped else np.eye(3)
        return np.asarray((mirror @ fit @ turn)[:2])

    def warp_frame(
        self, frame: NDArray[np.uint8], index: int, out: NDArray[np.uint8] | None = None
    ) -> NDArray[np.uint8]:
        """Turn a source frame, decoded ``scale`` times smaller, into frame ``index`` of the clip, [h, w, 3].

        Args:
            frame: [ceil(H / scale), ceil(W / scale), 3].
            index: which frame of the clip.
            out: where to write; a new array if not given.
        """
        place = np.empty((self.height, self.width, 3), dtype=np.uint8) if out is None else out
        size = (self.width, self.height)
        if self.angles:
            cv2.warpAffine(frame, self._center_matrix(index), size, dst=place, borderValue=FILL_RGB)
            return place
        part = _part(frame, self.windows[index], self.scale)
        method = cv2.INTER_AREA if part.shape[0] >= 2 * self.height else cv2.INTER_LINEAR
        if self.is_flipped:
            cv2.flip(cv2.resize(part, size, interpolation=method), 1, dst=place)
        else:
            cv2.resize(part, size, dst=place, interpolation=method)
        return place

    def warp_masks(self, masks: Toggles, sources: Sequence[int], planes: NDArray[np.uint8]) -> None:
        """Paint masks of S source frames as the T frames of the clip over planes [P, T, >= h, >= w].

        A painted pixel takes the value of the source pixel under its center; what is not painted is zero.

        Args:
            masks: S * M masks.
            sources: which source frame each frame of the clip shows.
            planes: eight of the M masks each.
        """
        num_masks = masks.num_masks // (max(sources) + 1)
        parts = [masks.part(i * num_masks, (i + 1) * num_masks) for i in range(max(sources) + 1)]
        if self.angles:
            planes[:] = 0
            turned = [self._paint_whole(part) for part in parts]
            for time, source in enumerate(sources):
                self._turn(turned[source], time, planes[:, time])
        elif len(set(self.windows)) == 1 and len(parts) == len(sources):
            paint(masks, self._grid(0), planes)
        else:
            for time, source in enumerate(sources):
                paint(parts[source], self._grid(time), planes[:, time : time + 1])

    def outside(self, index: int, height: int, width: int) -> NDArray[np.bool_] | None:
        """Give the output pixels [h, w] that show nothing of a source of this size; ``None`` if all do."""
        if not self.angles:
            return None
        small = np.full((height // self.scale, width // self.scale), 255, dtype=np.uint8)
        shown = cv2.warpAffine(small, self._center_matrix(index), (self.width, self.height))
        return np.asarray(shown < 255)

    @property
    def color(self) -> NDArray[np.float32]:
        """Brightness, contrast about the middle gray and saturation about the luminance as one map [3, 4]."""
        gray = np.tile(_LUMINANCE, (3, 1))
        mix = self.saturation * np.eye(3) + (1 - self.saturation) * gray
        offset = np.full((3, 1), 128 * (1 - self.contrast))
        return np.hstack([self.contrast * self.brightness * mix, offset]).astype(np.float32)

    def _angle(self, index: int) -> float:
        return self.angles[index] if self.angles else 0.0

    def _center_matrix(self, index: int) -> NDArray[np.float64]:
        """Map pixel numbers of the source as decoded to pixel numbers of the output."""
        matrix = self.matrix(index)
        linear = matrix[:, :2] * self.scale
        return np.column_stack([linear, linear @ [0.5, 0.5] + matrix[:, 2] - 0.5])

    def _paint_whole(self, masks: Toggles) -> NDArray[np.uint8]:
        """Paint masks at the size frames are decoded at: [P, H / scale, W / scale]."""
        height, width = masks.height // self.scale, masks.width // self.scale
        planes = np.empty((num_planes(masks.num_masks), 1, height, row_bytes(width)), dtype=np.uint8)
        paint(masks, Grid.whole(masks.height, masks.width, self.scale), planes)
        return np.ascontiguousarray(planes[:, 0, :, :width])

    def _turn(self, source: NDArray[np.uint8], index: int, planes: NDArray[np.uint8]) -> None:
        """Place planes of the whole source [P, H / scale, W / scale] into planes [P, >= h, >= w]."""
        for plane, place in zip(source, planes[:, : self.height, : self.width], strict=True):
            size = (self.width, self.height)
            cv2.warpAffine(plane, self._center_matrix(index), size, dst=place, flags=cv2.INTER_NEAREST)

    def _grid(self, index: int) -> Grid:
        window = self.windows[index]
        return Grid(
            rows=window.top + _sampled(self.height, window.height),
            columns=window.left + _sampled(self.width, window.width),
            is_flipped=self.is_flipped,
        )


def output_size(height: int, width: int, short_edge_px: int, max_long_edge_px: int) -> tuple[int, int]:
    """Scale a size so that its short edge is as asked, unless the long edge would pass its limit."""
    scale = min(short_edge_px / min(height, width), max_long_edge_px / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _part(frame: NDArray[np.uint8], window: Window, scale: int) -> NDArray[np.uint8]:
    left, top, width, height = (
        value // scale for value in (window.left, window.top, window.width, window.height)
    )
    return frame[top : top + height, left : left + width]


def _sampled(length: int, source: int) -> NDArray[np.int64]:
    """Give the source pixel under the center of each of ``length`` pixels, exactly."""
    return (2 * np.arange(length, dtype=np.int64) + 1) * source // (2 * length)
