"""What a miniature world contains, before any pixel is drawn.

A plan is a pure function of (configuration, split, index, seed). Every number of it is drawn from a
generator seeded by all four names together, so two worlds, and two splits, share no object.
"""

import hashlib
from dataclasses import dataclass
from typing import Literal

import numpy as np

from preprocessing.worlds.paths import Arena, Floats, MotionPath, Occupant, Visit, draw_path

Split = Literal["train", "val"]

THING_NAMES = ("disc", "square", "triangle", "cross")
STUFF_NAMES = ("grass", "sand", "water")
CLASS_NAMES = THING_NAMES + STUFF_NAMES
"""Names by class index: things first."""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (222, 48, 42),
    "green": (44, 178, 62),
    "blue": (48, 82, 226),
    "yellow": (240, 206, 36),
    "purple": (156, 58, 196),
    "cyan": (38, 204, 214),
}
"""Color words and their RGB; independent of the class."""

MAX_SIZE_RATIO = 1.5
"""Largest change of size of an object within a video."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldConfig:
    """Size and population of miniature worlds."""

    height: int = 96
    width: int = 128
    num_frames: int = 12
    min_objects: int = 2
    max_objects: int = 4
    min_size_fraction: float = 1 / 6
    """Smallest object diameter as a fraction of the short side."""
    max_size_fraction: float = 0.46
    visitor_rate: float = 0.55
    """Share of objects, beside the first, that are to enter late or leave early; about half of them can."""
    twin_rate: float = 0.25
    """Share of objects, beside the first, that repeat the class and color of another one."""
    noise_level: float = 2.5
    """Standard deviation of the sensor noise, in gray values."""

    def __post_init__(self) -> None:
        """Refuse worlds that cannot be drawn."""
        if min(self.height, self.width) < 32:
            raise ValueError(f"a world needs at least 32 x 32 pixels, got {self.height} x {self.width}")
        if self.num_frames < 1 or not 1 <= self.min_objects <= self.max_objects:
            raise ValueError(
                "a world needs a frame and 1 <= min_objects <= max_objects, got "
                f"{self.num_frames} frames and {self.min_objects}..{self.max_objects} objects"
            )
        if not 0 < self.min_size_fraction < self.max_size_fraction <= 1:
            raise ValueError(
                "object sizes need 0 < min_size_fraction < max_size_fraction <= 1, got "
                f"{self.min_size_fraction} and {self.max_size_fraction}"
            )

    @property
    def arena(self) -> Arena:
        """The frame that paths run in."""
        return Arena(height=self.height, width=self.width, num_frames=self.num_frames)


@dataclass(frozen=True, kw_only=True, slots=True)
class ThingPlan:
    """The whole description of one moving object."""

    class_index: int
    color: str
    rgb: tuple[float, float, float]
    """The shade of ``color`` this object has, 0..255."""
    aspect: float
    corner: float
    """Shape parameter: corner radius of squares and triangles, arm width of crosses."""
    texture_phase: tuple[float, float]
    texture_frequency: float
    """Texture periods per object radius."""
    start_size_px: float
    size_ratio: float
    """Diameter in the last frame over diameter in the first."""
    start_angle: float
    spin: float
    """Rotation per frame, radians."""
    path: MotionPath
    depth: float
    """Larger is nearer to the camera."""

    def sizes_px(self, num_frames: int) -> Floats:
        """Give the diameter in every frame, [T]."""
        steps = np.arange(num_frames) / max(num_frames - 1, 1)
        return np.asarray(self.start_size_px * self.size_ratio**steps, dtype=np.float64)

    def angles(self, num_frames: int) -> Floats:
        """Give the rotation in every frame, [T]."""
        return np.asarray(self.start_angle + self.spin * np.arange(num_frames), dtype=np.float64)


@dataclass(frozen=True, kw_only=True, slots=True)
class BackgroundPlan:
    """Two stuff regions, the wavy border between them and the slow pan of the camera."""

    class_indices: tuple[int, int]
    border_angle: float
    border_offset: float
    """Distance of the border from the middle of the frame, as a fraction of the short side."""
    wave_heights_px: tuple[float, float]
    wave_lengths_px: tuple[float, float]
    wave_phases: tuple[float, float]
    pan_px: tuple[float, float]
    """Camera movement over the whole video, (x, y)."""
    brightness: tuple[float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldPlan:
    """Everything that is in one world."""

    things: tuple[ThingPlan, ...]
    background: BackgroundPlan


def generator(*key: object) -> np.random.Generator:
    """Make the random generator of a key; equal on every machine, independent between keys."""
    digest = hashlib.blake2b("|".join(map(str, key)).encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest))


def plan_world(config: WorldConfig, split: Split, index: int, seed: int) -> WorldPlan:
    """Draw the plan of one world."""
    rng = generator(seed, split, index, "things")
    num_things = int(rng.integers(config.min_objects, config.max_objects + 1))
    things: list[ThingPlan] = []
    occupants: list[Occupant] = []
    for _ in range(num_things):
        thing = _plan_thing(rng, config, things, occupants)
        radius = float(thing.sizes_px(config.num_frames).mean()) / 2
        occupants.append(Occupant(positions=thing.path.positions(config.num_frames), radius_px=radius))
        things.append(thing)
    background = _plan_background(generator(seed, split, index, "background"), config)
    return WorldPlan(things=tuple(things), background=background)


def _plan_thing(
    rng: np.random.Generator, config: WorldConfig, earlier: list[ThingPlan], occupants: list[Occupant]
) -> ThingPlan:
    class_index, color = _draw_identity(rng, config, earlier)
    visit = _draw_visit(rng, config) if earlier else "stays"
    start_px, end_px = _draw_sizes(rng, config)
    path = draw_path(rng, visit, (start_px + end_px) / 4, occupants, config.arena)
    return ThingPlan(
        class_index=class_index,
        color=color,
        rgb=_draw_shade(rng, color),
        aspect=float(rng.uniform(0.9, 1.1)),
        corner=float(rng.random()),
        texture_phase=(float(rng.random()), float(rng.random())),
        texture_frequency=float(rng.uniform(0.85, 1.15)),
        start_size_px=start_px,
        size_ratio=end_px / start_px,
        start_angle=float(rng.uniform(-0.4, 0.4)),
        spin=float(rng.uniform(-0.06, 0.06)),
        path=path,
        depth=float(rng.random()),
    )


def _draw_identity(
    rng: np.random.Generator, config: WorldConfig, earlier: list[ThingPlan]
) -> tuple[int, str]:
    if earlier and rng.random() < config.twin_rate:
        twin = earlier[int(rng.integers(len(earlier)))]
        return twin.class_index, twin.color
    return int(rng.integers(len(THING_NAMES))), list(COLORS)[int(rng.integers(len(COLORS)))]


def _draw_visit(rng: np.random.Generator, config: WorldConfig) -> Visit:
    if config.num_frames < 4 or rng.random() >= config.visitor_rate:
        return "stays"
    return "enters" if rng.random() < 0.5 else "leaves"


def _draw_sizes(rng: np.random.Generator, config: WorldConfig) -> tuple[float, float]:
    """Draw the first and the last diameter, both inside the allowed range."""
    short = min(config.height, config.width)
    low, high = config.min_size_fraction * short, config.max_size_fraction * short
    start = float(rng.uniform(low, high))
    ratio = MAX_SIZE_RATIO ** float(rng.uniform(-1, 1))
    return start, float(np.clip(start * ratio, low, high))


def _draw_shade(rng: np.random.Generator, color: str) -> tuple[float, float, float]:
    shade = np.array(COLORS[color]) * rng.uniform(0.85, 1.08) + rng.uniform(-12, 12, 3)
    red, green, blue = (float(value) for value in np.clip(shade, 0, 255))
    return red, green, blue


def _plan_background(rng: np.random.Generator, config: WorldConfig) -> BackgroundPlan:
    first, second = (int(value) for value in rng.permutation(len(STUFF_NAMES))[:2] + len(THING_NAMES))
    unit = config.arena.unit_px
    pan = min(0.7 * (config.num_frames - 1), 14.0) * unit * float(rng.random())
    direction = float(rng.uniform(0, 2 * np.pi))
    return BackgroundPlan(
        class_indices=(first, second),
        border_angle=float(rng.uniform(0, 2 * np.pi)),
        border_offset=float(rng.uniform(-0.2, 0.2)),
        wave_heights_px=(float(rng.uniform(2, 7)) * unit, float(rng.uniform(1, 3)) * unit),
        wave_lengths_px=(float(rng.uniform(50, 110)) * unit, float(rng.uniform(15, 35)) * unit),
        wave_phases=(float(rng.uniform(0, 2 * np.pi)), float(rng.uniform(0, 2 * np.pi))),
        pan_px=(pan * float(np.cos(direction)), pan * float(np.sin(direction))),
        brightness=(float(rng.uniform(0.9, 1.1)), float(rng.uniform(0.9, 1.1))),
    )
