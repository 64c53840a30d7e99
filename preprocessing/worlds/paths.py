"""Smooth paths of the objects of a miniature world: lines and arcs, chosen so that scenes stay readable.

Legend: C candidate paths, T frames. Coordinates are pixels, x to the right and y down; angles are radians.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Visit = Literal["stays", "enters", "leaves"]
"""Whether an object is in the frame throughout, comes in after frame 0, or is gone before the last frame."""

_NUM_CANDIDATES = 256
_MAX_TURN = 0.2


@dataclass(frozen=True, kw_only=True, slots=True)
class MotionPath:
    """An arc (or a line, where ``turn`` is 0) run at constant speed."""

    x_px: float
    y_px: float
    anchor_frame: float
    """The time at which the object is at ``(x_px, y_px)`` with ``heading``."""
    heading: float
    speed_px: float
    """Pixels per frame."""
    turn: float
    """Change of heading per frame."""

    def positions(self, num_frames: int) -> Floats:
        """Give the center in every frame, [T, 2] as (x, y)."""
        table = np.array(
            [[self.x_px, self.y_px, self.anchor_frame, self.heading, self.speed_px, self.turn]],
            dtype=np.float64,
        )
        positions: Floats = _follow(table, num_frames)[0]
        return positions


@dataclass(frozen=True, kw_only=True, slots=True)
class Arena:
    """The frame that paths run in."""

    height: int
    width: int
    num_frames: int

    @property
    def unit_px(self) -> float:
        """Scale of speeds and distances; 1 when the short side is 96 pixels."""
        return min(self.height, self.width) / 96


@dataclass(frozen=True, kw_only=True, slots=True)
class Occupant:
    """An object that already has its path."""

    positions: Floats
    """[T, 2]"""
    radius_px: float


def draw_path(
    rng: np.random.Generator, visit: Visit, radius_px: float, occupants: list[Occupant], arena: Arena
) -> MotionPath:
    """Draw a path that makes the wanted visit and neither hides nor is hidden for long.

    Half of the paths prefer to meet another object, so that occlusion is common. A visitor that no candidate
    suits (large and slow ones) stays; one that cannot stay either circles about the middle of the frame.
    """
    table = _candidates(rng, arena)
    positions = _follow(table, arena.num_frames)
    makes_visit = _makes_visit(positions, visit, radius_px, arena)
    meets, hides = _encounters(positions, radius_px, occupants)
    score = 4 * makes_visit + 2 * ~hides + (meets == (rng.random() < 0.5))
    best = int(np.argmax(score))
    if not makes_visit[best]:
        return _loop(rng, arena) if visit == "stays" else draw_path(rng, "stays", radius_px, occupants, arena)
    x, y, anchor, heading, speed, turn = (float(value) for value in table[best])
    return MotionPath(x_px=x, y_px=y, anchor_frame=anchor, heading=heading, speed_px=speed, turn=turn)


def _candidates(rng: np.random.Generator, arena: Arena) -> Floats:
    """Draw [C, 6] rows in the field order of ``MotionPath``; every second one is a line."""
    draw = rng.random((_NUM_CANDIDATES, 6))
    turn = _MAX_TURN * (2 * draw[:, 5] - 1)
    turn[::2] = 0.0
    columns = [
        draw[:, 0] * arena.width,
        draw[:, 1] * arena.height,
        draw[:, 2] * (arena.num_frames - 1),
        draw[:, 3] * 2 * np.pi,
        (1 + 3 * draw[:, 4]) * arena.unit_px,
        turn,
    ]
    return np.stack(columns, axis=1)


def _follow(table: Floats, num_frames: int) -> Floats:
    """Evaluate [C, 6] paths as [C, T, 2] centers.

    An arc of length ``s`` and angle ``a`` has a chord of length ``s sinc(a / 2)``, which leaves at ``a / 2``.
    """
    x, y, anchor, heading, speed, turn = (column[:, None] for column in table.T)
    elapsed = np.arange(num_frames)[None] - anchor
    chord = speed * elapsed * np.sinc(turn * elapsed / (2 * np.pi))
    direction = heading + turn * elapsed / 2
    return np.stack([x + chord * np.cos(direction), y + chord * np.sin(direction)], axis=2)


def _makes_visit(positions: Floats, visit: Visit, radius_px: float, arena: Arena) -> Bools:
    """Tell which candidates [C] make the visit."""
    size = np.array([arena.width, arena.height])
    beyond: Floats = np.maximum(-positions, positions - (size - 1)).max(axis=2)
    outside = beyond > 1.35 * radius_px + 1
    part = max(arena.num_frames // 3, 1)
    if visit == "enters":
        return np.asarray(outside[:, 0] & (beyond[:, -part:] < 0).all(axis=1))
    if visit == "leaves":
        return np.asarray(outside[:, -1] & (beyond[:, :part] < 0).all(axis=1))
    return np.asarray((beyond < -0.45 * radius_px).all(axis=1))


def _encounters(positions: Floats, radius_px: float, occupants: list[Occupant]) -> tuple[Bools, Bools]:
    """Tell which candidates [C] overlap an occupant at some time, and which do so too much.

    Too much is: touching in frame 0, where objects are introduced, or standing mostly on one another
    in more than a fifth of the frames.
    """
    meets = np.zeros(len(positions), dtype=bool)
    hides = np.zeros(len(positions), dtype=bool)
    for occupant in occupants:
        reach = radius_px + occupant.radius_px
        distance = np.linalg.norm(positions - occupant.positions, axis=2) / reach
        meets |= distance.min(axis=1) < 0.75
        hides |= (distance[:, 0] < 1.0) | ((distance < 0.5).mean(axis=1) > 0.2)
    return meets, hides


def _loop(rng: np.random.Generator, arena: Arena) -> MotionPath:
    speed = float(rng.uniform(1, 2)) * arena.unit_px
    turn = speed / (float(rng.uniform(10, 20)) * arena.unit_px)
    start = float(rng.uniform(0, 2 * np.pi))
    radius = speed / turn
    return MotionPath(
        x_px=arena.width / 2 + radius * float(np.cos(start)),
        y_px=arena.height / 2 + radius * float(np.sin(start)),
        anchor_frame=0.0,
        heading=start + np.pi / 2,
        speed_px=speed,
        turn=turn,
    )
