"""Pixels of the things of a miniature world: four shapes, each with its own family of texture.

Shapes are signed distances, so the mask (distance < 0) is exact while the painted edge is anti-aliased.
Legend: V frames the object is near, P side of the square patch around its center; ``u, v`` are the
object's own coordinates, about -1..1 inside it.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocessing.worlds.plans import THING_NAMES, ThingPlan, WorldConfig

Patch = NDArray[np.float32]

_SHADOW_PX = (2, 3)
_SHADOW_STRENGTH = 0.35
_SOFTNESS_PX = 5.0
_MARKS = {"square": (250.0, 250.0, 245.0), "triangle": (20.0, 20.0, 25.0), "cross": (125.0, 125.0, 125.0)}
"""Stripes are white, dots black and checkers gray, in an object of any color."""


@dataclass(frozen=True, slots=True)
class _Patches:
    """One object drawn in all frames it is near."""

    frames: NDArray[np.int64]
    """[V] frame indices"""
    corners: NDArray[np.int64]
    """[V, 2] (x, y) of the upper left pixel of the patch"""
    distance_px: Patch
    """[V, P, P] signed distance to the outline, negative inside"""
    colors: Patch
    """[V, P, P, 3]"""


def paint_thing(
    frames: Patch, ids: NDArray[np.int32], plan: ThingPlan, object_id: int, config: WorldConfig
) -> None:
    """Paint an object over what lies behind it, in place.

    Args:
        frames: [T, H, W, 3] colors in 0..255.
        ids: [T, H, W] object id per pixel.
        plan: The object.
        object_id: What to write to ``ids`` where the object is.
        config: Size of the world.
    """
    patches = _draw(plan, config)
    for position, frame in enumerate(patches.frames):
        distance, colors = patches.distance_px[position], patches.colors[position]
        x, y = (int(value) for value in patches.corners[position])
        _shade(frames[frame], distance, x + _SHADOW_PX[0], y + _SHADOW_PX[1])
        _cover(frames[frame], ids[frame], distance, colors, (x, y, object_id))


def _draw(plan: ThingPlan, config: WorldConfig) -> _Patches:
    """Draw shape and texture around the object's center."""
    centers, radii = plan.path.positions(config.num_frames), plan.sizes_px(config.num_frames) / 2
    side = 2 * math.ceil(1.5 * float(radii.max()) + _SOFTNESS_PX) + 1
    size = np.array([config.width, config.height])
    near = np.flatnonzero(((centers > -side / 2) & (centers < size + side / 2)).all(axis=1))
    corners = np.rint(centers[near]).astype(np.int64) - side // 2
    offset = (corners - centers[near]).astype(np.float32)[:, :, None] + np.arange(side, dtype=np.float32)
    x, y = offset[:, 0, None, :], offset[:, 1, :, None]
    radius = radii[near].astype(np.float32)[:, None, None]
    angle = plan.angles(config.num_frames)[near].astype(np.float32)[:, None, None]
    u: Patch = (x * np.cos(angle) + y * np.sin(angle)) / (radius * plan.aspect)
    v: Patch = np.asarray((y * np.cos(angle) - x * np.sin(angle)) / radius, dtype=np.float32)
    distance = _distance(plan, u, v) * radius
    rim: Patch = np.clip(1 + distance / 2, 0, 1)
    light = (1 - 0.14 * (x + y) / radius) * (1 - 0.3 * rim)
    colors: Patch = _colors(plan, _tone(plan, u, v)) * light[..., None]
    return _Patches(frames=near, corners=corners, distance_px=distance, colors=colors)


