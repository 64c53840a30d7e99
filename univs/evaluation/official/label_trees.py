"""Trees of label PNGs, one folder per video: what every VOS benchmark and its predictions are stored as."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from univs.draw import Frame
from univs.evaluation.objects import LabelMap, ObjectPartial, score_objects
from univs.evaluation.official.case import Comparison, Scores, in_percent
from univs.evaluation.official.files import (
    check_size,
    name_unpredicted,
    read_frame,
    read_indexed,
    spread,
)
from univs.predictions import ObjectVideo

Partial = TypeVar("Partial")


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelVideo:
    """One video on both sides."""

    name: str
    truth: Path
    """Folder of ``<frame>.png``."""
    prediction: Path
    """Folder of ``<frame>.png``."""
    stems: tuple[str, ...]
    """The frames that are compared."""
    is_predicted: tuple[bool, ...]
    """By frame; what is not predicted is scored as empty."""
    pictures: Path | None = None
    """Folder of ``<frame>.jpg``, if the benchmark has one."""

    def read(self, stems: Sequence[str] | None = None) -> Iterator[tuple[LabelMap, LabelMap]]:
        """Decode predicted and true maps, all or those of ``stems``, a frame at a time.

        Raises:
            ValueError: a file is no map of ids, or the sizes differ.
        """
        predicted = dict(zip(self.stems, self.is_predicted, strict=True))
        for stem in self.stems if stems is None else stems:
            theirs = read_indexed(self.truth / f"{stem}.png")
            if predicted[stem]:
                yield read_like(self.prediction / f"{stem}.png", theirs), theirs
            else:
                yield np.zeros_like(theirs), theirs


@dataclass(frozen=True, kw_only=True, slots=True)
class LabelCase(Generic[Partial]):
    """An opened case of a benchmark whose items are videos of label PNGs."""

    videos: tuple[LabelVideo, ...]
    missing: tuple[str, ...]
    judge: Callable[[int], Partial]
    """Compares the video of an index."""
    summarize: Callable[[Sequence[Partial]], Scores]
    """Merges partials, in any order."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the videos."""
        return tuple(video.name for video in self.videos)

    def compare(self, index: int) -> Partial:
        """Compare one video."""
        return self.judge(index)

    def score(self, partials: Sequence[Partial]) -> Scores:
        """Merge the videos; their order does not matter."""
        return self.summarize(partials)

    def show(self, index: int, num_frames: int) -> Comparison:
        """Read some frames of a video with all objects of both maps."""
        video = self.videos[index]
        stems = spread(video.stems, num_frames)
        ours, theirs = (np.stack(maps) for maps in zip(*video.read(stems), strict=True))
        ids = np.union1d(ours, theirs)
        return compare_objects(video, stems, ours, theirs, ids[ids > 0].tolist())


def compare_objects(
    video: LabelVideo, stems: Sequence[str], ours: LabelMap, theirs: LabelMap, ids: Sequence[int]
) -> Comparison:
    """Make [T, H, W] maps of chosen frames ready to be drawn."""
    truth, prediction = (
        ObjectVideo(
            video_id=video.name,
            object_ids=tuple(map(str, ids)),
            masks=np.asarray(ids, np.uint8)[:, None, None, None] == maps,
            frame_names=tuple(stems),
        )
        for maps in (theirs, ours)
    )
    frames = read_pictures(video.pictures, stems, theirs.shape[1:])
    return Comparison(truth=truth, prediction=prediction, frames=frames, labels=None)


def read_pictures(folder: Path | None, stems: Sequence[str], size: tuple[int, ...]) -> list[Frame]:
    """Read the pictures of chosen frames, gray where there is none."""
    height, width = size
    return [read_frame(None if folder is None else folder / f"{stem}.jpg", (height, width)) for stem in stems]


def open_video(
    name: str,
    truth: Path,
    prediction: Path,
    stems: Sequence[str] | None = None,
    pictures: Path | None = None,
) -> LabelVideo:
    """Pair the PNGs of a video; ``stems`` are those of the ground truth if not given.

    Raises:
        ValueError: ground truth is missing.
    """
    own = list_stems(truth)
    absent = sorted(set(stems or ()) - set(own))
    if not own or absent:
        raise ValueError(
            f"{truth}: {f'no {absent[0]}.png' if absent else 'no PNG'}, expected the ground truth of video "
            f"{name!r}; unpack the annotations whole"
        )
    chosen = tuple(own if stems is None else stems)
    found = frozenset(list_stems(prediction))
    return LabelVideo(
        name=name,
        truth=truth,
        prediction=prediction,
        stems=chosen,
        is_predicted=tuple(stem in found for stem in chosen),
        pictures=pictures,
    )


def list_stems(folder: Path) -> list[str]:
    """List the names of the PNGs of a folder, sorted; none where there is no folder."""
    return sorted(path.stem for path in folder.glob("*.png"))


def unpredicted(videos: Sequence[LabelVideo]) -> list[str]:
    """Name the videos, and single frames of others, that are not predicted."""
    return [
        name for video in videos for name in name_unpredicted(video.name, video.stems, video.is_predicted)
    ]


def prediction_root(pred: Path) -> Path:
    """Give the folder that holds the videos: ``Annotations``, as some servers want it, or the top."""
    return pred / "Annotations" if (pred / "Annotations").is_dir() else pred


def read_like(path: Path, theirs: LabelMap) -> LabelMap:
    """Read a predicted map, of the size of the true one.

    Raises:
        ValueError: it is no map of ids, or of another size.
    """
    ours = read_indexed(path)
    check_size(path, ours.shape, theirs.shape)
    return ours


def score_videos(
    partials: Sequence[ObjectPartial], *, is_decay_mended: bool, metrics: Sequence[str]
) -> Scores:
    """Average over objects: of all videos, and of each."""
    return Scores(
        values=object_values(partials, is_decay_mended=is_decay_mended, metrics=metrics),
        items={
            part.video_id: object_values([part], is_decay_mended=is_decay_mended, metrics=metrics)
            for part in partials
        },
    )


def object_values(
    partials: Sequence[ObjectPartial], *, is_decay_mended: bool, metrics: Sequence[str]
) -> dict[str, float]:
    """Give some of ``REGION_METRICS`` in percent."""
    values = score_objects(partials, is_decay_mended=is_decay_mended).by_metric
    return in_percent({metric: values[metric] for metric in metrics})
