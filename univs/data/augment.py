"""Drawing the augmentation of a clip: one set of parameters for all its frames and masks.

On video all frames share one window and none is turned. Over a still image the window drifts and turns
steadily, which is the motion of a pseudo-clip.

The size of a clip is drawn apart from the rest and follows from the source's size alone, so every rank
knows the sizes of all clips of a step, and hence the padded size, from the index.
"""

import re
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from univs.data.view import ClipView, Window, output_size


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentConfig:
    """Strength of the training augmentation."""

    short_edges_px: tuple[int, ...] = (512, 544, 576, 608, 640, 672, 704, 736, 768, 800)
    """Short edge of the output, one drawn per clip."""
    max_long_edge_px: int = 1333
    jitter_canvas_px: int = 0
    """Large-scale jitter: side of the square every clip is cut or padded to; 0 takes ``short_edges_px``."""
    jitter_scale: tuple[float, float] = (0.25, 4.0)
    """Scale of large-scale jitter; at 1 the source just fits the square."""
    flip_probability: float = 0.5
    """Of a horizontal flip."""
    crop_probability: float = 0.5
    """Of a crop before the resize; large-scale jitter crops by itself."""
    crop_min_fraction: float = 0.5
    """Smallest side of a crop, as a fraction of the source side."""
    crop_px: tuple[int, int] = (0, 0)
    """Smallest and largest side of a crop in pixels, in place of the fraction where not 0."""
    crop_short_edges_px: tuple[int, ...] = (400, 500, 600)
    """Short edge of the source on whose scale ``crop_px`` is measured, one drawn per clip."""
    brightness: float = 0.2
    """Largest relative change; likewise below."""
    contrast: float = 0.2
    saturation: float = 0.2
    rotation_degrees: float = 0.0
    """Largest turn of a pseudo-clip, to either side."""
    pseudo_motion: bool = True
    """Whether the window drifts over a pseudo-clip, and the turn changes."""
    motion_shift: float = 0.25
    """Largest drift over the clip, as a fraction of the window."""
    motion_zoom: float = 0.25
    """Largest relative change of the window's size over the clip."""

    def __post_init__(self) -> None:
        """Refuse values that leave no picture."""
        _check_sizes(self)
        if not 0 < self.crop_min_fraction <= 1:
            raise ValueError(f"crop_min_fraction must be in (0, 1], got {self.crop_min_fraction}")
        for name in ("flip_probability", "crop_probability"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be in [0, 1], got {getattr(self, name)}")
        for name in ("brightness", "contrast", "saturation", "motion_shift", "motion_zoom"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if not 0 <= self.rotation_degrees <= 45:
            raise ValueError(f"rotation_degrees must be in [0, 45], got {self.rotation_degrees}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Framing:
    """Sizes of a clip, before anything is placed."""

    crop_height: int
    crop_width: int
    """Size of the window of the source."""
    height: int
    width: int
    """Output size."""
    canvas: tuple[int, int]
    """Height and width that the batch must have at least."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Anchor:
    """The part of one object that a crop must keep."""

    box: Window
    pixel: tuple[int, int]
    """x, y of a pixel of the object."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """What a view is drawn for."""

    height: int
    width: int
    num_frames: int
    is_pseudo_clip: bool
    anchor: Anchor | None
    """``None`` when the clip shows no object."""
    is_reducible: bool = False
    """Whether frames can be decoded smaller at less cost (JPEG)."""


def draw_framing(
    config: AugmentConfig, size: tuple[int, int], generator: np.random.Generator, *, is_moving: bool
) -> Framing:
    """Draw the sizes of a clip from the height and width of its source; a window that drifts is cropped."""
    height, width = size
    if config.jitter_canvas_px:
        return _jitter(config, height, width, generator)
    crop_height, crop_width = height, width
    if generator.random() < config.crop_probability or is_moving:
        crop_height, crop_width = _draw_crop_size(config, height, width, generator)
    short_edge_px = int(generator.choice(config.short_edges_px))
    out = output_size(crop_height, crop_width, short_edge_px, config.max_long_edge_px)
    return Framing(crop_height=crop_height, crop_width=crop_width, height=out[0], width=out[1], canvas=out)


def shrink_framing(framing: Framing, canvas: tuple[int, int]) -> Framing:
    """Make a clip small enough for a padded size that was planned for another one."""
    share = min(1.0, canvas[0] / framing.height, canvas[1] / framing.width)
    size = (max(1, int(framing.height * share)), max(1, int(framing.width * share)))
    return Framing(
        crop_height=framing.crop_height,
        crop_width=framing.crop_width,
        height=size[0],
        width=size[1],
        canvas=canvas,
    )


def draw_view(
    config: AugmentConfig, source: Source, framing: Framing, generator: np.random.Generator
) -> ClipView:
    """Draw where the window lies, how it moves, and everything else of one clip."""
    pivot = (
        source.width * float(generator.uniform(0.4, 0.6)),
        source.height * float(generator.uniform(0.4, 0.6)),
    )
    angles = _draw_angles(config, source, generator)
    # The window holds the anchor where its path begins, which is the clip's end if it moves backward.
    moves, is_backward = is_moving(config, source), bool(generator.random() < 0.5)
    turned = (
        _turn_anchor(source, pivot, angles[-1 if moves and is_backward else 0]) if angles else source.anchor
    )
    window = _place_window(source, framing, turned, generator)
    windows = _drift(config, source, window, generator) if moves else (window,) * source.num_frames
    windows = tuple(reversed(windows)) if is_backward else windows
    scale = _decode_scale(windows, framing) if source.is_reducible else 1
    return ClipView(
        windows=windows if angles else tuple(_snap(window, scale, source) for window in windows),
        height=framing.height,
        width=framing.width,
        scale=scale,
        angles=angles,
        pivot=pivot,
        is_flipped=bool(generator.random() < config.flip_probability),
        brightness=1 + config.brightness * generator.uniform(-1, 1),
        contrast=1 + config.contrast * generator.uniform(-1, 1),
        saturation=1 + config.saturation * generator.uniform(-1, 1),
    )


def is_moving(config: AugmentConfig, source: Source) -> bool:
    """Say whether the window of a clip drifts."""
    return config.pseudo_motion and source.is_pseudo_clip and source.num_frames > 1


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


def _check_sizes(config: AugmentConfig) -> None:
    for name in ("short_edges_px", "crop_short_edges_px"):
        edges = getattr(config, name)
        if not edges or min(edges) < 1:
            raise ValueError(f"{name} must name positive sizes, got {edges}")
    if config.max_long_edge_px < max(config.short_edges_px):
        raise ValueError(
            f"max_long_edge_px {config.max_long_edge_px} is below short edge {max(config.short_edges_px)}"
        )
    if not 0 < config.jitter_scale[0] <= config.jitter_scale[1]:
        raise ValueError(f"jitter_scale must be ascending and positive, got {config.jitter_scale}")
    if not 0 <= config.crop_px[0] <= config.crop_px[1]:
        raise ValueError(f"crop_px must be ascending, got {config.crop_px}")
    if config.jitter_canvas_px < 0:
        raise ValueError(f"jitter_canvas_px must not be negative, got {config.jitter_canvas_px}")


def _jitter(config: AugmentConfig, height: int, width: int, generator: np.random.Generator) -> Framing:
    """Scale the source, then cut it to the square; what is smaller is padded.

    The scale is uniform, and 1 means that the source just fits (detectron2's ResizeScale).
    """
    side = config.jitter_canvas_px
    zoom = generator.uniform(*config.jitter_scale) * side / max(height, width)
    crop, size = [], []
    for length in (height, width):
        crop.append(max(1, min(length, round(side / zoom))))
        size.append(side if crop[-1] < length else max(1, min(side, round(length * zoom))))
    return Framing(
        crop_height=crop[0], crop_width=crop[1], height=size[0], width=size[1], canvas=(side, side)
    )


def _draw_crop_size(
    config: AugmentConfig, height: int, width: int, generator: np.random.Generator
) -> tuple[int, int]:
    if not config.crop_px[1]:
        fractions = generator.uniform(config.crop_min_fraction, 1, size=2)
        return max(1, round(height * fractions[0])), max(1, round(width * fractions[1]))
    zoom = int(generator.choice(config.crop_short_edges_px)) / min(height, width)
    low, high = config.crop_px
    sides = []
    for length in (height, width):
        zoomed = round(length * zoom)
        side = int(generator.integers(min(low, zoomed), min(high, zoomed), endpoint=True))
        sides.append(min(length, max(1, round(side / zoom))))
    return sides[0], sides[1]


def _draw_angles(config: AugmentConfig, source: Source, generator: np.random.Generator) -> tuple[float, ...]:
    first, last = (float(a) for a in config.rotation_degrees * generator.uniform(-1, 1, size=2))
    if not (config.rotation_degrees and source.is_pseudo_clip):
        return ()
    if not config.pseudo_motion:
        last = first
    return tuple(float(angle) for angle in np.linspace(first, last, source.num_frames))


def _turn_anchor(source: Source, pivot: tuple[float, float], angle: float) -> Anchor | None:
    """Turn an anchor with the source; ``None`` if its pixel leaves the source."""
    if source.anchor is None:
        return None
    box, (x, y) = source.anchor.box, source.anchor.pixel
    xs, ys = (box.left, box.left + box.width), (box.top, box.top + box.height)
    points = np.array([(x + 0.5, y + 0.5), *((px, py) for px in xs for py in ys)])
    turn = cv2.getRotationMatrix2D(pivot, angle, 1.0)
    (px, py), *corners = points @ turn[:, :2].T + turn[:, 2]
    if not (0 <= px < source.width and 0 <= py < source.height):
        return None
    left, top = np.floor(np.min(corners, axis=0)).clip(0).astype(int).tolist()
    limit = (source.width, source.height)
    right, bottom = np.minimum(np.ceil(np.max(corners, axis=0)), limit).astype(int).tolist()
    turned = Window(left=left, top=top, width=right - left, height=bottom - top)
    return Anchor(box=turned, pixel=(int(px), int(py)))


def _place_window(
    source: Source, framing: Framing, anchor: Anchor | None, generator: np.random.Generator
) -> Window:
    """Draw a window uniformly among those that keep the anchor."""
    width, height = framing.crop_width, framing.crop_height
    columns, rows = (0, source.width - width), (0, source.height - height)
    if anchor is not None:
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
    """Move a window steadily over the source, never leaving it."""
    zoom = 1 + config.motion_zoom * generator.uniform(-1, 1)
    zoom = min(zoom, source.width / first.width, source.height / first.height)
    end_width, end_height = first.width * zoom, first.height * zoom
    shift_x, shift_y = config.motion_shift * generator.uniform(-1, 1, size=2)
    end_left = np.clip(first.left + shift_x * first.width, 0, source.width - end_width)
    end_top = np.clip(first.top + shift_y * first.height, 0, source.height - end_height)
    start = np.array([first.left, first.top, first.width, first.height], dtype=float)
    path = np.linspace(start, [end_left, end_top, end_width, end_height], source.num_frames)
    return tuple(_whole_window(row, source) for row in path)


def _whole_window(row: NDArray[np.float64], source: Source) -> Window:
    left, top, width, height = (int(value) for value in np.rint(row))
    width, height = max(1, min(width, source.width)), max(1, min(height, source.height))
    return Window(
        left=min(left, source.width - width), top=min(top, source.height - height), width=width, height=height
    )


def _decode_scale(windows: tuple[Window, ...], framing: Framing) -> int:
    """Give the largest reduction that leaves every window at least the output's size."""
    for scale in (8, 4, 2):
        if all(w.width >= scale * framing.width and w.height >= scale * framing.height for w in windows):
            return scale
    return 1


def _snap(window: Window, scale: int, source: Source) -> Window:
    """Widen a window to whole pixels of the reduced source, as far as it has whole ones."""
    left, top = window.left // scale, window.top // scale
    right = min(-(-(window.left + window.width) // scale), source.width // scale)
    bottom = min(-(-(window.top + window.height) // scale), source.height // scale)
    return Window(
        left=left * scale, top=top * scale, width=(right - left) * scale, height=(bottom - top) * scale
    )
