"""Augmentation of a clip: one set of parameters for all its frames and masks.

Everything geometric is one window of the source per frame, resized to the common output size and
perhaps mirrored. On video all frames share the window; over a still image it drifts, which is the motion
of a pseudo-clip. Frames and masks go through the same windows, so they stay aligned.

Legend: T frames, H W source size, h w output size, in pixels.
"""

import re
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """Strength of the training augmentation."""

    short_edges_px: tuple[int, ...] = (512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    """Short edge of the output, one drawn per clip."""
    max_long_edge_px: int = 1333
    flip_probability: float = 0.5
    """Of a horizontal flip."""
    crop_probability: float = 0.5
    crop_min_fraction: float = 0.5
    """Smallest side of a crop, as a fraction of the source side."""
    brightness: float = 0.2
    """Largest relative change; likewise below."""
    contrast: float = 0.2
    saturation: float = 0.2
    pseudo_motion: bool = True
    """Whether the window drifts over a pseudo-clip."""
    motion_shift: float = 0.25
    """Largest drift over the clip, as a fraction of the window."""
    motion_zoom: float = 0.25
    """Largest relative change of the window's size over the clip."""

    def __post_init__(self) -> None:
        """Refuse values that leave no picture."""
        if not self.short_edges_px or min(self.short_edges_px) < 1:
            raise ValueError(f"short_edges_px must name positive sizes, got {self.short_edges_px}")
        if self.max_long_edge_px < max(self.short_edges_px):
            raise ValueError(
                f"max_long_edge_px {self.max_long_edge_px} is below short edge {max(self.short_edges_px)}"
            )
        if not 0 < self.crop_min_fraction <= 1:
            raise ValueError(f"crop_min_fraction must be in (0, 1], got {self.crop_min_fraction}")
        for name in ("flip_probability", "crop_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("brightness", "contrast", "saturation", "motion_shift", "motion_zoom"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """A rectangle of the source, in whole pixels."""

    left: int
    top: int
    width: int
    height: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns of the rectangle in an array [H, W, ...]."""
        return slice(self.top, self.top + self.height), slice(self.left, self.left + self.width)


@dataclass(frozen=True, kw_only=True, slots=True)
class Anchor:
    """The part of one object that a crop must keep."""

    box: Window
    pixel: tuple[int, int]
    """x, y of a pixel of the object."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipView:
    """The drawn parameters of one clip; factor 1 leaves a color property as it is."""

    windows: tuple[Window, ...]
    """T rectangles of the source."""
    height: int
    width: int
    """Output size."""
    is_flipped: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    def warp_frame(self, frame: NDArray[np.uint8], index: int) -> NDArray[np.uint8]:
        """Turn source frame [H, W, 3] into frame ``index`` of the clip, [h, w, 3]."""
        part = frame[self.windows[index].slices]
        method = cv2.INTER_AREA if part.shape[0] > self.height else cv2.INTER_LINEAR
        resized = cv2.resize(part, (self.width, self.height), interpolation=method)
        flipped = cv2.flip(resized, 1) if self.is_flipped else resized
        return self._recolor(np.asarray(flipped, dtype=np.uint8))

    def warp_mask(self, mask: NDArray[np.bool_], index: int) -> NDArray[np.bool_]:
        """Turn source mask [H, W] into the mask of frame ``index``, [h, w]."""
        part = np.ascontiguousarray(mask[self.windows[index].slices]).view(np.uint8)
        resized = cv2.resize(part, (self.width, self.height), interpolation=cv2.INTER_NEAREST_EXACT)
        return np.asarray(resized[:, ::-1] if self.is_flipped else resized, dtype=np.uint8).view(bool)

    def _recolor(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if (self.brightness, self.contrast, self.saturation) == (1.0, 1.0, 1.0):
            return frame
        levels = (np.arange(256) * self.brightness - 128) * self.contrast + 128
        lit = cv2.LUT(frame, np.clip(np.rint(levels), 0, 255).astype(np.uint8))
        gray = cv2.cvtColor(cv2.cvtColor(lit, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
        mixed = cv2.addWeighted(lit, self.saturation, gray, 1 - self.saturation, 0)
        return np.asarray(mixed, dtype=np.uint8)


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What a view is drawn for."""

    height: int
    width: int
    num_frames: int
    is_pseudo_clip: bool
    anchor: Anchor | None
    """``None`` when the clip shows no object."""


def draw_view(config: AugmentConfig, source: Source, generator: np.random.Generator) -> ClipView:
    """Draw the training augmentation of one clip."""
    moves = config.pseudo_motion and source.is_pseudo_clip and source.num_frames > 1
    window = Window(left=0, top=0, width=source.width, height=source.height)
    if generator.random() < config.crop_probability or moves:
        window = _draw_crop(config, source, generator)
    windows = _drift(config, source, window, generator) if moves else (window,) * source.num_frames
    short_edge_px = int(generator.choice(config.short_edges_px))
    height, width = output_size(window.height, window.width, short_edge_px, config.max_long_edge_px)
    return ClipView(
        windows=windows,
        height=height,
        width=width,
        is_flipped=bool(generator.random() < config.flip_probability),
        brightness=1 + config.brightness * generator.uniform(-1, 1),
        contrast=1 + config.contrast * generator.uniform(-1, 1),
        saturation=1 + config.saturation * generator.uniform(-1, 1),
    )


def output_size(height: int, width: int, short_edge_px: int, max_long_edge_px: int) -> tuple[int, int]:
    """Scale a size so that its short edge is as asked, unless the long edge would pass its limit."""
    scale = min(short_edge_px / min(height, width), max_long_edge_px / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


_SIDE_WORD = re.compile(r"\b(left|right)(?=(?:most|wards?|hand)?\b)", re.IGNORECASE)


def swap_left_right(text: str) -> str:
    """Exchange the words left and right (also leftmost, leftward, left-hand), keeping their case.

    Words that merely contain the letters, such as bright or leftover, stay.
    """
    return _SIDE_WORD.sub(lambda match: _other_side(match.group()), text)


def _other_side(word: str) -> str:
    other = "right" if word.lower() == "left" else "left"
    if word.isupper():
        return other.upper()
    return other.capitalize() if word[0].isupper() else other


def _draw_crop(config: AugmentConfig, source: Source, generator: np.random.Generator) -> Window:
    """Draw a window uniformly among those that keep the anchor."""
    low = config.crop_min_fraction
    width = max(1, round(source.width * generator.uniform(low, 1)))
    height = max(1, round(source.height * generator.uniform(low, 1)))
    columns, rows = (0, source.width - width), (0, source.height - height)
    if (anchor := source.anchor) is not None:
        box, (x, y) = anchor.box, anchor.pixel
        columns = _legal_starts(width, source.width, (box.left, box.width), x)
        rows = _legal_starts(height, source.height, (box.top, box.height), y)
    left, top = (generator.integers(*bounds, endpoint=True) for bounds in (columns, rows))
    return Window(left=int(left), top=int(top), width=width, height=height)


def _legal_starts(length: int, limit: int, span: tuple[int, int], pixel: int) -> tuple[int, int]:
    """Bound the start of a window on one axis: hold the whole span, or the pixel where it is too long."""
    start, size = span
    if size <= length:
        return max(0, start + size - length), min(limit - length, start)
    return max(start, pixel - length + 1), min(start + size - length, pixel)


def _drift(
    config: AugmentConfig, source: Source, first: Window, generator: np.random.Generator
) -> tuple[Window, ...]:
    """Move a window steadily over the source, forward or backward in time, never leaving it."""
    zoom = 1 + config.motion_zoom * generator.uniform(-1, 1)
    zoom = min(zoom, source.width / first.width, source.height / first.height)
    end_width, end_height = first.width * zoom, first.height * zoom
    shift_x, shift_y = config.motion_shift * generator.uniform(-1, 1, size=2)
    end_left = np.clip(first.left + shift_x * first.width, 0, source.width - end_width)
    end_top = np.clip(first.top + shift_y * first.height, 0, source.height - end_height)
    start = np.array([first.left, first.top, first.width, first.height], dtype=float)
    path = np.linspace(start, [end_left, end_top, end_width, end_height], source.num_frames)
    windows = [_whole_window(row, source) for row in path]
    return tuple(reversed(windows) if generator.random() < 0.5 else windows)


def _whole_window(row: NDArray[np.float64], source: Source) -> Window:
    left, top, width, height = (int(value) for value in np.rint(row))
    width, height = max(1, min(width, source.width)), max(1, min(height, source.height))
    return Window(
        left=min(left, source.width - width), top=min(top, source.height - height), width=width, height=height
    )
