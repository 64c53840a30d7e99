"""Pixels of the stuff of a miniature world: two muted textures, a wavy border, a slow pan.

Legend: T frames, H x W pixels of a frame, h x w pixels of the canvas the camera pans over.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from preprocessing.worlds.plans import CLASS_NAMES, BackgroundPlan, WorldConfig

Image = NDArray[np.float32]


def paint_background(
    plan: BackgroundPlan, config: WorldConfig, rng: np.random.Generator
) -> tuple[Image, NDArray[np.bool_]]:
    """Paint the stuff of all frames.

    Returns:
        Colors [T, H, W, 3] in 0..255, and where the first of the two regions is [T, H, W].
    """
    margin = math.ceil(max(abs(plan.pan_px[0]), abs(plan.pan_px[1])) / 2) + 2
    height, width = config.height + 2 * margin, config.width + 2 * margin
    border = _border_distance(plan, height, width, min(config.height, config.width))
    share = np.clip(0.5 - border, 0, 1)[..., None]
    first, second = (_texture(rng, index, height, width) for index in plan.class_indices)
    canvas = first * plan.brightness[0] * share + second * plan.brightness[1] * (1 - share)
    views = [_view(canvas, border, plan, config, frame) for frame in range(config.num_frames)]
    return np.stack([colors for colors, _ in views]), np.stack([distance < 0 for _, distance in views])


def _view(
    canvas: Image, border: Image, plan: BackgroundPlan, config: WorldConfig, frame: int
) -> tuple[Image, Image]:
    """Cut what the camera sees in one frame, at sub-pixel precision."""
    elapsed = frame / max(config.num_frames - 1, 1) - 0.5
    height, width = border.shape
    center = ((width - 1) / 2 + plan.pan_px[0] * elapsed, (height - 1) / 2 + plan.pan_px[1] * elapsed)
    size = (config.width, config.height)
    colors, distance = (cv2.getRectSubPix(source, size, center) for source in (canvas, border))
    return np.asarray(colors, dtype=np.float32), np.asarray(distance, dtype=np.float32)


def _border_distance(plan: BackgroundPlan, height: int, width: int, short_px: int) -> Image:
    """Signed distance [h, w] to the border, negative in the first region."""
    y = np.arange(height, dtype=np.float32)[:, None] - (height - 1) / 2
    x = np.arange(width, dtype=np.float32)[None] - (width - 1) / 2
    cosine, sine = math.cos(plan.border_angle), math.sin(plan.border_angle)
    across, along = x * cosine + y * sine, y * cosine - x * sine
    waves = zip(plan.wave_heights_px, plan.wave_lengths_px, plan.wave_phases, strict=True)
    shift = sum(tall * np.sin(along * (2 * math.pi / long) + phase) for tall, long, phase in waves)
    return (across - plan.border_offset * short_px - shift).astype(np.float32)


def _texture(rng: np.random.Generator, class_index: int, height: int, width: int) -> Image:
    """Paint one stuff class [h, w, 3]; every call is another piece of it."""
    name = CLASS_NAMES[class_index]
    clouds = _noise(rng, height, width, 10.0, 10.0)
    if name == "grass":
        blades = _noise(rng, height, width, 0.7, 2.6)
        return _tinted((92, 116, 66), blades * 15 + clouds * 7, (0.9, 1.0, 0.7))
    if name == "sand":
        grain = _noise(rng, height, width, 0.6, 0.6)
        rows = np.arange(height, dtype=np.float32)[:, None]
        ripples = np.sin((rows + 5 * clouds) * (2 * math.pi / 9))
        return _tinted((198, 176, 136), grain * 7 + ripples * 7, (1.0, 1.0, 0.9))
    streaks = _noise(rng, height, width, 7.0, 1.1)
    glints = np.maximum(streaks - 1.4, 0) * 30
    return _tinted((86, 116, 142), streaks * 9 + clouds * 6 + glints, (0.9, 1.0, 1.1))


def _noise(rng: np.random.Generator, height: int, width: int, sigma_x: float, sigma_y: float) -> Image:
    """Smooth noise [h, w] of zero mean and unit deviation."""
    white = rng.standard_normal((height, width), dtype=np.float32)
    smooth = cv2.GaussianBlur(white, (0, 0), sigmaX=sigma_x, sigmaY=sigma_y)
    return np.asarray((smooth - smooth.mean()) / smooth.std(), dtype=np.float32)


def _tinted(base: tuple[int, int, int], tone: Image, tint: tuple[float, float, float]) -> Image:
    return np.array(base, dtype=np.float32) + tone[..., None] * np.array(tint, dtype=np.float32)
