"""BURST: HOTA and track mAP of masks of many classes, as TrackEval computes them.

Ground truth: one of ``{all,common,uncommon}_classes.json``. Predictions: one JSON file of the same layout,
alone in its folder or in TrackEval's ``<tracker>/data/``. Two tasks: class-guided, where predictions say what
they are, and exemplar-guided, where they carry on the ids and classes of given objects.

HOTA compares bounding boxes, as officially (TrackEval is asked for masks and keeps boxes); track mAP compares
masks. A class is not judged in frames without it unless the sequence is known to be free of it, and nothing
is a false alarm in classes that are not labelled exhaustively. Frames without any true object are left out of
HOTA. Predicted classes that the truth does not hold are not judged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from univs.evaluation.burst import (
    METRICS,
    BurstPartial,
    BurstRules,
    BurstSequence,
    BurstTracks,
    evaluate_sequence,
    score_sequences,
)
from univs.evaluation.official.burst_files import (
    DISTRACTORS,
    Row,
    join_tracks,
    merge_class,
    read_file,
    read_prediction,
    read_truth,
)
from univs.evaluation.official.case import (
    Case,
    Comparison,
    OfficialBenchmark,
    ScoreOptions,
    Scores,
    in_percent,
)
from univs.evaluation.official.files import field_of, name_some, read_frame, settle_missing, spread
from univs.labels import Category, LabelSpace
from univs.predictions import InstanceTrack, InstanceVideo

_SUBSETS = ("all", "common", "uncommon")
_TASKS = {"burst": "class_guided", "burst_exemplar": "exemplar_guided"}


@dataclass(frozen=True, kw_only=True, slots=True)
class _Sequence:
    name: str
    truth: Row
    prediction: Row | None


@dataclass(frozen=True, kw_only=True, slots=True)
class BurstCase:
    """An opened BURST case."""

    gt: Path
    """The file, as ``pred``."""
    pred: Path
    is_exemplar: bool
    rules: BurstRules
    class_names: Mapping[int, str]
    sequences: tuple[_Sequence, ...]
    missing: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sequences with those of their datasets."""
        return tuple(sequence.name for sequence in self.sequences)

    def compare(self, index: int) -> BurstPartial:
        """Match the tracks of one sequence."""
        sequence = self.sequences[index]
        truth, prediction = self._sides(sequence)
        known = [
            frozenset(field_of(sequence.truth, key, list, f"{self.gt}: sequence {sequence.name}"))
            for key in ("neg_category_ids", "not_exhaustive_category_ids")
        ]
        return evaluate_sequence(
            BurstSequence(
                name=sequence.name, truth=truth, prediction=prediction, absent=known[0], unsure=known[1]
            ),
            self.rules,
        )

    def score(self, partials: Sequence[BurstPartial]) -> Scores:
        """Merge the sequences; their order does not matter."""
        scores = score_sequences(partials, tuple(self.class_names))
        return Scores(
            values=in_percent(scores.values),
            items={part.name: self._score_alone(part) for part in partials},
            classes={self.class_names[label]: in_percent(row) for label, row in scores.classes.items()},
        )

    def show(self, index: int, num_frames: int) -> Comparison:
        """Give some frames of a sequence with all tracks."""
        sequence = self.sequences[index]
        names = sequence.truth["annotated_image_paths"]
        shown = spread(names, num_frames)
        size = _size_of(sequence.truth, str(self.gt))
        labels = LabelSpace(
            name="burst",
            categories=tuple(
                Category(category_id=k, name=name, is_thing=True)
                for k, name in sorted(self.class_names.items())
            ),
        )
        truth, prediction = (
            _draw(sequence.name, side, [names.index(name) for name in shown], size, labels)
            for side in self._sides(sequence)
        )
        split = self.gt.resolve().parent
        folder = split.parents[1] / "frames" / split.name / sequence.name
        frames = [read_frame(folder / name, size) for name in shown]
        return Comparison(truth=truth, prediction=prediction, frames=frames, labels=labels)

    def _score_alone(self, part: BurstPartial) -> dict[str, float]:
        """Score one sequence over the classes it holds."""
        held = [k for k, row in part.classes.items() if k in self.class_names and row.num_truths]
        if not held:
            return dict.fromkeys(METRICS, float("nan"))
        return in_percent(score_sequences([part], held).values)

    def _sides(self, sequence: _Sequence) -> tuple[BurstTracks, BurstTracks]:
        where = f"{self.gt}: sequence {sequence.name}"
        size = _size_of(sequence.truth, where)
        names = sequence.truth["annotated_image_paths"]
        true = read_truth(sequence.truth, where)
        truth = join_tracks(true, len(names), size, where)
        inherited = None
        if self.is_exemplar:
            seen = dict(zip(truth.ids.tolist(), truth.labels.tolist(), strict=True))
            given = field_of(sequence.truth, "track_category_ids", dict, where)
            inherited = {track: seen.get(int(track)) for track in given}
        where = f"{self.pred}: sequence {sequence.name}"
        found = (
            []
            if sequence.prediction is None
            else read_prediction(sequence.prediction, names, inherited, where)
        )
        return truth, join_tracks(found, len(names), size, where)


