"""DAVIS 2016 (one object per sequence) and DAVIS 2017 (several), every frame annotated.

Label PNGs hold object ids as stored palette indices, 0 is background. In 2017 the value 255 is void and not
judged; in 2016 any non-zero value is the one object. 2017 has 60 train, 30 val, 30 test-dev and 30
test-challenge sequences, 10,459 frames and 376 objects in all; 2016 has 30 train and 20 val. The test sets
publish the labels of frame 0 only. The 2016 archive lists image and mask pairs in ``ImageSets/480p/``;
later archives list sequence names in ``ImageSets/{2016,2017}/``. The 480p pictures are read, or those in
full resolution where they lie alone. Where there is a ``Scribbles`` folder (interactive track of 2017), its
strokes become prompts. ``item_id`` is the sequence's name.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from preprocessing.errors import malformed_as_item_error
from preprocessing.sources.davis_labels import read_sequence
from preprocessing.sources.davis_scribbles import Scribbles, read_scribbles
from preprocessing.sources.files import OfficialFile, read_lines, require_safe_name
from preprocessing.sources.first_masks import mask_prompts
from preprocessing.sources.official_fields import located
from preprocessing.sources.source import ExpectedCounts, Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames
from preprocessing.sources.video_folders import scan_video_folders
from univs.schema import Completeness, VideoRecord

FIRST_FRAME_SPLITS = ("test-dev", "test-challenge")
LICENSE = "BSD-2-Clause (annotations)"
_NEEDS = "JPEGImages/480p/<sequence>/*.jpg, Annotations/480p/<sequence>/*.png and ImageSets/"


@dataclass(frozen=True, kw_only=True, slots=True)
class Davis:
    """Reader of the DAVIS tree; the two years differ in lists and in the meaning of label values."""

    spec: SourceSpec
    year: int
    """2016 or 2017."""

    def label_space(self, root: Path) -> None:
        """DAVIS objects have no class."""

    def scan(self, root: Path, split: str) -> Iterator[Item]:
        """List the split's sequences by name."""
        require_split(self.spec, split)
        names = read_sequence_names(root, self.year, split)
        images = root / "JPEGImages" / resolution_of(root)
        return scan_video_folders(names, lambda name: images / name)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Decode the sequence's label PNGs."""
        labels = f"Annotations/{resolution_of(root)}/{item.item_id}"
        with located(labels), malformed_as_item_error(item.item_id):
            return self._read_sequence(root, split, item)

    def _read_sequence(self, root: Path, split: str, item: Item) -> SourceVideo:
        name = require_safe_name(item.item_id, item.item_id)
        frames: list[str] = json.loads(item.payload)["frames"]
        folder = f"Annotations/{resolution_of(root)}/{name}"
        is_dense = split not in FIRST_FRAME_SPLITS
        sequence = read_sequence(root, folder, frames, is_dense=is_dense, is_binary=self.year == 2016)
        scribbles = read_scribbles(root, name, sequence) if self.year == 2017 else Scribbles()
        record = VideoRecord(
            dataset=self.spec.name,
            split=split,
            item_id=name,
            kind="video",
            height=sequence.labels.height,
            width=sequence.labels.width,
            label_space=None,
            frames=build_frames(frames, [frame is not None for frame in sequence.labels.frames]),
            objects=sequence.objects,
            regions=sequence.regions,
            prompts=(*(() if split == "train" else mask_prompts(sequence.objects)), *scribbles.prompts),
            completeness=Completeness(is_partial=True),
            ground_truth="full" if sequence.is_full else "first_frame",
            license=self.spec.license,
            group=f"davis:{name}",
            extra=scribbles.extra,
        )
        images = root / "JPEGImages" / resolution_of(root) / name
        return SourceVideo(
            record=record,
            frame_paths=tuple(images / frame for frame in frames),
            findings=sequence.findings,
        )


DAVIS_2017 = Davis(
    spec=SourceSpec(
        name="davis_2017",
        task="sot",
        kind="video",
        needs=f"{_NEEDS}2017/<split>.txt; Scribbles/<sequence>/*.json if wanted",
        expects="60 train, 30 val, 30 test-dev and 30 test-challenge sequences (tests: first masks only)",
        license=LICENSE,
        splits=("train", "val", *FIRST_FRAME_SPLITS),
        counts={
            "train": ExpectedCounts(num_items=60),
            **{split: ExpectedCounts(num_items=30) for split in ("val", *FIRST_FRAME_SPLITS)},
        },
        prompts=("mask", "scribble"),
    ),
    year=2017,
)
DAVIS_2016 = Davis(
    spec=SourceSpec(
        name="davis_2016",
        task="sot",
        kind="video",
        needs=f"{_NEEDS}480p/{{train,val}}.txt (pairs) or ImageSets/2016/{{train,val}}.txt (names)",
        expects="30 train and 20 val sequences",
        license=LICENSE,
        splits=("train", "val"),
        counts={"train": ExpectedCounts(num_items=30), "val": ExpectedCounts(num_items=20)},
        prompts=("mask",),
    ),
    year=2016,
)


def resolution_of(root: Path) -> str:
    """Tell which of the two archives lies in the folder; 480p, which results are reported on, if both do."""
    folder = root / "JPEGImages"
    is_full_only = (folder / "Full-Resolution").is_dir() and not (folder / "480p").is_dir()
    return "Full-Resolution" if is_full_only else "480p"


def read_sequence_names(root: Path, year: int, split: str) -> set[str]:
    """Read a split's list of names, or of pairs of an image and a mask.

    Raises:
        SourceError: it is missing or empty.
    """
    official = OfficialFile(
        path=f"ImageSets/{year}/{split}.txt",
        expected=f"the sequence list of DAVIS {year}",
        remedy="unpack the DAVIS archive with its ImageSets folder",
    )
    pairs = root / f"ImageSets/480p/{split}.txt"
    if year == 2016 and pairs.exists() and not (root / official.path).exists():
        official = replace(official, path=f"ImageSets/480p/{split}.txt")
    return {_sequence_of(line) for line in read_lines(root, official)}


def _sequence_of(line: str) -> str:
    """Take ``bear`` from ``bear`` or from ``/JPEGImages/480p/bear/00000.jpg /Annotations/...``."""
    first = line.split()[0]
    return Path(first).parent.name if first.endswith(".jpg") else first
