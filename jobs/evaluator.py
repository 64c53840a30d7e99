"""The actor of batch evaluation: holds the model, scores one video after another."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from jobs.errors import mistakes_travel
from jobs.submissions import Part, write_part
from univs.data.videos import Video
from univs.draw import Frame, to_png, write_video
from univs.evaluation.benchmarks import (
    BENCHMARKS,
    Partial,
    Prediction,
    evaluate_video,
    truth_of,
)
from univs.evaluation.pictures import draw_comparison
from univs.inference.benchmarks import predict
from univs.inference.config import InferenceConfig
from univs.labels import LabelSpace
from univs.model.univs import UniVS
from univs.model.weights import load_checkpoint

_PICTURE_WIDTH_PX = 480


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkItem:
    """One video (or image) of one benchmark."""

    benchmark: str
    video: Video
    num_frames: int
    inference: InferenceConfig
    seed: int
    is_drawn: bool
    """Whether pictures come back with the score."""
    submissions: Path | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """An overlay, truth beside prediction."""

    benchmark: str
    item_id: str
    png: bytes
    """The middle frame."""
    mp4: bytes
    """The whole video; empty for an image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ItemResult:
    """What an actor gives back for one item."""

    benchmark: str
    item_id: str
    partial: Partial | None
    """``None`` where the dataset's owners withhold the truth."""
    num_frames: int
    seconds: float
    pictures: tuple[Picture, ...]
    submission: Part
    """Its part of the file that all videos of the submission share."""


class Evaluator:
    """Scores items with the checkpoint it has loaded last."""

    def __init__(self, num_threads: int) -> None:
        """Use this many threads."""
        torch.set_num_threads(num_threads)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model: UniVS | None = None

    def load(self, checkpoint: Path) -> None:
        """Load a checkpoint.

        Raises:
            UserError: the file is not a checkpoint.
        """
        with mistakes_travel():
            self._model = load_checkpoint(checkpoint).to(self._device)

    def evaluate(self, item: WorkItem) -> ItemResult:
        """Segment one item, compare it with its truth, and write and draw what is asked."""
        with mistakes_travel():
            return self._evaluate(item)

    def _evaluate(self, item: WorkItem) -> ItemResult:
        if self._model is None:
            raise RuntimeError("no checkpoint is loaded: call load first")
        start = time.monotonic()
        spec, video = BENCHMARKS[item.benchmark], item.video
        labels = video.release.manifest.label_space
        prediction = predict(self._model, spec.family, video.record, video, labels, item.inference, item.seed)
        truth = truth_of(spec, [video.record], labels)
        part = None
        if item.submissions is not None:
            part = write_part(item.submissions, prediction, video)
        return ItemResult(
            benchmark=item.benchmark,
            item_id=video.item_id,
            partial=None if truth is None else evaluate_video(spec, prediction, truth, labels),
            num_frames=item.num_frames,
            seconds=time.monotonic() - start,
            pictures=_draw(item, truth, prediction, labels) if item.is_drawn and truth is not None else (),
            submission=part,
        )


def _draw(
    item: WorkItem, truth: Prediction, prediction: Prediction, labels: LabelSpace | None
) -> tuple[Picture, ...]:
    frames = list(item.video.iter_frames())
    factor = max(1, round(_PICTURE_WIDTH_PX / frames[0].shape[1]))
    drawn = draw_comparison(truth, prediction, frames, labels, factor)
    picture = Picture(
        benchmark=item.benchmark,
        item_id=item.video.item_id,
        png=to_png(drawn[len(drawn) // 2]),
        mp4=_encode(drawn) if len(drawn) > 1 else b"",
    )
    return (picture,)


def _encode(frames: list[Frame]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "overlay.mp4"
        write_video(path, frames)
        return path.read_bytes()
