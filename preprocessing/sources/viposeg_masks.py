"""The label images of a VIPOSeg video: one folder in train; in valid one of first and one of all masks."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from preprocessing.errors import Finding, ItemError
from preprocessing.sources.label_images import INDEX_MODES
from preprocessing.sources.video_folders import LabelVideo, read_dense_video
from preprocessing.sources.vos_folders import BACKGROUND, read_sparse_labels
from univs.schema import OfficialPrompt


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoMasks:
    """The decoded label images of one video."""

    labels: LabelVideo
    """All there are: of every frame, or of those in which an object is first seen."""
    first: LabelVideo | None
    """Those in which an object is first seen, which hold that object only; ``None`` in train."""
    findings: tuple[Finding, ...]

    @property
    def has_truth(self) -> bool:
        """Whether every frame has its label image."""
        return self.labels is not self.first

    def prompts(self, name: str, object_ids: Mapping[int, int]) -> Iterator[OfficialPrompt]:
        """Prompt each object by its mask in the frame it is first given in.

        Raises:
            ItemError: E137 if an object has no other mask.
        """
        for index, value, _ in self._first_masks():
            if value not in object_ids:
                raise ItemError("E137", f"{name}: id {value} is in Annotations, but not in Annotations_gt")
            yield OfficialPrompt(kind="mask", object_id=object_ids[value], frame_index=index)

    def different_first_masks(self, frames: Sequence[str]) -> dict[str, dict[str, str]]:
        """Give the first masks that are not those of the full ground truth: run lengths by frame and id."""
        different: dict[str, dict[str, str]] = {}
        for index, value, counts in self._first_masks():
            if (self.labels.frames[index] or {}).get(value) != counts:
                different.setdefault(frames[index], {})[str(value)] = counts
        return different

    def _first_masks(self) -> Iterator[tuple[int, int, str]]:
        for index, frame in enumerate(self.first.frames if self.first else ()):
            for value, counts in (frame or {}).items():
                if value != BACKGROUND:
                    yield index, value, counts


def read_masks(root: Path, folder: str, name: str, frame_paths: tuple[Path, ...]) -> VideoMasks:
    """Decode what there is in ``train`` or ``valid``.

    Raises:
        ItemError: E102, E130, E131 or E151.
    """
    if folder == "train":
        labels = read_dense_video(name, frame_paths, root / folder / "Annotations" / name, INDEX_MODES, root)
        return VideoMasks(labels=labels, first=None, findings=())
    names = [path.name for path in frame_paths]
    first, findings = read_sparse_labels(root, f"{folder}/Annotations/{name}", name, names)
    full = root / folder / "Annotations_gt"
    labels = read_dense_video(name, frame_paths, full / name, INDEX_MODES, root) if full.is_dir() else first
    if (first.height, first.width) != (labels.height, labels.width):
        sizes = f"{first.width}x{first.height}, Annotations_gt {labels.width}x{labels.height}"
        message = f"{name}: Annotations {sizes} (w x h); expected one size"
        raise ItemError("E131", message, f"{folder}/Annotations/{name}")
    return VideoMasks(labels=labels, first=first, findings=findings)


def tell_different(name: str, folder: str, different: Mapping[str, Mapping[str, str]]) -> Iterator[Finding]:
    """Warn of what ``different_first_masks`` gives, frame by frame."""
    for frame, by_id in different.items():
        stem = Path(frame).stem
        yield Finding(
            code="W139",
            message=f"{name}/{stem}: first mask of object {', '.join(by_id)} is not that of Annotations_gt",
            file=f"{folder}/Annotations/{name}/{stem}.png",
        )
