"""What annotation files in COCO's style share: a table of categories, masks in four forms, ids and scores."""

import math
from array import array
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

import numpy as np
from pycocotools import mask as coco_mask

from univs.evaluation.instance import (
    InstancePartial,
    InstanceRules,
    named_scores,
    score_alone,
    score_instances,
)
from univs.evaluation.official.case import Scores, in_percent
from univs.evaluation.official.files import field_of, read_json
from univs.labels import Category, LabelSpace

NUMBER = (int, float)
Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Item:
    """A video or an image with its rows, each with its place in the file."""

    item_id: int
    height: int
    width: int
    file_names: tuple[str, ...]
    """One per frame; an image has one."""
    truths: Sequence[tuple[int, Row]]
    detections: Sequence[tuple[int, Row]]


@dataclass(frozen=True, kw_only=True, slots=True)
class CocoFiles:
    """Ground truth and predictions in COCO's style, read and grouped."""

    labels: LabelSpace
    items: tuple[Item, ...]
    found: Sequence[Row]
    """All detections."""


def read_files(gt: Path, pred: Path, name: str, item: Literal["video", "image"]) -> CocoFiles:
    """Read both files and group their annotations and detections by video or image.

    Raises:
        ValueError: a field is missing or of another type, an id unknown or there twice, or a score is none.
    """
    body, found = read_json(gt), read_json(pred)
    labels = read_labels(name, body, gt)
    items = index_rows(field_of(body, f"{item}s", list, str(gt)), f"{gt}: {item}")
    rows = field_of(body, "annotations", list, f"{gt}: ground truth is not withheld")
    index_rows(rows, f"{gt}: annotation")
    if not isinstance(found, list):
        raise ValueError(f"{pred}: {type(found).__name__}, expected a list of what is detected")
    truths = group_rows(rows, f"{item}_id", items, labels, f"{gt}: annotation")
    detections = group_rows(found, f"{item}_id", items, labels, f"{pred}: item")
    check_scores(found, f"{pred}: item")
    return CocoFiles(
        labels=labels,
        items=tuple(
            Item(
                item_id=key,
                height=field_of(row, "height", int, f"{gt}: {item} {key}"),
                width=field_of(row, "width", int, f"{gt}: {item} {key}"),
                file_names=_file_names(row, f"{gt}: {item} {key}"),
                truths=truths[key],
                detections=detections[key],
            )
            for key, row in items.items()
        ),
        found=found,
    )


def _file_names(row: Row, where: str) -> tuple[str, ...]:
    if "file_names" in row:
        return tuple(field_of(row, "file_names", list, where))
    return (field_of(row, "file_name", str, where),)


def read_labels(name: str, body: Mapping[str, Any], path: Path) -> LabelSpace:
    """Read the table of categories, whose ids may have gaps and come in any order.

    Raises:
        ValueError: there is none, a field is missing, or an id is there twice.
    """
    rows = field_of(body, "categories", list, str(path))
    where = f"{path}: category"
    categories = [
        Category(
            category_id=field_of(row, "id", int, where), name=field_of(row, "name", str, where), is_thing=True
        )
        for row in rows
    ]
    _refuse_repeats([category.category_id for category in categories], f"{path}: category id")
    return LabelSpace(name=name, categories=tuple(sorted(categories, key=lambda c: c.category_id)))


def merge_instances(partials: Sequence[InstancePartial], rules: InstanceRules, labels: LabelSpace) -> Scores:
    """Merge videos or images in percent; their order does not matter.

    Strata are for all together: single items are too small for them.
    """
    names = labels.distinct_names
    scores = score_instances(partials, rules)
    items = zip(partials, score_alone(partials), strict=True)
    return Scores(
        values=in_percent(named_scores(scores, rules)),
        items={part.video_id: in_percent(values) for part, values in items},
        classes={
            names[label]: in_percent({"ap": row.ap, "ap50": row.ap50, "ar100": row.ar100})
            for label, row in scores.classes.items()
        },
    )


def index_rows(rows: Sequence[Mapping[str, Any]], where: str) -> dict[int, Mapping[str, Any]]:
    """Give rows by id.

    Raises:
        ValueError: an id is missing, no integer, or there twice.
    """
    ids = [field_of(row, "id", int, where) for row in rows]
    _refuse_repeats(ids, f"{where} id")
    return dict(zip(ids, rows, strict=True))


