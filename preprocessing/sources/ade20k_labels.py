"""The two label images of an ADE20K image, classes and instances, as one partition.

Values of the joined labels are classes, or ``instance class * 1000 + number``. Legend: label maps are [H, W].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from preprocessing.errors import Finding, ItemError
from preprocessing.masks import encode_label_map
from preprocessing.sources.label_images import (
    INDEX_MODES,
    read_label_image,
    read_segment_ids,
    require_label_size,
)
from preprocessing.sources.official_fields import located
from preprocessing.sources.tracks import FrameLabels
from univs.labels import LabelSpace
from univs.schema import canonical_json

UNLABELLED = 0
NUMBERS_PER_CLASS = 1000
SEMANTIC, INSTANCES = "annotations", "annotations_instance"


@dataclass(frozen=True, kw_only=True, slots=True)
class SceneLabels:
    """The labels of one image."""

    height: int
    width: int
    masks: FrameLabels
    """Run lengths by joined value."""
    categories: Mapping[int, int | None]
    """The class of each joined value but 0."""
    crowds: frozenset[int]
    """Values of thing classes that say nothing of instances."""
    extra: str = ""
    """Classes beneath instances that are of another class: JSON of run lengths by class."""
    findings: tuple[Finding, ...] = ()


def read_semantic(root: Path, name: str, where: str, space: LabelSpace) -> NDArray[np.int32]:
    """Decode the classes of an image.

    Args:
        root: The source folder.
        name: The PNG below ``annotations``.
        where: Names the image in messages.
        space: The classes there are.

    Raises:
        ItemError: E102, E129, E130 or E151.
    """
    with located(f"{SEMANTIC}/{name}"):
        labels = read_label_image(root / SEMANTIC / name, INDEX_MODES, where)
        for value in np.flatnonzero(np.bincount(labels.ravel())).tolist():
            if value != UNLABELLED and value not in space.label_of:
                message = f"{where}: value {value}; expected 0 or one of {min(space.label_of)}"
                raise ItemError("E129", f"{message}..{max(space.label_of)}")
        return labels.astype(np.int32)


def semantic_labels(semantic: NDArray[np.int32]) -> SceneLabels:
    """Make one object per class."""
    masks = encode_label_map(semantic)
    height, width = semantic.shape
    categories = {value: value for value in masks if value != UNLABELLED}
    return SceneLabels(height=height, width=width, masks=masks, categories=categories, crowds=frozenset())


def read_panoptic(
    root: Path, name: str, where: str, semantic: NDArray[np.int32], class_of: Mapping[int, int]
) -> SceneLabels:
    """Put the instances of an image onto its classes.

    Args:
        root: The source folder.
        name: The PNG below ``annotations_instance``.
        where: Names the image in messages.
        semantic: What ``read_semantic`` gives.
        class_of: Class by instance class; these are the thing classes.

    Raises:
        ItemError: E102, E129, E130, E131 or E151.
    """
    height, width = semantic.shape
    with located(f"{INSTANCES}/{name}"):
        colors = read_segment_ids(root / INSTANCES / name, where)
        require_label_size(colors, height, width, where)
        instance_class, number = colors & 0xFF, colors >> 8
        for color in np.unique(colors).tolist():
            _check_color(where, color, class_of)
    table = np.zeros(256, dtype=np.int32)
    table[list(class_of)] = list(class_of.values())
    beneath = table[instance_class]
    joined = np.where(instance_class > 0, instance_class * NUMBERS_PER_CLASS + number, semantic)
    masks = encode_label_map(joined)
    differs = (instance_class > 0) & (semantic != beneath)
    hidden = encode_label_map(np.where(differs, semantic, -1))
    hidden.pop(-1, None)
    finding = Finding(
        code="W139",
        message=f"{where}: {int(differs.sum())} pixels of instances are of another class in {SEMANTIC}",
        file=f"{INSTANCES}/{name}",
    )
    return SceneLabels(
        height=height,
        width=width,
        masks=masks,
        categories={v: class_of.get(v // NUMBERS_PER_CLASS, v) for v in masks if v != UNLABELLED},
        crowds=frozenset(v for v in masks if v in class_of.values() or v and v % NUMBERS_PER_CLASS == 0),
        extra=canonical_json({"semantic": {str(v): rle for v, rle in hidden.items()}}).decode()
        if hidden
        else "",
        findings=(finding,) if hidden else (),
    )


def _check_color(where: str, color: int, class_of: Mapping[int, int]) -> None:
    red, green, blue = color & 0xFF, color >> 8 & 0xFF, color >> 16
    if color and (blue or red not in class_of):
        raise ItemError(
            "E129",
            f"{where}: color ({red}, {green}, {blue}); expected R of {min(class_of)}..{max(class_of)} "
            "for the instance class, G for the instance, B of 0",
        )
