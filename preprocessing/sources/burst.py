"""BURST: 2,914 videos of TAO with 16,089 mask tracks of 482 classes (ids of LVIS v0.5), labelled like LVIS.

``annotations/<split>/all_classes.json`` holds all tracks; ``common_classes.json`` and
``uncommon_classes.json`` repeat parts of them and are not read. ``first_frame_annotations.json`` (val,
test) adds a box and a point for the first frame of each track: official prompts, with the mask there. A
mask is a compressed run-length string without a size. Frames lie in
``frames/<split>/<dataset>/<sequence>/``; only annotated ones are stored (train is dense and mostly
machine-made: ``is_gt`` false, with a score; val and test have one per second), the names of all others stay
in ``extra``. A track that misses in an annotated frame is absent in val and test, unknown in train. Classes
that are neither annotated nor listed as absent were not looked for. Some clips of AVA and HACS need a
sign-up and some were withdrawn: a missing folder rejects its video. ``item_id`` is dataset/sequence.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from preprocessing.errors import ItemError, malformed_as_item_error
from preprocessing.sources.annotation_files import (
    load_thing_space,
    malformed,
    parse_thing_space,
    smallest_present,
)
from preprocessing.sources.burst_sequences import (
    PlacedSequence,
    index_sequences,
    load_first_frames,
    official_file,
)
from preprocessing.sources.burst_tracks import first_frame_prompts, read_sequence_tracks
from preprocessing.sources.files import load_json, require_safe_name, to_payload
from preprocessing.sources.official_fields import extra_json, located
from preprocessing.sources.source import Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames
from univs.labels import LabelSpace
from univs.schema import Completeness, VideoRecord

_HELD = {
    "width",
    "height",
    "seq_name",
    "dataset",
    "annotated_image_paths",
    "neg_category_ids",
    "not_exhaustive_category_ids",
    "track_category_ids",
    "segmentations",
}


class Burst:
    """Reader of ``frames/<split>/<dataset>/<sequence>/`` with ``annotations/<split>/*.json``."""

    spec = SourceSpec(
        name="burst",
        task="sot",
        kind="video",
        needs="frames/<split>/<dataset>/<sequence>/* and annotations/<split>/all_classes.json, "
        "for the prompts annotations/{val,test}/first_frame_annotations.json, too",
        expects="2,914 videos with 16,089 tracks in all, 482 categories; ground truth of all splits",
        license="MIT (annotations); videos under the terms of their sources",
        splits=("train", "val", "test"),
        label_space_name="burst",
        prompts=("mask", "box", "point"),
    )

    def label_space(self, root: Path) -> LabelSpace:
        """Read the categories from the smallest annotation file that is there."""
        files = [official_file(root, split) for split in self.spec.splits]
        return load_thing_space(root, smallest_present(root, files), "burst")

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the sequences by dataset and name, each with its first-frame annotations."""
        require_split(self.spec, split)
        official = official_file(root, split)
        body = load_json(root, official, ("sequences", "categories"))
        space = parse_thing_space(root, official, "burst", body)
        files = [official_file(root, known) for known in self.spec.splits]
        if smallest_present(root, files) != official and self.label_space(root) != space:
            raise malformed(root, official, "categories that differ from the other split's")
        sequences = index_sequences(root, official, body)
        del body
        first_frames = load_first_frames(root, split)
        for name in sorted(sequences):
            yield _scan_sequence(name, sequences[name], first_frames.get(name), space)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Turn the sequence's masks into tracks."""
        with located(official_file(root, split).path), malformed_as_item_error(item.item_id):
            return _read_sequence(self.spec, root, split, item)


def _scan_sequence(
    name: str, placed: PlacedSequence, first: PlacedSequence | None, space: LabelSpace
) -> Item:
    position, sequence = placed
    tracks = sequence.get("track_category_ids")
    categories = sorted(tracks.items()) if isinstance(tracks, dict) else []
    unknown = [(track, c) for track, c in categories if not isinstance(c, int) or c not in space.label_of]
    names = sequence.get("annotated_image_paths")
    return Item(
        item_id=name,
        num_frames=len(names) if isinstance(names, list) else 0,
        payload=to_payload(position=position, sequence=sequence, first=first, unknown=unknown),
    )


def _read_sequence(spec: SourceSpec, root: Path, split: str, item: Item) -> SourceVideo:
    payload = json.loads(item.payload)
    name, sequence = require_safe_name(item.item_id, item.item_id), payload["sequence"]
    pointer = f"/sequences/{payload['position']}"
    frames = [require_safe_name(name, path) for path in sequence["annotated_image_paths"]]
    _require_usable(root, split, item, pointer)
    tracks = read_sequence_tracks(name, sequence, pointer, is_exhaustive=split != "train")
    prompts = first_frame_prompts(name, frames, payload["first"], tracks.objects) if payload["first"] else ()
    record = VideoRecord(
        dataset=spec.name,
        split=split,
        item_id=name,
        kind="video",
        height=int(sequence["height"]),
        width=int(sequence["width"]),
        label_space=spec.label_space_name,
        frames=build_frames(frames),
        objects=tracks.objects,
        prompts=prompts,
        completeness=Completeness(
            is_federated=True,
            negative_category_ids=tuple(sequence["neg_category_ids"]),
            not_exhaustive_category_ids=tuple(sequence["not_exhaustive_category_ids"]),
        ),
        license=spec.license,
        group=f"tao:{name}",
        frames_per_second=_stored_rate(sequence),
        extra=_leftovers(sequence, tracks.never_visible),
    )
    folder = root / "frames" / split / name
    return SourceVideo(
        record=record,
        frame_paths=tuple(folder / frame for frame in frames),
        findings=tuple(replace(finding, file=official_file(root, split).path) for finding in tracks.findings),
    )


def _require_usable(root: Path, split: str, item: Item, pointer: str) -> None:
    unknown = json.loads(item.payload)["unknown"]
    if unknown:
        track, category_id = unknown[0]
        message = f"{item.item_id}: track {track} has category_id {category_id}, not in categories[]"
        raise ItemError("E123", message, pointer=f"{pointer}/track_category_ids/{track}")
    folder = f"frames/{split}/{item.item_id}"
    if not (root / folder).is_dir():
        message = (
            f"{item.item_id}: no folder {folder}; its source has withdrawn the clip, or it is not unpacked"
        )
        raise ItemError("E101", message, folder)


def _stored_rate(sequence: Mapping[str, Any]) -> float | None:
    """Tell the rate of the annotated frames, ``None`` where they are not evenly spaced."""
    places = {path: place for place, path in enumerate(sequence["all_image_paths"])}
    annotated = [places.get(path, -1) for path in sequence["annotated_image_paths"]]
    steps = {after - before for before, after in pairwise(annotated)}
    rate = sequence["fps"]
    return rate / steps.pop() if rate and -1 not in annotated and len(steps) == 1 and min(steps) > 0 else None


def _leftovers(sequence: Mapping[str, Any], never_visible: Mapping[str, int]) -> str:
    """Serialize what the record does not hold, among it the names of the frames in between."""
    rest = {name: value for name, value in sequence.items() if name not in _HELD}
    left_out = {"left_out": dict(never_visible)} if never_visible else {}
    return extra_json({**rest, **left_out}, {"all_image_paths": sequence["annotated_image_paths"]})
