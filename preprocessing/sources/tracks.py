"""Join what each frame's label image says into tracks and regions.

A frame is a map from label value to run-length string, or ``None`` where the dataset does not annotate it.
"""

from collections.abc import Mapping, Sequence

from univs.schema import ABSENT, UNKNOWN, VISIBLE, Frame, ObjectTrack, Region, RegionKind

FrameLabels = Mapping[int, str]


def build_tracks(
    frames: Sequence[FrameLabels | None],
    category_of: Mapping[int, int | None],
    crowd_values: frozenset[int] = frozenset(),
) -> tuple[ObjectTrack, ...]:
    """Make one track per label value of ``category_of`` that appears, numbered from 1 in ascending order.

    Values outside ``category_of`` (background, void) are not objects.
    """
    visible = {value for frame in frames if frame is not None for value in frame}
    values = sorted(visible & category_of.keys())
    return tuple(
        ObjectTrack(
            object_id=index,
            source_id=str(value),
            category_id=category_of[value],
            states="".join(_state(frame, value) for frame in frames),
            rles=tuple(None if frame is None else frame.get(value) for frame in frames),
            is_crowd=value in crowd_values,
        )
        for index, value in enumerate(values, start=1)
    )


def build_region(frames: Sequence[FrameLabels | None], value: int, kind: RegionKind) -> tuple[Region, ...]:
    """Make the region of one label value: one, or none if it never appears."""
    rles = tuple(None if frame is None else frame.get(value) for frame in frames)
    return (Region(kind=kind, rles=rles),) if any(rles) else ()


def build_frames(names: Sequence[str], labelled: Sequence[bool] | None = None) -> tuple[Frame, ...]:
    """Make the frame table of a whole item; all frames are labelled unless told."""
    flags = labelled or [True] * len(names)
    return tuple(
        Frame(index=index, name=name, extension="jpg", labelled=flag)
        for index, (name, flag) in enumerate(zip(names, flags, strict=True))
    )


def _state(frame: FrameLabels | None, value: int) -> str:
    if frame is None:
        return UNKNOWN
    return VISIBLE if value in frame else ABSENT
