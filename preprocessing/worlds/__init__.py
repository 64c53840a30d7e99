"""Miniature worlds: small textured moving objects with exact masks, tracks, classes and names."""

from preprocessing.worlds.plans import (
    CLASS_NAMES,
    COLORS,
    STUFF_NAMES,
    THING_NAMES,
    Split,
    WorldConfig,
    plan_world,
)
from preprocessing.worlds.render import World, WorldObject, render_world

__all__ = [
    "CLASS_NAMES",
    "COLORS",
    "STUFF_NAMES",
    "THING_NAMES",
    "Split",
    "World",
    "WorldConfig",
    "WorldObject",
    "plan_world",
    "render_world",
]