def group_rows(
    rows: Sequence[Mapping[str, Any]], key: str, known: Mapping[int, Any], labels: LabelSpace, where: str
) -> dict[int, list[tuple[int, Mapping[str, Any]]]]:
    """Collect annotations or detections by video or image, each with its place in the file.

    Raises:
        ValueError: the video, image or category of one is not in the ground truth.
    """
    groups: dict[int, list[tuple[int, Mapping[str, Any]]]] = {item: [] for item in known}
    for place, row in enumerate(rows):
        try:
            if row["category_id"] in labels.label_of:
                groups[row[key]].append((place, row))
                continue
        except (KeyError, TypeError):
            pass
        _refuse_row(row, {key: len(groups), "category_id": len(labels.categories)}, f"{where} {place}")
    return groups


def read_score(row: Mapping[str, Any], where: str) -> float:
    """Read the score of a detection.

    Raises:
        ValueError: it is missing or no finite number.
    """
    score = float(field_of(row, "score", NUMBER, where))
    if not math.isfinite(score):
        raise ValueError(f"{where}: score {score}, expected a finite number; mend the model")
    return score


def check_scores(rows: Sequence[Mapping[str, Any]], where: str) -> None:
    """Check the scores of all detections of a file.

    Raises:
        ValueError: one is missing or no finite number.
    """
    try:
        if math.isfinite(math.fsum([row["score"] for row in rows])):
            return
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    for place, row in enumerate(rows):
        read_score(row, f"{where} {place}")


def read_masks(
    masks: Sequence[Any], size: Sequence[int], where: Callable[[int], str]
) -> tuple[str | None, ...]:
    """Give the compressed run lengths of many masks; ``None`` and an empty list of polygons are no mask.

    Raises:
        ValueError: one is none of run lengths (compressed or not) and polygons, or of another size;
            ``where`` names it.
    """
    # Nearly all masks are compressed already and taken as they are; no call is spent on them.
    return tuple(
        [
            mask["counts"]
            if isinstance(mask, dict) and isinstance(mask.get("counts"), str) and mask.get("size") == size
            else _read_mask(mask, size, where(n))
            for n, mask in enumerate(masks)
        ]
    )


def _refuse_row(row: Any, known: Mapping[str, int], where: str) -> NoReturn:
    """Say what is wrong with a row whose ids are not known."""
    for key in known:
        field_of(row, key, int, where)
    found = ", ".join(f"{key} {row[key]}" for key in known)
    expected = " and ".join(f"one of the {number} known as {key}" for key, number in known.items())
    raise ValueError(f"{where}: {found}, expected {expected} in the ground truth; give the dataset's own ids")


def _refuse_repeats(ids: Sequence[int], where: str) -> None:
    repeated = [number for number, count in Counter(ids).items() if count > 1]
    if repeated:
        raise ValueError(f"{where} {repeated[0]} is there more than once, expected each once")


def _read_mask(segmentation: Any, size: Sequence[int], where: str) -> str | None:
    if not segmentation:
        return None
    height, width = size
    try:
        if isinstance(segmentation, list):
            merged = coco_mask.merge(coco_mask.frPyObjects(segmentation, height, width))
            return str(merged["counts"], "ascii")
        if list(segmentation["size"]) != [height, width]:
            raise ValueError(
                f"{where}: mask of size {segmentation['size']}, expected [{height}, {width}] (height, "
                "width); predict at the size of the ground truth"
            )
        if isinstance(segmentation["counts"], str):
            return segmentation["counts"]
        # The library reads a buffer faster than a list.
        runs = np.frombuffer(array("I", segmentation["counts"]), np.uint32)
        whole = coco_mask.frPyObjects({"size": segmentation["size"], "counts": runs}, height, width)
        return str(whole["counts"], "ascii")
    except (KeyError, TypeError, IndexError, OverflowError) as error:
        raise ValueError(
            f"{where}: {segmentation!r:.80} is no mask ({error}), expected {{size, counts}} or polygons"
        ) from error
