"""ADE20K's SceneParse150: 20,210 train and 2,000 val images, 150 classes, 100 of them with instances.

- ``images/{training,validation}/*.jpg`` and ``annotations/.../*.png``: 8 bit, the class 1..150 of
  ``objectInfo150.txt``, 0 is "other objects". ``images/testing`` has no annotation.
- ``annotations_instance/.../*.png``, an archive of its own: R holds the instance class 1..100, G the number
  of the instance in the image (Places Challenge 2017). ``ade20k_instance_catid_mapping.txt`` (from ADE20K's
  repository) gives the class of each instance class; without it they are the built-in table's things in
  order.
- With instances, things and stuff partition the image. An instance wins over the class beneath it, as in
  Mask2Former's panoptic setting; where that is another class, the record's ``extra`` keeps it, with a
  warning. Pixels of a thing class without an instance are a crowd. Without instances, every class is stuff.

``source_id`` is the class, or ``instance class * 1000 + number``; ``item_id`` is the file stem.
"""

import csv
from collections.abc import Iterator
from pathlib import Path

from preprocessing.errors import ItemError, MissingFileError, SourceError, malformed_as_item_error
from preprocessing.sources.ade20k_labels import (
    INSTANCES,
    SEMANTIC,
    UNLABELLED,
    SceneLabels,
    read_panoptic,
    read_semantic,
    semantic_labels,
)
from preprocessing.sources.files import OfficialFile, list_names, read_lines, require_root, to_payload
from preprocessing.sources.label_images import read_image_size
from preprocessing.sources.source import ExpectedCounts, Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames, build_region, build_tracks
from univs.label_spaces import builtin_spaces
from univs.labels import Category, LabelSpace
from univs.schema import VideoRecord

_FOLDER_OF_SPLIT = {"train": "training", "val": "validation", "test": "testing"}
_NAMES = OfficialFile(
    path="objectInfo150.txt",
    expected="the classes, one a line, with Idx and Name among the columns of its first line",
    remedy="take it from ADEChallengeData2016.zip",
)
_MAPPING = OfficialFile(
    path="ade20k_instance_catid_mapping.txt",
    expected="an instance class and its class on every line but the first",
    remedy="take it from ADE20K's repository or delete it",
)


class Ade20k:
    """Reader of the ``ADEChallengeData2016`` tree, with or without ``annotations_instance``."""

    spec = SourceSpec(
        name="ade20k",
        task="detection",
        kind="image",
        needs=(
            "{images,annotations}/{training,validation}/, images/testing/, objectInfo150.txt; "
            "for things annotations_instance/{training,validation}/"
        ),
        expects="20,210 train and 2,000 val images, 150 classes; test without annotation",
        license="BSD-3-Clause (annotations); images for research only",
        splits=("train", "val", "test"),
        counts={"train": ExpectedCounts(num_items=20_210), "val": ExpectedCounts(num_items=2_000)},
        label_space_name="ade20k",
    )

    def label_space(self, root: Path) -> LabelSpace:
        """Read ``objectInfo150.txt``; classes that have instances are things."""
        lines = read_lines(root, _NAMES)
        things = set(_class_of_instance_class(root).values())
        try:
            rows = sorted((int(r["Idx"]), r["Name"].strip()) for r in csv.DictReader(lines, delimiter="\t"))
            categories = tuple(Category(category_id=i, name=n, is_thing=i in things) for i, n in rows)
            return LabelSpace(name="ade20k", categories=categories)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise _malformed(root, _NAMES, error) from error

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List every stem that has an image or an annotation."""
        require_split(self.spec, split)
        require_root(root)
        folder = _FOLDER_OF_SPLIT[split]
        parts = [(f"images/{folder}", ".jpg"), (f"{SEMANTIC}/{folder}", ".png")]
        stems = {Path(name).stem for part, suffix in parts for name in list_names(root / part, suffix)}
        if not stems:
            raise MissingFileError(
                f"--source {root}: images/{folder} holds no *.jpg; expected ADE_{split}_*.jpg; "
                "unpack ADEChallengeData2016.zip"
            )
        for stem in sorted(stems):
            yield Item(item_id=stem, num_frames=1, payload=to_payload())

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Decode the image's label PNGs."""
        with malformed_as_item_error(item.item_id):
            image = root / "images" / _FOLDER_OF_SPLIT[split] / f"{item.item_id}.jpg"
            has_truth = split != "test"
            labels = self._read_labels(root, split, item.item_id) if has_truth else _no_labels(image)
            masks = labels.masks if has_truth else None
            record = VideoRecord(
                dataset=self.spec.name,
                split=split,
                item_id=item.item_id,
                kind="image",
                height=labels.height,
                width=labels.width,
                label_space="ade20k",
                frames=build_frames([image.name], [has_truth]),
                objects=build_tracks([masks], labels.categories, labels.crowds),
                regions=build_region([masks], UNLABELLED, "unlabelled"),
                ground_truth="full" if has_truth else "none",
                is_partition=has_truth,
                license=self.spec.license,
                group=f"ade20k:{item.item_id}",
                extra=labels.extra,
            )
            return SourceVideo(record=record, frame_paths=(image,), findings=labels.findings)

    def _read_labels(self, root: Path, split: str, stem: str) -> SceneLabels:
        name = f"{_FOLDER_OF_SPLIT[split]}/{stem}.png"
        space = self.label_space(root)
        semantic = read_semantic(root, name, stem, space)
        class_of = _class_of_instance_class(root)
        if not class_of:
            return semantic_labels(semantic)
        labels = read_panoptic(root, name, stem, semantic, class_of)
        unknown = sorted({i for i in labels.categories.values() if i is not None} - space.label_of.keys())
        if unknown:
            message = f"{stem}: an instance is of class {unknown[0]}, which {_NAMES.path} lacks"
            raise ItemError("E123", message, f"{INSTANCES}/{name}")
        return labels


def _no_labels(image: Path) -> SceneLabels:
    height, width = read_image_size(image, image.stem)
    return SceneLabels(height=height, width=width, masks={}, categories={}, crowds=frozenset())


def _class_of_instance_class(root: Path) -> dict[int, int]:
    """Read which class each instance class is; empty where there are no instances."""
    if not (root / INSTANCES).is_dir():
        return {}
    if not (root / _MAPPING.path).exists():
        table = builtin_spaces()["ade20k"].labels.categories
        things = sorted(category.category_id for category in table if category.is_thing)
        return dict(enumerate(things, start=1))
    try:
        rows = [line.split() for line in read_lines(root, _MAPPING)[1:]]
        mapping = {int(row[0]): int(row[1]) for row in rows}
        if not mapping or not 1 <= min(mapping) <= max(mapping) <= 255:
            raise ValueError(f"{len(mapping)} instance classes")
        return mapping
    except (IndexError, ValueError) as error:
        if isinstance(error, SourceError):
            raise
        raise _malformed(root, _MAPPING, error) from error


def _malformed(root: Path, official: OfficialFile, error: Exception) -> SourceError:
    return SourceError(
        f"--source {root}: {official.path} is malformed ({type(error).__name__}: {error}); "
        f"expected {official.expected}; {official.remedy}"
    )
