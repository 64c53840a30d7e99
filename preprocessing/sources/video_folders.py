"""Videos kept as one folder of frames and one folder of label PNGs."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from preprocessing.errors import ItemError
from preprocessing.masks import encode_label_map
from preprocessing.sources.files import is_safe_name, list_names, to_payload
from preprocessing.sources.label_images import read_image_size, read_label_image, require_label_size
from preprocessing.sources.official_fields import located
from preprocessing.sources.source import Item
from preprocessing.sources.tracks import FrameLabels


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelVideo:
    """The decoded label images of one video."""

    frames: tuple[FrameLabels | None, ...]
    """Run lengths by label value, ``None`` where the frame has no label image."""
    height: int
    width: int

    @property
    def values(self) -> set[int]:
        """All label values that appear."""
        return {value for frame in self.frames if frame is not None for value in frame}

    def first_frame(self, value: int) -> int:
        """Find the position of the first frame that shows a value.

        Raises:
            StopIteration: none does.
        """
        return next(i for i, frame in enumerate(self.frames) if frame is not None and value in frame)


def scan_video_folders(names: Iterable[str], folder_of: Callable[[str], Path]) -> Iterator[Item]:
    """List videos by name with their frames; unsafe names are listed unopened, for ``read`` to reject."""
    for name in sorted(names):
        frames = list_names(folder_of(name), ".jpg") if is_safe_name(name) else ()
        yield Item(item_id=name, num_frames=len(frames), payload=to_payload(frames=frames))


def require_frames(item_id: str, image_names: Sequence[str]) -> None:
    """Refuse a video whose folder is missing or empty.

    Raises:
        ItemError: E153.
    """
    if not image_names:
        raise ItemError("E153", f"{item_id}: no frames on disk; check the split list and unpack the images")


def require_dense_labels(item_id: str, image_names: Sequence[str], label_names: Sequence[str]) -> None:
    """Check that every frame of a densely annotated video has its label PNG and the reverse.

    Raises:
        ItemError: E153 without any frame, E151 if one side lacks a frame.
    """
    require_frames(item_id, image_names)
    images, labels = {Path(name).stem for name in image_names}, {Path(name).stem for name in label_names}
    if images != labels:
        example = min(images ^ labels)
        side = "label" if example in images else "image"
        raise ItemError(
            "E151", f"{item_id}: {len(images)} jpg, {len(labels)} png; frame {example} has no {side} file"
        )


def read_label_video(
    paths: Sequence[Path | None],
    item_id: str,
    modes: tuple[str, ...],
    *,
    is_binary: bool = False,
    root: Path | None = None,
) -> LabelVideo:
    """Decode one label image per frame; the first one sets the size the others must have.

    ``is_binary`` maps every non-zero value to 1. Without any label image the size is 0 x 0. Errors name the
    image relative to ``root``, if it is given.

    Raises:
        ItemError: E102, E130, E131 or E151 of the first image that does not fit.
    """
    frames: list[FrameLabels | None] = []
    size: tuple[int, int] | None = None
    for path in paths:
        if path is None:
            frames.append(None)
            continue
        with located(path.relative_to(root).as_posix() if root else ""):
            labels = read_label_image(path, modes, item_id)
            size = size or (labels.shape[0], labels.shape[1])
            require_label_size(labels, *size, f"{item_id}/{path.name}")
        frames.append(encode_label_map((labels != 0).astype(np.uint8) if is_binary else labels))
    height, width = size or (0, 0)
    return LabelVideo(frames=tuple(frames), height=height, width=width)


def read_dense_video(
    item_id: str, frame_paths: Sequence[Path], labels: Path | None, modes: tuple[str, ...], root: Path
) -> LabelVideo:
    """Decode the label PNGs of a video that has one per frame.

    Args:
        item_id: Names the video in messages.
        frame_paths: Its frames, in order.
        labels: Folder of its PNGs, ``None`` where ground truth is not published: only the size is read then.
        modes: Pillow modes the PNGs may have.
        root: The source folder.

    Raises:
        ItemError: E101, E102, E130, E131, E151 or E153.
    """
    names = [path.name for path in frame_paths]
    require_frames(item_id, names)
    if labels is None:
        return read_unlabelled_video(frame_paths[0], len(names), item_id)
    with located(labels.relative_to(root).as_posix()):
        require_dense_labels(item_id, names, list_names(labels, ".png"))
    paths = [labels / f"{path.stem}.png" for path in frame_paths]
    return read_label_video(paths, item_id, modes, root=root)


def read_unlabelled_video(first_frame: Path, num_frames: int, item_id: str) -> LabelVideo:
    """Give the size of a video whose ground truth is not published, and no labels.

    Raises:
        ItemError: E101 or E102 if its first frame cannot be read.
    """
    height, width = read_image_size(first_frame, item_id)
    return LabelVideo(frames=(None,) * num_frames, height=height, width=width)