def _distance(plan: ThingPlan, u: Patch, v: Patch) -> Patch:
    """Signed distance to the outline in object radii, [V, P, P]."""
    name = THING_NAMES[plan.class_index]
    if name == "disc":
        return _from_center(u, v) - 1
    if name == "square":
        return _box(u, v, 0.88, 0.88, 0.04 + 0.14 * plan.corner)
    if name == "triangle":
        sides = np.maximum(np.abs(u) * math.sqrt(0.75) - v / 2, v) - 0.6
        return np.asarray(np.maximum(sides, _from_center(u, v) - 1.18 + 0.08 * plan.corner))
    arm = 0.34 + 0.08 * plan.corner
    return np.asarray(np.minimum(_box(u, v, 1.0, arm, 0.04), _box(u, v, arm, 1.0, 0.04)))


def _from_center(u: Patch, v: Patch) -> Patch:
    return np.asarray(np.sqrt(u * u + v * v))


def _box(u: Patch, v: Patch, half_width: float, half_height: float, rounding: float) -> Patch:
    """Signed distance to a box with rounded corners."""
    over_u = np.abs(u) - (half_width - rounding)
    over_v = np.abs(v) - (half_height - rounding)
    outer = _from_center(np.maximum(over_u, 0), np.maximum(over_v, 0))
    return np.asarray(outer + np.minimum(np.maximum(over_u, over_v), 0) - rounding)


def _tone(plan: ThingPlan, u: Patch, v: Patch) -> Patch:
    """Texture of the class in 0 (dark tone) .. 1 (light tone): glow, stripes, dots or checkers."""
    name = THING_NAMES[plan.class_index]
    if name == "disc":
        glow = _from_center(u + 0.25 + 0.2 * plan.texture_phase[0], v + 0.4)
        return np.asarray(np.clip(1.1 - 0.6 * plan.texture_frequency * glow, 0, 1))
    a = u * 1.7 * plan.texture_frequency + plan.texture_phase[0]
    b = v * 1.7 * plan.texture_frequency + plan.texture_phase[1]
    if name == "square":
        return _step(np.sin(b * (2 * math.pi)))
    if name == "triangle":
        return _step(4 * (_from_center(a * 1.25 % 1 - 0.5, b * 1.25 % 1 - 0.5) - 0.36))
    return _step(3 * np.sin(a * (1.4 * math.pi)) * np.sin(b * (1.4 * math.pi)))


def _step(value: Patch) -> Patch:
    """Turn a signed wave into two tones with a soft edge."""
    return np.asarray(np.clip(value * 2 + 0.5, 0, 1))


def _colors(plan: ThingPlan, tone: Patch) -> Patch:
    """Paint the light tone in the object's color, the dark one in its class's mark or a darker shade."""
    base = np.array(plan.rgb, dtype=np.float32)
    dark = np.array(_MARKS.get(THING_NAMES[plan.class_index], base * 0.62), dtype=np.float32)
    light = base + (255 - base) * 0.15
    return np.asarray(dark + (light - dark) * tone[..., None])


def _windows(shape: tuple[int, ...], side: int, x: int, y: int) -> tuple[tuple[slice, slice], ...]:
    """Cut a patch at ``(x, y)`` to the frame: slices of the frame, and of the patch."""
    top, left = max(y, 0), max(x, 0)
    bottom, right = max(min(y + side, shape[0]), top), max(min(x + side, shape[1]), left)
    target = (slice(top, bottom), slice(left, right))
    return target, (slice(top - y, bottom - y), slice(left - x, right - x))


def _shade(frame: Patch, distance: Patch, x: int, y: int) -> None:
    target, source = _windows(frame.shape, len(distance), x, y)
    shadow = np.clip(0.5 - distance[source] / _SOFTNESS_PX, 0, 1)
    frame[target] *= (1 - _SHADOW_STRENGTH * shadow)[..., None]


def _cover(
    frame: Patch,
    ids: NDArray[np.int32],
    distance: Patch,
    colors: Patch,
    place: tuple[int, int, int],
) -> None:
    x, y, object_id = place
    target, source = _windows(frame.shape, len(distance), x, y)
    cover = np.clip(0.5 - distance[source], 0, 1)[..., None]
    frame[target] += cover * (colors[source] - frame[target])
    ids[target][distance[source] < 0] = object_id
