"""From a record to the targets of a clip: which objects are asked for, and which pixels are not judged.

Objects are chosen on run lengths alone, and only those of the clip's frames that are kept are painted.

Legend: T frames, N objects, H W padded size, h w output size, P planes, K categories.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from univs.data.augment import Anchor, swap_left_right
from univs.data.masks import boxes_of, full_rle, union_rle
from univs.data.packed import PackedTargets
from univs.data.runs import Toggles, num_planes, row_bytes
from univs.data.view import ClipView, Window
from univs.labels import LabelSpace
from univs.schema import IGNORED, UNKNOWN, VISIBLE, Expression, ObjectTrack, VideoRecord

_CROWDED_OBJECTS = 100
_ROWS_PER_LOOK = 8
_MIN_STABILITY_SCORE = 0.97
_MIN_PREDICTED_IOU = 0.9
"""Machine-made masks of an image with more than so many are used only above both scores (SA-1B, as UniVS)."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """The objects of a record that a clip trains on."""

    kept: tuple[ObjectTrack, ...]
    """Visible in the clip and within the cap; in record order."""
    dropped: tuple[ObjectTrack, ...]
    """Visible, but a crowd, beyond the cap or of doubtful quality."""
    expressions: tuple[Expression, ...]
    """Those that name a kept object and no visible one that was dropped."""


def select_objects(
    record: VideoRecord, positions: Sequence[int], max_objects: int, generator: np.random.Generator
) -> Selection:
    """Choose at most ``max_objects`` of the objects visible at ``positions``, at random.

    Objects that an expression names go first, so a cap does not leave a clip without expressions.
    """
    visible = [track for track in record.objects if _is_visible(track, positions)]
    is_crowded = len(record.objects) > _CROWDED_OBJECTS
    countable = [
        i for i, track in enumerate(visible) if not (track.is_crowd or is_crowded and _is_doubtful(track))
    ]
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


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipMasks:
    """The masks of a clip's distinct source frames, read but not painted."""

    positions: tuple[int, ...]
    """Of the S source frames in the record."""
    toggles: Toggles
    """S times: the kept objects, then the pixels that are not judged if any frame has some."""
    has_unjudged: bool

    @classmethod
    def read(cls, record: VideoRecord, selection: Selection, positions: Sequence[int]) -> "ClipMasks":
        """Read the masks of the kept objects in the frames at ``positions``, and no others.

        Raises:
            ValueError: a mask is damaged or does not fit the record's size.
        """
        distinct = tuple(sorted(set(positions)))
        unjudged = [_unjudged(record, selection, position) for position in distinct]
        has_unjudged = any(text is not None for text in unjudged)
        counts: list[str | None] = []
        for position, text in zip(distinct, unjudged, strict=True):
            counts += [track.rles[position] for track in selection.kept]
            counts += [text] if has_unjudged else []
        toggles = Toggles.parse(counts, record.height, record.width)
        return cls(positions=distinct, toggles=toggles, has_unjudged=has_unjudged)

    @property
    def num_per_frame(self) -> int:
        """Masks of each source frame."""
        return self.toggles.num_masks // len(self.positions)


def draw_anchor(
    record: VideoRecord, selection: Selection, masks: ClipMasks, generator: np.random.Generator
) -> Anchor | None:
    """Draw an object and a frame that the crop must show; ``None`` if the clip has no object."""
    named = {object_id for expression in selection.expressions for object_id in expression.object_ids}
    rows = [i for i, track in enumerate(selection.kept) if not named or track.object_id in named]
    if not rows:
        return None
    row = rows[int(generator.integers(len(rows)))]
    track = selection.kept[row]
    shown = [nth for nth, position in enumerate(masks.positions) if track.states[position] == VISIBLE]
    nth = shown[int(generator.integers(len(shown)))]
    pixel = masks.toggles.pixel(nth * masks.num_per_frame + row, float(generator.random()))
    counts = track.rles[masks.positions[nth]]
    if pixel is None or counts is None:
        return None
    left, top, width, height = boxes_of([counts], record.height, record.width)[0].tolist()
    return Anchor(box=Window(left=left, top=top, width=width, height=height), pixel=pixel)


def build_targets(
    record: VideoRecord,
    selection: Selection,
    masks: ClipMasks,
    positions: Sequence[int],
    view: ClipView,
    canvas: tuple[int, int],
    label_space: LabelSpace | None,
) -> PackedTargets:
    """Paint the masks and keep the objects that still have a pixel.

    Raises:
        ValueError: a category is not in the label space.
    """
    planes = _paint(masks, len(selection.kept), positions, view, canvas)
    alive = np.flatnonzero(_find_alive(planes, len(selection.kept))).tolist()
    rows = _Rows(selection.kept, alive, label_space)
    texts, targets = _resolve_expressions(record, selection.expressions, rows, view.is_flipped)
    return PackedTargets(
        planes=torch.from_numpy(planes),
        width=canvas[1],
        members=rows.members(len(planes), len(selection.kept)),
        labels=torch.tensor(rows.labels, dtype=torch.int64),
        object_ids=torch.tensor(rows.object_ids, dtype=torch.int64),
        is_thing=torch.tensor(rows.is_thing, dtype=torch.bool),
        expression_objects=torch.tensor(targets, dtype=torch.int64),
        expressions=texts,
        judged_labels=judged_labels(record, positions, label_space),
    )


