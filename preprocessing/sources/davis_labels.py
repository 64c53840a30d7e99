"""The label PNGs of one DAVIS sequence, with or without those beyond its first frame."""

from collections.abc import Sequence as Row
from dataclasses import dataclass
from pathlib import Path

from preprocessing.errors import Finding, ItemError
from preprocessing.sources.files import list_names
from preprocessing.sources.first_masks import unknown_elsewhere
from preprocessing.sources.label_images import INDEX_MODES
from preprocessing.sources.tracks import build_region, build_tracks
from preprocessing.sources.video_folders import LabelVideo, read_label_video, require_dense_labels
from preprocessing.sources.vos_folders import read_sparse_labels
from univs.schema import ObjectTrack, Region

BACKGROUND, VOID = 0, 255


@dataclass(frozen=True, kw_only=True, slots=True)
class Sequence:
    """What the label PNGs of a sequence show."""

    labels: LabelVideo
    objects: tuple[ObjectTrack, ...]
    regions: tuple[Region, ...]
    findings: tuple[Finding, ...]

    @property
    def is_full(self) -> bool:
        """Whether every frame is annotated."""
        return None not in self.labels.frames


def read_sequence(
    root: Path, folder: str, frames: Row[str], *, is_dense: bool, is_binary: bool = False
) -> Sequence:
    """Decode the label PNGs of a sequence.

    Args:
        root: Source folder.
        folder: Where the PNGs lie, relative to it; its last part names the sequence.
        frames: Image files of the sequence.
        is_dense: Whether every frame must have its PNG; else those without are unknown.
        is_binary: Whether any value but 0 is the one object (2016); else 255 is void.

    Raises:
        ItemError: E102, E130, E131, E151 or E153 of the first thing that does not fit.
    """
    labels, findings = _read_labels(root, folder, frames, is_dense=is_dense, is_binary=is_binary)
    values = labels.values - {BACKGROUND} - (set() if is_binary else {VOID})
    objects = build_tracks(labels.frames, dict.fromkeys(values))
    return Sequence(
        labels=labels,
        objects=unknown_elsewhere(objects) if None in labels.frames else objects,
        regions=() if is_binary else build_region(labels.frames, VOID, "void"),
        findings=findings,
    )


def _read_labels(
    root: Path, folder: str, frames: Row[str], *, is_dense: bool, is_binary: bool
) -> tuple[LabelVideo, tuple[Finding, ...]]:
    name = Path(folder).name
    if not frames:
        raise ItemError("E153", f"{name}: no frames on disk; check the split list and unpack the images")
    if not is_dense:
        return read_sparse_labels(root, folder, name, frames)
    require_dense_labels(name, frames, list_names(root / folder, ".png"))
    paths = [root / folder / f"{Path(frame).stem}.png" for frame in frames]
    return read_label_video(paths, name, INDEX_MODES, is_binary=is_binary), ()
