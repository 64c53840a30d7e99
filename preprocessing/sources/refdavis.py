"""Ref-DAVIS17: referring expressions for the objects of DAVIS 2017, 60 train and 30 val sequences.

Two annotators each described every object after seeing its first frame, and again after the whole video:
``davis_text_annotations/Davis17_annot{1,2}.txt`` and ``Davis17_annot{1,2}_full_video.txt``, lines of
``sequence object "expression"``, about 1,544 in all. Results are the mean over these four sets, so each
expression keeps its set as ``origin`` and in its id (``annot1-full-27`` is line 27). The first annotator's
files are UTF-8, the second's Latin-1; three sequences are misspelt. Masks are DAVIS 2017's, in
``Annotations_unsupervised`` (which the benchmark scores against) or, where that is not there, in
``Annotations``; ``extra`` says which. The DAVIS tree lies in the source folder or in ``DAVIS`` inside it.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from preprocessing.errors import Finding, ItemError, malformed_as_item_error
from preprocessing.sources.davis import LICENSE, read_sequence_names, resolution_of
from preprocessing.sources.davis_labels import read_sequence
from preprocessing.sources.davis_text import Line, read_lines_by_sequence
from preprocessing.sources.files import is_safe_name, list_names, require_safe_name, to_payload
from preprocessing.sources.official_fields import extra_json, located
from preprocessing.sources.source import ExpectedCounts, Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames
from univs.schema import Completeness, Expression, ObjectTrack, VideoRecord


class RefDavis:
    """Reader of the DAVIS 2017 tree with ``davis_text_annotations``."""

    spec = SourceSpec(
        name="refdavis",
        task="grounding",
        kind="video",
        needs="davis_text_annotations/Davis17_annot{1,2}[_full_video].txt and the DAVIS 2017 tree "
        "(JPEGImages/480p, Annotations_unsupervised/480p or Annotations/480p, ImageSets/2017)",
        expects="60 train and 30 val sequences, four sets of expressions",
        license=LICENSE,
        splits=("train", "val"),
        counts={"train": ExpectedCounts(num_items=60), "val": ExpectedCounts(num_items=30)},
        prompts=("expression",),
    )

    def label_space(self, root: Path) -> None:
        """Objects are named by expressions and have no class."""

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the split's sequences by name; also those that only the texts name, which ``read`` rejects."""
        require_split(self.spec, split)
        tree = _tree(root)
        lines = read_lines_by_sequence(root)
        names = read_sequence_names(tree, 2017, split)
        strangers = lines.keys() - names - _names_of_other_splits(tree, split, lines)
        for name in sorted(names | strangers):
            images = tree / "JPEGImages" / resolution_of(tree) / name
            frames = list_names(images, ".jpg") if is_safe_name(name) and name in names else ()
            payload = to_payload(frames=frames, lines=lines.get(name, []), is_listed=name in names)
            yield Item(item_id=name, num_frames=len(frames), payload=payload)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Decode the sequence's label PNGs and attach the expressions."""
        with located(f"{_label_folder(_tree(root))}/{item.item_id}"), malformed_as_item_error(item.item_id):
            return self._read_sequence(root, split, item)

    def _read_sequence(self, root: Path, split: str, item: Item) -> SourceVideo:
        name, tree = require_safe_name(item.item_id, item.item_id), _tree(root)
        payload = json.loads(item.payload)
        frames, lines = payload["frames"], [Line(**line) for line in payload["lines"]]
        if not payload["is_listed"]:
            message = f"{name}: {len(lines)} expressions of a sequence that ImageSets/2017 does not list"
            raise ItemError("E122", message, lines[0].file, f"line {lines[0].number}")
        folder = f"{_label_folder(tree)}/{name}"
        sequence = read_sequence(tree, folder, frames, is_dense=True)
        record = VideoRecord(
            dataset=self.spec.name,
            split=split,
            item_id=name,
            kind="video",
            height=sequence.labels.height,
            width=sequence.labels.width,
            label_space=None,
            frames=build_frames(frames),
            objects=sequence.objects,
            regions=sequence.regions,
            expressions=tuple(_expression(name, line, sequence.objects) for line in lines),
            completeness=Completeness(is_partial=True),
            license=self.spec.license,
            group=f"davis:{name}",
            extra=extra_json(_provenance(tree, lines, name), {}),
        )
        images = tree / "JPEGImages" / resolution_of(tree) / name
        return SourceVideo(
            record=record,
            frame_paths=tuple(images / frame for frame in frames),
            findings=tuple(_latin_1(line) for line in lines if line.is_latin_1),
        )


def _tree(root: Path) -> Path:
    return root / "DAVIS" if (root / "DAVIS").is_dir() else root


def _label_folder(tree: Path) -> str:
    kinds = ("Annotations_unsupervised", "Annotations")
    found = next((kind for kind in kinds if (tree / kind / resolution_of(tree)).is_dir()), kinds[-1])
    return f"{found}/{resolution_of(tree)}"


def _names_of_other_splits(tree: Path, split: str, named: Mapping[str, Any]) -> set[str]:
    """Give the other split's sequences; where its list is missing, all sequences may be of it."""
    (other,) = {"train", "val"} - {split}
    has_list = (tree / f"ImageSets/2017/{other}.txt").exists()
    return read_sequence_names(tree, 2017, other) if has_list else set(named)


def _expression(name: str, line: Line, objects: tuple[ObjectTrack, ...]) -> Expression:
    object_ids = {track.source_id: track.object_id for track in objects}
    if line.object_id not in object_ids:
        known = ", ".join(object_ids) or "none"
        message = f'{name}: expression "{line.text}" is of object {line.object_id}, objects {known}'
        raise ItemError("E140", message, line.file, f"line {line.number}")
    return Expression(
        expression_id=f"{line.origin}-{line.number}",
        text=line.text,
        object_ids=(object_ids[line.object_id],),
        origin=line.origin,
    )


def _provenance(tree: Path, lines: list[Line], name: str) -> dict[str, Any]:
    """Say where the masks are from, and which lines spell the sequence in another way."""
    misspelt = {f"{line.origin}-{line.number}": line.sequence for line in lines if line.sequence != name}
    return {"labels": _label_folder(tree), **({"misspelt": misspelt} if misspelt else {})}


def _latin_1(line: Line) -> Finding:
    message = f'{line.sequence}: "{line.text}" is not valid UTF-8, read as Latin-1'
    return Finding(code="W143", message=message, file=line.file, pointer=f"line {line.number}")
