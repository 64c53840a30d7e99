"""From a record to the targets of a clip: which objects are asked for, and which pixels are not judged.

Objects are chosen on run lengths alone, so only the masks that training sees are ever decoded.

Legend: U distinct source frames of the clip, T frames, N objects, H W source size, h w output size.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from univs.data.augment import Anchor, ClipView, Window, swap_left_right
from univs.data.batch import ClipTargets
from univs.data.masks import boxes_of, decode_rle, decode_rles, union_rle
from univs.labels import LabelSpace
from univs.schema import IGNORED, UNKNOWN, VISIBLE, Expression, ObjectTrack, VideoRecord


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The objects of a record that a clip trains on."""

    kept: tuple[ObjectTrack, ...]
    """Visible in the clip and within the cap; in record order."""
    dropped: tuple[ObjectTrack, ...]
    """Visible, but a crowd or beyond the cap: their pixels are not judged."""
    expressions: tuple[Expression, ...]
    """Those that name a kept object and no visible one that was dropped."""


@dataclass(frozen=True, kw_only=True)
class SourcePixels:
    """Decoded masks of one source frame."""

    masks: NDArray[np.bool_]
    """[N, H, W] kept objects."""
    is_visible: NDArray[np.bool_]
    """[N]"""
    ignore: NDArray[np.bool_]
    """[H, W] pixels that are not judged; never a pixel of a kept object."""


def select_objects(
    record: VideoRecord, positions: Sequence[int], max_objects: int, generator: np.random.Generator
) -> Selection:
    """Choose at most ``max_objects`` of the objects visible at ``positions``, at random.

    Objects that an expression names go first, so a cap does not leave a clip without expressions.
    """
    visible = [track for track in record.objects if _is_visible(track, positions)]
    countable = [i for i, track in enumerate(visible) if not track.is_crowd]
    named = {object_id for expression in record.expressions for object_id in expression.object_ids}
    shuffled = generator.permutation(np.array(countable, dtype=np.int64)).tolist()
    shuffled.sort(key=lambda i: visible[i].object_id not in named)
    chosen = set(shuffled[:max_objects])
    kept = tuple(track for i, track in enumerate(visible) if i in chosen)
    dropped = tuple(track for i, track in enumerate(visible) if i not in chosen)
    expressions = _answerable(record.expressions, kept, dropped)
    if len(expressions) > max_objects:
        few = np.sort(generator.permutation(len(expressions))[:max_objects])
        expressions = tuple(expressions[i] for i in few)
    return Selection(kept=kept, dropped=dropped, expressions=expressions)


def draw_anchor(
    record: VideoRecord, selection: Selection, positions: Sequence[int], generator: np.random.Generator
) -> Anchor | None:
    """Draw an object and a frame that the crop must show; ``None`` if the clip has no object."""
    named = {object_id for expression in selection.expressions for object_id in expression.object_ids}
    tracks = [track for track in selection.kept if not named or track.object_id in named]
    if not tracks:
        return None
    track = tracks[int(generator.integers(len(tracks)))]
    shown = [p for p in sorted(set(positions)) if track.states[p] == VISIBLE]
    counts = track.rles[shown[int(generator.integers(len(shown)))]]
    assert counts is not None, "a visible object has a mask"
    pixels = np.flatnonzero(decode_rle(counts, record.height, record.width).T)
    if pixels.size == 0:
        return None
    x, y = divmod(int(generator.choice(pixels)), record.height)
    left, top, width, height = boxes_of([counts], record.height, record.width)[0].tolist()
    return Anchor(box=Window(left=left, top=top, width=width, height=height), pixel=(x, y))


def decode_pixels(record: VideoRecord, selection: Selection, position: int) -> SourcePixels:
    """Decode what one source frame contributes."""
    size = (record.height, record.width)
    counts = [track.rles[position] for track in selection.kept]
    is_visible = np.array([value is not None for value in counts], dtype=bool)
    masks = np.zeros((len(counts), *size), dtype=bool)
    masks[is_visible] = decode_rles([value for value in counts if value is not None], *size)
    unjudged = [track.rles[position] for track in selection.dropped]
    unjudged += [region.rles[position] for region in record.regions]
    present = [value for value in unjudged if value is not None]
    ignore = decode_rle(union_rle(present, *size), *size) if present else np.zeros(size, dtype=bool)
    if _is_incomplete(record, position):
        ignore = np.ones(size, dtype=bool)
    return SourcePixels(masks=masks, is_visible=is_visible, ignore=ignore & ~masks.any(0))


