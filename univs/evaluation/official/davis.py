"""DAVIS 2016 and 2017, semi-supervised: J and F with their means, recalls and decays.

Ground truth: the archive, at the top or in ``DAVIS``: ``Annotations/480p/<sequence>/<frame>.png`` (or
``Full-Resolution``, where it lies alone) and ``ImageSets/<year>/val.txt``; the first archive of 2016 lists
pairs of files in ``ImageSets/480p/val.txt``. Predictions: ``<sequence>/<frame>.png``. Stored values are
object ids.

2017: 255 is void, which this task counts as background; objects are 1 to the highest id of the first frame.
2016: every value but 0 is the one object. The first and the last frame are not judged.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from univs.evaluation.benchmarks import BENCHMARKS
from univs.evaluation.objects import LabelMap, ObjectPartial, evaluate_label_maps
from univs.evaluation.official.case import OfficialBenchmark, ScoreOptions
from univs.evaluation.official.files import read_indexed, settle_missing
from univs.evaluation.official.label_trees import (
    LabelCase,
    LabelVideo,
    list_stems,
    open_video,
    prediction_root,
    score_videos,
    unpredicted,
)

VOID = 255
DECAY = "decay-beyond-256-frames"
DECAY_TEXT = "the official script keeps frame numbers in 8 bits: decay is NaN or wrong from 256 frames on"
_SPEC = BENCHMARKS["davis_2017"]


def davis_root(gt: Path) -> Path:
    """Give the folder that holds ``ImageSets``."""
    return gt / "DAVIS" if (gt / "DAVIS").is_dir() else gt


def resolution_of(annotations: Path) -> Path:
    """Choose 480p, which results are reported on, unless full resolution lies alone."""
    full, usual = annotations / "Full-Resolution", annotations / "480p"
    return full if full.is_dir() and not usual.is_dir() else usual


def read_sequences(root: Path, year: int) -> list[str]:
    """Read the names of the val split.

    Raises:
        ValueError: there is no list, or nothing in it.
    """
    listed = root / f"ImageSets/{year}/val.txt"
    if year == 2016 and not listed.exists():
        listed = root / "ImageSets/480p/val.txt"
    lines = listed.read_text().split("\n") if listed.exists() else []
    firsts = [line.split()[0] for line in lines if line.strip()]
    if not firsts:
        raise ValueError(f"{listed}: no sequences, expected one per line; unpack ImageSets of the archive")
    return list(dict.fromkeys(Path(f).parent.name if f.endswith(".jpg") else f for f in firsts))


def open_sequences(root: Path, annotations: Path, pred: Path, year: int) -> list[LabelVideo]:
    """Pair all frames of all sequences."""
    pictures = resolution_of(root / "JPEGImages")
    return [
        open_video(name, annotations / name, pred / name, pictures=pictures / name)
        for name in read_sequences(root, year)
    ]


def _open(year: int, gt: Path, pred: Path, options: ScoreOptions) -> LabelCase[ObjectPartial]:
    root, ours = davis_root(gt), prediction_root(pred)
    annotations = resolution_of(root / "Annotations")
    names = read_sequences(root, year)
    videos = tuple(_open_judged(name, annotations, ours, root) for name in names)
    judge = _judge_2016 if year == 2016 else _judge_2017
    return LabelCase(
        videos=videos,
        missing=settle_missing(ours, unpredicted(videos), options.missing),
        judge=lambda index: judge(videos[index]),
        summarize=partial(score_videos, is_decay_mended=DECAY in options.mends, metrics=_SPEC.metrics),
    )


def _open_judged(name: str, annotations: Path, pred: Path, root: Path) -> LabelVideo:
    """Leave out the first frame, whose masks are given, and the last."""
    stems = list_stems(annotations / name)
    if stems and not stems[1:-1]:
        raise ValueError(
            f"{annotations / name}: {len(stems)} frames, expected at least 3; all but two are judged"
        )
    pictures = resolution_of(root / "JPEGImages") / name
    return open_video(name, annotations / name, pred / name, stems[1:-1] or None, pictures)


def _judge_2017(video: LabelVideo) -> ObjectPartial:
    first = without_void(read_indexed(video.truth / f"{list_stems(video.truth)[0]}.png"))
    ids = range(1, int(first.max()) + 1)

    def frames() -> Iterator[tuple[LabelMap, LabelMap, Sequence[int]]]:
        for stem, (ours, theirs) in zip(video.stems, video.read(), strict=True):
            if ours.max() > len(ids):
                raise ValueError(
                    f"{video.prediction / stem}.png: id {ours.max()}, expected at most {len(ids)}, the "
                    "highest of the first frame; predict only given objects"
                )
            yield ours, without_void(theirs), ids

    return evaluate_label_maps(video.name, frames())


def _judge_2016(video: LabelVideo) -> ObjectPartial:
    frames = ((_binary(ours), _binary(theirs), (1,)) for ours, theirs in video.read())
    return evaluate_label_maps(video.name, frames)


def without_void(labels: LabelMap) -> LabelMap:
    """Make void background."""
    kept: LabelMap = labels * (labels != VOID)
    return kept


def _binary(labels: LabelMap) -> LabelMap:
    return (labels > 0).view("uint8")


def _benchmark(year: int, title: str) -> OfficialBenchmark:
    opener: Callable[[Path, Path, ScoreOptions], LabelCase[ObjectPartial]] = partial(_open, year)
    lists = f"ImageSets/{year}" + ("|ImageSets/480p" if year == 2016 else "")
    marks = "|".join(f"{place}{path}" for path in lists.split("|") for place in ("", "DAVIS/"))
    return OfficialBenchmark(
        name=f"davis_{year}",
        title=title,
        metrics=_SPEC.metrics,
        primary=_SPEC.primary,
        gt_layout=f"[DAVIS/]Annotations/480p/<sequence>/<frame>.png and [DAVIS/]ImageSets/{year}/val.txt",
        pred_layout="<sequence>/<frame>.png",
        marks=(marks, "Annotations|DAVIS/Annotations"),
        open=opener,
        mends={DECAY: DECAY_TEXT},
    )


DAVIS_2016 = _benchmark(2016, "DAVIS 2016, the one object of a video")
DAVIS_2017 = _benchmark(2017, "DAVIS 2017, semi-supervised video object segmentation")