def open_burst(name: str, gt: Path, pred: Path, options: ScoreOptions) -> Case:
    """Read both files and pair their sequences."""
    gt = _find(
        gt, [f"{subset}_classes.json" for subset in _SUBSETS], [f"{s}_classes/*.json" for s in _SUBSETS]
    )
    trackers = ["*.json", "data/*.json", "*/data/*.json", f"{_TASKS[name]}/*/data/*.json"]
    pred = _find(pred, ["results.json"], trackers)
    (body, truths), (found, predictions) = read_file(gt), read_file(pred)
    if found.get("split", body.get("split")) != body.get("split"):
        raise ValueError(f"{pred}: split {found['split']!r}, expected {body['split']!r}, that of {gt}")
    unknown = [sequence for sequence in predictions if sequence not in truths]
    if unknown:
        raise ValueError(f"{pred}: sequences {name_some(unknown)}, expected only those of {gt}")
    missing = [
        m for sequence, row in truths.items() for m in _missing(sequence, row, predictions.get(sequence))
    ]
    return BurstCase(
        gt=gt,
        pred=pred,
        is_exemplar=name == "burst_exemplar",
        rules=BurstRules(
            judges_all=name == "burst_exemplar",
            by_masks="mask-iou" in options.mends,
            zero_is_free="track-id-0" not in options.mends and _has_one_zero(predictions),
        ),
        class_names=_judged_classes(body, truths, gt),
        sequences=tuple(
            _Sequence(name=sequence, truth=row, prediction=predictions.get(sequence))
            for sequence, row in truths.items()
        ),
        missing=settle_missing(pred, missing, options.missing),
    )


def _find(folder: Path, names: Sequence[str], patterns: Sequence[str]) -> Path:
    """Find the one file of these names, else of these patterns, the first that matches."""
    for pattern in (*names, *patterns):
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"{folder}: {name_some([str(path.relative_to(folder)) for path in found])}, expected one; "
                "give its own folder"
            )
    raise ValueError(f"{folder}: no JSON file, expected {' or '.join((*names, *patterns))}")


def _missing(name: str, truth: Row, prediction: Row | None) -> list[str]:
    if prediction is None:
        return [name]
    there = set(prediction["annotated_image_paths"])
    return [f"{name}/{frame}" for frame in truth["annotated_image_paths"] if frame not in there]


def _has_one_zero(predictions: Mapping[str, Row]) -> bool:
    """Tell whether one sequence alone has a track of id 0; where several have one, all get new ids."""
    return sum(any("0" in masks for masks in row["segmentations"]) for row in predictions.values()) == 1


def _judged_classes(body: Row, truths: Mapping[str, Row], path: Path) -> dict[int, str]:
    """Name the classes that any sequence shows, by id."""
    named = {
        field_of(row, "id", int, f"{path}: category"): field_of(row, "name", str, f"{path}: category")
        for row in field_of(body, "categories", list, str(path))
    }
    shown = {
        merge_class(classes[track])
        for name, row in truths.items()
        for classes in [field_of(row, "track_category_ids", dict, f"{path}: sequence {name}")]
        for track in {track for masks in row["segmentations"] for track in masks}
        if classes.get(track) not in DISTRACTORS
    }
    return {k: named.get(k, f"class {k}") for k in sorted(shown - DISTRACTORS)}


def _size_of(row: Row, where: str) -> tuple[int, int]:
    return field_of(row, "height", int, where), field_of(row, "width", int, where)


def _draw(
    name: str, side: BurstTracks, at: Sequence[int], size: tuple[int, int], labels: LabelSpace
) -> InstanceVideo:
    """Give some frames of the tracks whose classes are judged."""
    tracks = [
        InstanceTrack(
            label=labels.label_of[label],
            score=score,
            rles=tuple(side.masks.distinct[row][t] for t in at),
        )
        for label, score, row in zip(
            side.labels.tolist(), side.scores.tolist(), side.masks.rows.tolist(), strict=True
        )
        if label in labels.label_of
    ]
    return InstanceVideo(video_id=name, height=size[0], width=size[1], tracks=tuple(tracks))


def _benchmark(name: str, title: str) -> OfficialBenchmark:
    return OfficialBenchmark(
        name=name,
        title=f"BURST, {title}",
        metrics=METRICS,
        primary="hota",
        gt_layout="all_classes.json (or that of the common or the uncommon classes)",
        pred_layout="results.json, or the one JSON file in <tracker>/data",
        marks=("*_classes*",),
        open=partial(open_burst, name),
        mends={
            "mask-iou": "HOTA compares masks; officially their bounding boxes",
            "track-id-0": "a predicted track of id 0 takes what it matches in track mAP; officially it "
            "leaves it to the next, if no other sequence has one",
        },
    )


BURST = _benchmark("burst", "class-guided tracking")
BURST_EXEMPLAR = _benchmark("burst_exemplar", "exemplar-guided tracking")