def judged_labels(
    record: VideoRecord, positions: Sequence[int], label_space: LabelSpace | None
) -> Tensor | None:
    """Say of which categories [K] the annotation of these frames is complete; ``None`` if of all.

    In a federated dataset these are the categories of its objects and those verified to be absent, less
    those of which not every instance is annotated. Where unannotated objects may be visible it is none,
    and a category is incomplete in frames where nobody says whether an object of it is there.
    """
    found = record.completeness
    lost = {track.category_id for track in record.objects if _is_unknown(track, positions)}
    lost |= set(found.not_exhaustive_category_ids)
    if label_space is None or not (found.is_federated or found.is_partial or lost):
        return None
    known = set() if found.is_partial else set(label_space.label_of)
    if found.is_federated:
        listed = {track.category_id for track in record.objects} | set(found.negative_category_ids)
        known &= listed
    judged = torch.zeros(len(label_space.categories), dtype=torch.bool)
    judged[[label_space.label_of[i] for i in sorted(known - lost)]] = True
    return judged


def _paint(
    masks: ClipMasks, num_kept: int, positions: Sequence[int], view: ClipView, canvas: tuple[int, int]
) -> NDArray[np.uint8]:
    """Paint [P, T, H, >= W]: the kept objects, and after them the pixels that are not judged, if any."""
    has_ignore = masks.has_unjudged or bool(view.angles)
    shape = (num_planes(num_kept + has_ignore), len(positions), canvas[0], row_bytes(canvas[1]))
    planes = np.empty(shape, dtype=np.uint8)
    inner = planes[: num_planes(masks.num_per_frame)]
    planes[len(inner) :] = 0
    view.warp_masks(masks.toggles, [masks.positions.index(position) for position in positions], inner)
    if view.angles:
        plane, bit = divmod(num_kept, 8)
        for time in range(len(positions)):
            outside = view.outside(time, masks.toggles.height, masks.toggles.width)
            if outside is not None:
                planes[plane, time, : view.height, : view.width] |= outside.astype(np.uint8) << bit
    return planes


def _unjudged(record: VideoRecord, selection: Selection, position: int) -> str | None:
    """Give the mask of the pixels that are not judged, kept objects aside.

    Where a kept object is unknown, it may be any pixel that is not another's. Pixels of dropped objects are
    left out so that a query for one is not called wrong. Without classes no query is, and they tell kept
    objects where they end.
    """
    if any(_is_unknown(track, [position]) for track in selection.kept):
        return full_rle(record.height, record.width)
    hidden = [track for track in selection.dropped if track.is_crowd or record.label_space is not None]
    found = [track.rles[position] for track in hidden]
    found += [region.rles[position] for region in record.regions]
    present = [value for value in found if value is not None]
    if len(present) > 1:
        return union_rle(present, record.height, record.width)
    return present[0] if present else None


def _find_alive(planes: NDArray[np.uint8], num_masks: int) -> NDArray[np.bool_]:
    """[num_masks] bool, whether a mask has a pixel in any frame; most are seen in every eighth row."""
    alive = _shown_bits(planes[:, :, ::_ROWS_PER_LOOK])[:num_masks]
    return alive if alive.all() else _shown_bits(planes)[:num_masks]


def _shown_bits(planes: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """[8 P] bool, whether a bit is set anywhere in its plane."""
    words = np.bitwise_or.reduce(planes.view(np.uint64), axis=(1, 2, 3))
    parts = np.bitwise_or.reduce(words.view(np.uint8).reshape(-1, 8), axis=1)
    return np.unpackbits(parts, bitorder="little").astype(bool)


class _Rows:
    """The rows of a clip's targets; several objects named together become one more row."""

    def __init__(
        self, kept: tuple[ObjectTrack, ...], alive: Sequence[int], label_space: LabelSpace | None
    ) -> None:
        tracks = [kept[index] for index in alive]
        self.object_ids = [track.object_id for track in tracks]
        self.labels = [_label(track, label_space) for track in tracks]
        things = label_space.is_thing if label_space else ()
        self.is_thing = [label < 0 or things[label] for label in self.labels]
        self._bits: list[tuple[int, ...]] = [(index,) for index in alive]
        self._row_of: dict[tuple[int, ...], int] = {(t.object_id,): row for row, t in enumerate(tracks)}

    def members(self, planes: int, ignore_bit: int) -> Tensor:
        """Give the bits [N + 1, P] of every row and of the pixels that are not judged."""
        found = np.zeros((len(self._bits) + 1, planes), dtype=np.uint8)
        for row, bits in enumerate([*self._bits, (ignore_bit,)]):
            for bit in bits:
                if bit < 8 * planes:
                    found[row, bit // 8] |= 1 << bit % 8
        return torch.from_numpy(found)

    def row_for(self, object_ids: tuple[int, ...], free_id: int) -> int | None:
        """Find or add the row of the named objects that are in the clip; ``None`` if none is."""
        members = tuple(sorted({i for i in object_ids if (i,) in self._row_of}))
        if not members:
            return None
        if members not in self._row_of:
            parts = [self._row_of[(i,)] for i in members]
            self._row_of[members] = len(self.labels)
            self._bits.append(tuple(bit for part in parts for bit in self._bits[part]))
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


def _is_doubtful(track: ObjectTrack) -> bool:
    """Whether a machine-made mask scores too low; masks without scores do not."""
    stability, iou = track.stability_score, track.predicted_iou
    return (stability is not None and stability <= _MIN_STABILITY_SCORE) or (
        iou is not None and iou <= _MIN_PREDICTED_IOU
    )


def _is_unknown(track: ObjectTrack, positions: Sequence[int]) -> bool:
    """Whether nobody says if, or where, the object is in one of the frames."""
    states = track.states
    if UNKNOWN not in states and IGNORED not in states:
        return False
    return any(states[position] in (UNKNOWN, IGNORED) for position in positions)


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
