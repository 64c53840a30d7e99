"""Draw what is in a release, and what a training step sees: frames with masks, prompts and names.

Legend: T frames, N objects, H W size of a frame; colors and frames are uint8 RGB.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from univs.data.batch import ClipBatch
from univs.data.images import PIXEL_MEAN, PIXEL_STD, decode_image
from univs.data.masks import decode_rle
from univs.data.release import Release
from univs.data.statistics import spread
from univs.draw import Frame, color_of, overlay
from univs.labels import LabelSpace
from univs.schema import ObjectTrack, OfficialPrompt, VideoRecord

_MAX_SIDE_PX = 640
_MAX_NAMES = 25
"""Names are written on the objects of a frame up to this number; beyond it they hide what they name."""
_UNJUDGED_BRIGHTNESS = 0.35
_STRIPE_PX = 6


@dataclass(frozen=True, kw_only=True, slots=True)
class ObjectLine:
    """One object in words."""

    object_id: int
    name: str
    color: tuple[int, int, int]
    states: tuple[tuple[str, int], ...]
    """Runs of equal states: letter and number of frames."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SamplePicture:
    """One sample, drawn."""

    key: str
    record: VideoRecord
    flags: tuple[str, ...]
    """Codes of the warnings about it."""
    frames: tuple[tuple[str, Frame], ...]
    """Captions and pictures."""
    objects: tuple[ObjectLine, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class ClipPicture:
    """One clip of a training batch, drawn."""

    key: str
    inputs: tuple[Frame, ...]
    """T frames, pixel by pixel as the model takes them in, before normalization and without padding."""
    targets: tuple[Frame, ...]
    """T frames with the objects to be found; what is not judged is dark and striped."""
    frame_indices: tuple[int, ...]
    objects: tuple[ObjectLine, ...]
    expressions: tuple[tuple[str, int], ...]
    """Text, and the object it names."""


def draw_sample(release: Release, row_index: int, max_frames: int = 4) -> SamplePicture:
    """Draw a sample: frames spread evenly over it, the first one also without masks."""
    row, record = release.rows[row_index], release.read_record(row_index)
    positions = spread(record.num_frames, max_frames)
    images = [decode_image(data) for data in release.read_frames(row_index, positions)]
    space = release.manifest.label_space
    drawn = [(f"{record.frames[positions[0]].name}, as stored", _shrink(images[0]))]
    for position, image in zip(positions, images, strict=True):
        frame = record.frames[position]
        caption = frame.name if frame.labelled else f"{frame.name} (not labelled)"
        drawn.append((caption, draw_annotation(record, position, image, space)))
    return SamplePicture(
        key=row.key,
        record=record,
        flags=row.flags,
        frames=tuple(drawn),
        objects=tuple(_describe_track(track, space) for track in record.objects),
    )


def draw_annotation(
    record: VideoRecord, position: int, image: NDArray[np.uint8], space: LabelSpace | None
) -> Frame:
    """Draw the masks, regions and official prompts of one frame; large frames are shrunk."""
    frame = _shrink(image)
    size = frame.shape[:2]
    regions = [region.rles[position] for region in record.regions]
    ignored = _stack([_mask(counts, record, size) for counts in regions if counts is not None], size)
    shown = [(track, track.rles[position]) for track in record.objects]
    masks = [(track, _mask(counts, record, size)) for track, counts in shown if counts is not None]
    # Small objects are drawn last, on top of what they lie on.
    masks.sort(key=lambda pair: -int(pair[1].sum()))
    names = [_name(track, space) for track, _ in masks] if len(masks) <= _MAX_NAMES else []
    numbers = [track.object_id for track, _ in masks]
    frame = _darken(frame, np.asarray(ignored.any(axis=0), np.bool_))
    picture = overlay(frame, _stack([mask for _, mask in masks], size), names, numbers)
    scale = size[1] / record.width
    for prompt in record.prompts:
        if prompt.frame_index == record.frames[position].index:
            _draw_prompt(picture, prompt, scale)
    return picture


def draw_batch(batch: ClipBatch) -> tuple[ClipPicture, ...]:
    """Draw every clip of a training batch."""
    return tuple(_draw_clip(batch, index) for index in range(len(batch.keys)))


def input_pixels(batch: ClipBatch, index: int) -> NDArray[np.uint8]:
    """Undo normalization and padding of one clip: [T, h, w, 3]."""
    height, width = batch.image_sizes[index].tolist()
    mean, scale = torch.tensor(PIXEL_MEAN), torch.tensor(PIXEL_STD)
    pixels = batch.frames[index, :, :, :height, :width].permute(0, 2, 3, 1) * scale + mean
    return np.asarray(pixels.round().clamp(0, 255).to(torch.uint8).numpy())


def _draw_clip(batch: ClipBatch, index: int) -> ClipPicture:
    pixels, targets = input_pixels(batch, index), batch.targets[index]
    height, width = pixels.shape[1:3]
    masks = targets.masks[:, :, :height, :width].numpy()
    ignore = targets.ignore[:, :height, :width].numpy()
    numbers: list[int] = targets.object_ids.tolist()
    labels = batch.label_space.names if batch.label_space else ()
    names = [
        labels[label] if label >= 0 else f"#{number}"
        for label, number in zip(targets.labels.tolist(), numbers, strict=True)
    ]
    drawn = [
        overlay(_darken(frame, ignore[t]), masks[:, t], names, numbers) for t, frame in enumerate(pixels)
    ]
    visible: list[list[bool]] = targets.visible.tolist()
    lines = [
        ObjectLine(object_id=number, name=name, color=color_of(number), states=_runs("AV"[v] for v in row))
        for number, name, row in zip(numbers, names, visible, strict=True)
    ]
    rows: list[int] = targets.expression_objects.tolist()
    return ClipPicture(
        key=batch.keys[index],
        inputs=tuple(pixels),
        targets=tuple(drawn),
        frame_indices=tuple(batch.frame_indices[index].tolist()),
        objects=tuple(lines),
        expressions=tuple((text, numbers[row]) for text, row in zip(targets.expressions, rows, strict=True)),
    )


def _describe_track(track: ObjectTrack, space: LabelSpace | None) -> ObjectLine:
    return ObjectLine(
        object_id=track.object_id,
        name=_name(track, space),
        color=color_of(track.object_id),
        states=_runs(track.states),
    )


def _name(track: ObjectTrack, space: LabelSpace | None) -> str:
    crowd = " (crowd)" if track.is_crowd else ""
    if space is None or track.category_id is None:
        return f"#{track.object_id}{crowd}"
    return f"{space.names[space.label_of[track.category_id]]}{crowd}"


def _runs(letters: Iterable[str]) -> tuple[tuple[str, int], ...]:
    return tuple((letter, len(list(run))) for letter, run in groupby(letters))


def _shrink(image: NDArray[np.uint8]) -> Frame:
    height, width = image.shape[:2]
    scale = min(1.0, _MAX_SIDE_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _mask(counts: str, record: VideoRecord, size: tuple[int, int]) -> NDArray[np.bool_]:
    mask = decode_rle(counts, record.height, record.width).astype(np.uint8)
    return np.asarray(cv2.resize(mask, size[::-1], interpolation=cv2.INTER_NEAREST), np.bool_)


def _stack(masks: Sequence[NDArray[np.bool_]], size: tuple[int, int]) -> NDArray[np.bool_]:
    return np.stack(masks) if masks else np.zeros((0, *size), np.bool_)


def _darken(frame: Frame, unjudged: NDArray[np.bool_]) -> Frame:
    """Make pixels that are not judged dark, with stripes."""
    rows, columns = np.indices(unjudged.shape)
    stripes = (rows + columns) // _STRIPE_PX % 2 == 0
    factor = np.where(unjudged, np.where(stripes, _UNJUDGED_BRIGHTNESS, _UNJUDGED_BRIGHTNESS / 2), 1.0)
    return (frame * factor[..., None]).astype(np.uint8)


def _draw_prompt(picture: Frame, prompt: OfficialPrompt, scale: float) -> None:
    """Draw a point, box or scribble in the color of its object, edged in white; a mask is drawn already."""
    color = color_of(prompt.object_id) if prompt.object_id else (0, 0, 0)
    numbers = [round(number * scale) for number in prompt.coordinates]
    if prompt.kind == "point":
        center = (numbers[0], numbers[1])
        cv2.circle(picture, center, 5, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(picture, center, 3, color, -1, cv2.LINE_AA)
    elif prompt.kind == "box":
        left, top, width, height = numbers
        for thickness, ink in ((4, (255, 255, 255)), (2, color)):
            cv2.rectangle(picture, (left, top), (left + width, top + height), ink, thickness)
    elif prompt.kind == "scribble":
        line = np.asarray(numbers, np.int32).reshape(-1, 1, 2)
        for thickness, ink in ((5, (255, 255, 255)), (3, color)):
            cv2.polylines(picture, [line], isClosed=False, color=ink, thickness=thickness)
