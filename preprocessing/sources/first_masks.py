"""Video object segmentation: objects are given by their mask in the frame they first appear in."""

from collections.abc import Iterable
from dataclasses import replace

from univs.schema import ABSENT, UNKNOWN, VISIBLE, ObjectTrack, OfficialPrompt


def unknown_elsewhere(tracks: Iterable[ObjectTrack]) -> tuple[ObjectTrack, ...]:
    """Say nothing about frames without a mask: only first appearances are published."""
    return tuple(replace(track, states=track.states.replace(ABSENT, UNKNOWN)) for track in tracks)


def mask_prompts(tracks: Iterable[ObjectTrack]) -> tuple[OfficialPrompt, ...]:
    """Prompt each object by its mask in the first frame it is visible in."""
    return tuple(
        OfficialPrompt(kind="mask", object_id=track.object_id, frame_index=track.states.index(VISIBLE))
        for track in tracks
    )