def build_targets(
    record: VideoRecord,
    selection: Selection,
    pixels: Mapping[int, SourcePixels],
    positions: Sequence[int],
    view: ClipView,
    label_space: LabelSpace | None,
) -> ClipTargets:
    """Warp the masks and keep the objects that still have a pixel.

    Raises:
        ValueError: a category is not in the label space.
    """
    masks = np.zeros((len(selection.kept), len(positions), view.height, view.width), dtype=bool)
    ignore = np.zeros(masks.shape[1:], dtype=bool)
    for time, position in enumerate(positions):
        source = pixels[position]
        ignore[time] = view.warp_mask(source.ignore, time) if source.ignore.any() else False
        for row in np.flatnonzero(source.is_visible):
            masks[row, time] = view.warp_mask(source.masks[row], time)
    alive = np.flatnonzero(masks.any((1, 2, 3)))
    rows = _Rows(tuple(selection.kept[i] for i in alive), masks[alive], label_space)
    texts, targets = _resolve_expressions(record, selection.expressions, rows, view.is_flipped)
    return ClipTargets(
        masks=torch.from_numpy(rows.masks),
        labels=torch.tensor(rows.labels, dtype=torch.int64),
        object_ids=torch.tensor(rows.object_ids, dtype=torch.int64),
        is_thing=torch.tensor(rows.is_thing, dtype=torch.bool),
        expression_objects=torch.tensor(targets, dtype=torch.int64),
        expressions=texts,
        ignore=torch.from_numpy(ignore),
    )


class _Rows:
    """The rows of a clip's targets; several objects named together become one more row."""

    def __init__(
        self, tracks: tuple[ObjectTrack, ...], masks: NDArray[np.bool_], label_space: LabelSpace | None
    ) -> None:
        self.masks = masks
        self.object_ids = [track.object_id for track in tracks]
        self.labels = [_label(track, label_space) for track in tracks]
        things = label_space.is_thing if label_space else ()
        self.is_thing = [label < 0 or things[label] for label in self.labels]
        self._row_of: dict[tuple[int, ...], int] = {(t.object_id,): row for row, t in enumerate(tracks)}

    def row_for(self, object_ids: tuple[int, ...], free_id: int) -> int | None:
        """Find or add the row of the named objects that are in the clip; ``None`` if none is."""
        members = tuple(sorted({i for i in object_ids if (i,) in self._row_of}))
        if not members:
            return None
        if members not in self._row_of:
            parts = [self._row_of[(i,)] for i in members]
            self._row_of[members] = len(self.labels)
            self.masks = np.concatenate([self.masks, self.masks[parts].any(0, keepdims=True)])
            labels = {self.labels[part] for part in parts}
            self.labels.append(labels.pop() if len(labels) == 1 else -1)
            self.is_thing.append(all(self.is_thing[part] for part in parts))
            self.object_ids.append(max(free_id, max(self.object_ids) + 1))
        return self._row_of[members]


def _resolve_expressions(
    record: VideoRecord, expressions: Sequence[Expression], rows: _Rows, is_flipped: bool
) -> tuple[tuple[str, ...], list[int]]:
    """Give texts and target rows; a mirrored clip mirrors its words."""
    free_id = 1 + max((track.object_id for track in record.objects), default=0)
    texts, targets = [], []
    for expression in expressions:
        row = rows.row_for(expression.object_ids, free_id)
        if row is not None:
            texts.append(swap_left_right(expression.text) if is_flipped else expression.text)
            targets.append(row)
    return tuple(texts), targets


def _label(track: ObjectTrack, label_space: LabelSpace | None) -> int:
    if label_space is None or track.category_id is None:
        return -1
    if track.category_id not in label_space.label_of:
        raise ValueError(
            f"object {track.source_id!r}: category {track.category_id} is not in label space "
            f"{label_space.name!r}; preprocess the dataset again"
        )
    return label_space.label_of[track.category_id]


def _is_visible(track: ObjectTrack, positions: Sequence[int]) -> bool:
    return any(track.states[position] == VISIBLE for position in positions)


def _is_incomplete(record: VideoRecord, position: int) -> bool:
    """Whether a pixel without a mask may still belong to an object."""
    gaps = (UNKNOWN, IGNORED)
    return not record.frames[position].labelled or any(t.states[position] in gaps for t in record.objects)


def _answerable(
    expressions: Sequence[Expression], kept: Sequence[ObjectTrack], dropped: Sequence[ObjectTrack]
) -> tuple[Expression, ...]:
    inside = {track.object_id for track in kept}
    outside = {track.object_id for track in dropped}
    return tuple(
        expression
        for expression in expressions
        if expression.text.strip()
        and inside & set(expression.object_ids)
        and not outside & set(expression.object_ids)
    )
