"""Referring expressions of a miniature world; each names one object of its video and no other."""

from collections.abc import Sequence
from dataclasses import dataclass

_CLEAR_SIZE_RATIO = 1.3
_CLEAR_SHIFT_FRACTION = 0.12
"""A movement or a distance is spoken of when it is this fraction of the frame's width."""
_CLEAR_SIDE_FRACTION = 0.1
"""A side is spoken of when the object is this far from the middle, as a fraction of the frame."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sighting:
    """What a viewer of the video can say about one thing object."""

    class_name: str
    color: str
    size_px: float
    """Mean diameter while visible."""
    first_x_px: float
    first_y_px: float
    """Where it is in the first frame it is visible in."""
    shift_x_px: float
    """How far it moves to the right while visible."""
    shift_y_px: float
    """How far it moves down while visible."""


def name_objects(sightings: Sequence[Sighting], size_px: tuple[int, int]) -> tuple[tuple[str, ...], ...]:
    """Give each object up to two expressions; none where nothing tells it from the others.

    Args:
        sightings: The things of one video.
        size_px: Width and height of its frames.
    """
    return tuple(_expressions(place, sightings, size_px) for place in range(len(sightings)))


def _expressions(place: int, sightings: Sequence[Sighting], size_px: tuple[int, int]) -> tuple[str, ...]:
    subject = sightings[place]
    noun = f"{subject.color} {subject.class_name}"
    rivals = [
        other
        for position, other in enumerate(sightings)
        if position != place and (other.color, other.class_name) == (subject.color, subject.class_name)
    ]
    motion, side = _motion(subject, rivals, size_px[0]), _side(subject, rivals, size_px)
    details = [f"the {noun} {detail}" for detail in (motion, side) if detail]
    size = _size(subject, rivals)
    plain = [] if rivals else [f"the {noun}"]
    sized = [f"the {size} {noun}"] if size else []
    return tuple([*plain, *sized, *details][:2])


def _size(subject: Sighting, rivals: Sequence[Sighting]) -> str:
    """Say ``large`` or ``small`` where it is clear among rivals; sizes are relative, so alone say nothing."""
    if not rivals:
        return ""
    if all(subject.size_px > _CLEAR_SIZE_RATIO * rival.size_px for rival in rivals):
        return "large"
    if all(subject.size_px * _CLEAR_SIZE_RATIO < rival.size_px for rival in rivals):
        return "small"
    return ""


def _motion(subject: Sighting, rivals: Sequence[Sighting], width_px: int) -> str:
    """Say where it moves, if it does so clearly and every rival clearly moves the other way."""
    clear = _CLEAR_SHIFT_FRACTION * width_px
    directions = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
    for word, (x, y) in directions.items():
        along = x * subject.shift_x_px + y * subject.shift_y_px
        aside = abs(y * subject.shift_x_px + x * subject.shift_y_px)
        against = all(x * rival.shift_x_px + y * rival.shift_y_px < -clear / 2 for rival in rivals)
        if along > clear and along > 1.5 * aside and against:
            return f"moving {word}"
    return ""


def _side(subject: Sighting, rivals: Sequence[Sighting], size_px: tuple[int, int]) -> str:
    """Say on which side it first appears, if that is clear by itself and well beside every rival."""
    sides = {"on the left": (-1, 0), "on the right": (1, 0), "at the top": (0, -1), "at the bottom": (0, 1)}
    width, height = size_px
    for phrase, (x, y) in sides.items():
        edge = x * (subject.first_x_px / width - 0.5) + y * (subject.first_y_px / height - 0.5)
        ahead = [
            x * (subject.first_x_px - rival.first_x_px) + y * (subject.first_y_px - rival.first_y_px)
            for rival in rivals
        ]
        if edge > _CLEAR_SIDE_FRACTION and all(lead > _CLEAR_SHIFT_FRACTION * width for lead in ahead):
            return phrase
    return ""
