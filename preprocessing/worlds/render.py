"""Miniature worlds as the layouts write them: frames, exact masks, tracks, classes and expressions.

Legend: T frames, H x W pixels.
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from preprocessing.worlds.background import paint_background
from preprocessing.worlds.names import Sighting, name_objects
from preprocessing.worlds.plans import (
    CLASS_NAMES,
    Split,
    ThingPlan,
    WorldConfig,
    WorldPlan,
    generator,
    plan_world,
)
from preprocessing.worlds.things import paint_thing

Frames = NDArray[np.uint8]
Ids = NDArray[np.int32]


@dataclass(frozen=True, kw_only=True, slots=True)
class WorldObject:
    """One thing or one stuff region of a world."""

    object_id: int
    class_index: int
    """Index into ``CLASS_NAMES``."""
    is_thing: bool
    color: str | None
    """Color word; ``None`` for stuff."""
    description: ThingPlan | None
    """Everything the object was drawn from; ``None`` for stuff."""
    expressions: tuple[str, ...] = ()

    @property
    def class_name(self) -> str:
        """Name of the class."""
        return CLASS_NAMES[self.class_index]


@dataclass(frozen=True, kw_only=True, slots=True)
class World:
    """One rendered video (or image, where T is 1)."""

    video_id: str
    frames: Frames
    """[T, H, W, 3] RGB"""
    ids: Ids
    """[T, H, W] id of the one object each pixel belongs to; never 0"""
    objects: tuple[WorldObject, ...]
    """Things, then stuff; ids 1..n in this order. Each is visible in at least one frame."""

    @property
    def things(self) -> tuple[WorldObject, ...]:
        """The thing objects; their ids are 1..number of things."""
        return tuple(entry for entry in self.objects if entry.is_thing)


def render_world(config: WorldConfig, split: Split, index: int, seed: int) -> World:
    """Draw one world: a pure function of its arguments."""
    plan = plan_world(config, split, index, seed)
    colors, ids = _paint(plan, config, generator(seed, split, index, "textures"))
    noise = generator(seed, split, index, "noise").standard_normal(colors.shape, dtype=np.float32)
    colors += noise * config.noise_level
    plan, ids = _without_unseen(plan, ids)
    video_id = hashlib.blake2b(f"{seed}|{split}|{index}".encode(), digest_size=5).hexdigest()
    frames = np.clip(np.rint(colors), 0, 255).astype(np.uint8)
    return World(video_id=video_id, frames=frames, ids=ids, objects=_objects(plan, ids, config))


def _paint(plan: WorldPlan, config: WorldConfig, rng: np.random.Generator) -> tuple[NDArray[np.float32], Ids]:
    """Paint stuff, then things from far to near."""
    num_things = len(plan.things)
    colors, is_first = paint_background(plan.background, config, rng)
    ids = np.where(is_first, num_things + 1, num_things + 2).astype(np.int32)
    for place in sorted(range(num_things), key=lambda place: plan.things[place].depth):
        paint_thing(colors, ids, plan.things[place], place + 1, config)
    return colors, ids


def _without_unseen(plan: WorldPlan, ids: Ids) -> tuple[WorldPlan, Ids]:
    """Leave out things that no frame shows, and number the others without gaps."""
    num_things = len(plan.things)
    is_seen = np.bincount(ids.ravel(), minlength=num_things + 3)[: num_things + 1] > 0
    is_seen[0] = False
    if is_seen[1:].all():
        return plan, ids
    new_ids = np.concatenate([np.cumsum(is_seen), is_seen.sum() + np.array([1, 2])]).astype(np.int32)
    things = tuple(thing for thing, seen in zip(plan.things, is_seen[1:], strict=True) if seen)
    return WorldPlan(things=things, background=plan.background), new_ids[ids]


def _objects(plan: WorldPlan, ids: Ids, config: WorldConfig) -> tuple[WorldObject, ...]:
    sightings = [_sighting(thing, ids == place + 1, config) for place, thing in enumerate(plan.things)]
    expressions = name_objects(sightings, (config.width, config.height))
    things = [
        WorldObject(
            object_id=place + 1,
            class_index=thing.class_index,
            is_thing=True,
            color=thing.color,
            description=thing,
            expressions=expressions[place],
        )
        for place, thing in enumerate(plan.things)
    ]
    stuff = [
        WorldObject(object_id=object_id, class_index=index, is_thing=False, color=None, description=None)
        for object_id, index in enumerate(plan.background.class_indices, start=len(things) + 1)
    ]
    return (*things, *stuff)


def _sighting(plan: ThingPlan, masks: NDArray[np.bool_], config: WorldConfig) -> Sighting:
    """Sum up what the visible frames show; ``masks`` is [T, H, W]."""
    seen = np.flatnonzero(masks.any(axis=(1, 2)))
    limit = np.array([config.width - 1, config.height - 1])
    positions = np.clip(plan.path.positions(config.num_frames)[seen], 0, limit)
    shift = positions[-1] - positions[0]
    return Sighting(
        class_name=CLASS_NAMES[plan.class_index],
        color=plan.color,
        size_px=float(plan.sizes_px(config.num_frames)[seen].mean()),
        first_x_px=float(positions[0, 0]),
        first_y_px=float(positions[0, 1]),
        shift_x_px=float(shift[0]),
        shift_y_px=float(shift[1]),
    )
