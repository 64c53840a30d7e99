"""DAVIS 2016 (one object per sequence) and DAVIS 2017 (several), 480p, every frame annotated.

Label PNGs hold object ids as stored palette indices, 0 is background. In 2017 the value 255 is void and not
judged; in 2016 any non-zero value is the one object. 2017 has 60 train and 30 val sequences, 2016 has 30 and
20. The 2016 archive lists image and mask pairs in ``ImageSets/480p/``; later archives list sequence names in
``ImageSets/{2016,2017}/``. ``item_id`` is the sequence's name.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from preprocessing.errors import malformed_as_item_error
from preprocessing.sources.files import OfficialFile, list_names, read_lines, require_safe_name
from preprocessing.sources.label_images import INDEX_MODES
from preprocessing.sources.source import Item, SourceSpec, SourceVideo, require_split
from preprocessing.sources.tracks import build_frames, build_region, build_tracks
from preprocessing.sources.video_folders import read_label_video, require_dense_labels, scan_video_folders
from univs.schema import VideoRecord

BACKGROUND, VOID = 0, 255
_IMAGES, _LABELS = "JPEGImages/480p", "Annotations/480p"
_LICENSE = "BSD-2-Clause (annotations)"
_NEEDS = f"{_IMAGES}/<sequence>/*.jpg, {_LABELS}/<sequence>/*.png and ImageSets/"


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
        names = _read_sequence_names(root, self.year, split)
        return scan_video_folders(names, lambda name: root / _IMAGES / name)

    def read(self, root: Path, split: str, item: Item) -> SourceVideo:
        """Decode the sequence's label PNGs."""
        with malformed_as_item_error(item.item_id):
            return self._read_sequence(root, split, item)

    def _read_sequence(self, root: Path, split: str, item: Item) -> SourceVideo:
        name = require_safe_name(item.item_id, item.item_id)
        frames = json.loads(item.payload)["frames"]
        require_dense_labels(name, frames, list_names(root / _LABELS / name, ".png"))
        paths = [root / _LABELS / name / f"{Path(frame).stem}.png" for frame in frames]
        labels = read_label_video(paths, name, INDEX_MODES, is_binary=self.year == 2016)
        has_void = self.year == 2017
        values = labels.values - {BACKGROUND} - ({VOID} if has_void else set())
        record = VideoRecord(
            dataset=self.spec.name,
            split=split,
            item_id=name,
            kind="video",
            height=labels.height,
            width=labels.width,
            label_space=None,
            frames=build_frames(frames),
            objects=build_tracks(labels.frames, dict.fromkeys(values)),
            regions=build_region(labels.frames, VOID, "void") if has_void else (),
            license=self.spec.license,
        )
        return SourceVideo(record=record, frame_paths=tuple(root / _IMAGES / name / f for f in frames))


DAVIS_2017 = Davis(
    spec=SourceSpec(
        name="davis_2017",
        task="sot",
        kind="video",
        needs=f"{_NEEDS}2017/{{train,val}}.txt",
        expects="60 train and 30 val sequences",
        license=_LICENSE,
        splits=("train", "val"),
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
        license=_LICENSE,
        splits=("train", "val"),
    ),
    year=2016,
)


def _read_sequence_names(root: Path, year: int, split: str) -> set[str]:
    official = OfficialFile(
        path=f"ImageSets/{year}/{split}.txt",
        expected=f"the sequence list of DAVIS {year}",
        remedy="unpack the DAVIS archive with its ImageSets folder",
    )
    pairs = root / f"ImageSets/480p/{split}.txt"
    if year == 2016 and pairs.exists() and not (root / official.path).exists():
        official = OfficialFile(
            path=f"ImageSets/480p/{split}.txt", expected=official.expected, remedy=official.remedy
        )
    return {_sequence_of(line) for line in read_lines(root, official)}


def _sequence_of(line: str) -> str:
    """Take ``bear`` from ``bear`` or from ``/JPEGImages/480p/bear/00000.jpg /Annotations/...``."""
    first = line.split()[0]
    return Path(first).parent.name if first.endswith(".jpg") else first
