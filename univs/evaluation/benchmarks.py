"""The benchmarks: what each measures, and one way to score any of them in parallel.

A video becomes a small frozen partial (``evaluate_video``), wherever it is predicted; partials of all
videos, in any order, become the numbers (``score``), in percent as papers print them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeVar

from univs.data.chunks import join_chunks
from univs.evaluation.followed import METRICS as FOLLOWED_METRICS
from univs.evaluation.followed import RATES as FOLLOWED_RATES
from univs.evaluation.followed import FollowedPartial, evaluate_followed_masks, score_followed
from univs.evaluation.histogram import SegmentPairs, count_segment_pairs
from univs.evaluation.instance import (
    InstancePartial,
    evaluate_instances,
    metric_names,
    named_scores,
    score_instances,
)
from univs.evaluation.objects import (
    REGION_METRICS,
    ObjectPartial,
    Protocol,
    evaluate_objects,
    score_objects,
)
from univs.evaluation.panoptic import (
    VIDEO_WINDOWS,
    PanopticPartial,
    evaluate_panoptic,
    named_qualities,
    score_panoptic,
)
from univs.evaluation.semantic import SemanticPartial, evaluate_semantic, score_semantic
from univs.evaluation.tracking import TrackingPartial, evaluate_tracking, score_tracking
from univs.evaluation.truth import (
    appearing_truth,
    expression_truth,
    instance_truth,
    object_truth,
    panoptic_truth,
    semantic_truth,
)
from univs.labels import LabelSpace
from univs.predictions import InstanceVideo, ObjectVideo, PanopticVideo, SemanticVideo
from univs.schema import VideoRecord

Family = Literal[
    "image_panoptic",
    "video_panoptic",
    "instance",
    "semantic",
    "objects",
    "appearing_objects",
    "followed_objects",
    "expressions",
]
"""The objects of ``objects`` are all there in the first frame; others may appear later, and
``followed_objects`` are things and stuff with classes."""
Prediction = PanopticVideo | InstanceVideo | SemanticVideo | ObjectVideo


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkSpec:
    """One benchmark."""

    name: str
    """Name of its dataset."""
    family: Family
    metrics: tuple[str, ...]
    """Names of the scores, those that papers print first."""
    primary: str
    """The score that ranks models."""
    protocol: Protocol = "davis"
    """In which frames objects count, in families of objects and expressions."""
    rates: frozenset[str] = frozenset()
    """Metrics that are no percentages."""

    def __post_init__(self) -> None:
        """Refuse a primary score that is not measured."""
        if self.primary not in self.metrics:
            raise ValueError(f"benchmark {self.name!r}: primary {self.primary!r} is not in {self.metrics}")


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoPanopticPartial:
    """What one video adds to VPQ and STQ."""

    video_id: str
    panoptic: PanopticPartial
    tracking: TrackingPartial


Partial = (
    PanopticPartial
    | VideoPanopticPartial
    | InstancePartial
    | SemanticPartial
    | ObjectPartial
    | FollowedPartial
)

_Kind = TypeVar("_Kind")
_INSTANCE_METRICS = metric_names()[:5]
_IMAGE_METRICS = tuple(
    f"{metric}{group}" for group in ("", "_things", "_stuff") for metric in ("pq", "sq", "rq")
)
_VIDEO_METRICS = (
    "vpq",
    "stq",
    "vpq_things",
    "vpq_stuff",
    "vpq_1246",
    *(f"vpq{window}" for window in VIDEO_WINDOWS),
    "sq",
    "aq",
)

BENCHMARKS: Mapping[str, BenchmarkSpec] = MappingProxyType(
    {
        spec.name: spec
        for spec in (
            BenchmarkSpec(
                name="coco_panoptic", family="image_panoptic", metrics=_IMAGE_METRICS, primary="pq"
            ),
            BenchmarkSpec(name="ade20k", family="image_panoptic", metrics=_IMAGE_METRICS, primary="pq"),
            *(
                BenchmarkSpec(name=name, family="instance", metrics=_INSTANCE_METRICS, primary="map")
                for name in ("ytvis_2021", "ytvis_2019", "ytvis_2022", "ovis")
            ),
            BenchmarkSpec(name="vipseg", family="video_panoptic", metrics=_VIDEO_METRICS, primary="vpq"),
            BenchmarkSpec(name="vipseg_720p", family="video_panoptic", metrics=_VIDEO_METRICS, primary="vpq"),
            BenchmarkSpec(
                name="vspw",
                family="semantic",
                metrics=("miou", "vc8", "vc16", "fwiou", "macc", "pacc"),
                primary="miou",
            ),
            BenchmarkSpec(name="davis_2017", family="objects", metrics=REGION_METRICS, primary="jf"),
            BenchmarkSpec(name="davis_2016", family="objects", metrics=REGION_METRICS, primary="jf"),
            BenchmarkSpec(
                name="mose",
                family="appearing_objects",
                metrics=REGION_METRICS[:3],
                primary="jf",
                protocol="mose",
            ),
            *(
                # Seen and unseen categories are not told apart: releases do not say which is which.
                BenchmarkSpec(
                    name=name,
                    family="appearing_objects",
                    metrics=REGION_METRICS[:3],
                    primary="jf",
                    protocol="appearing",
                )
                for name in ("ytvos_2018", "ytvos_2019")
            ),
            BenchmarkSpec(
                name="viposeg",
                family="followed_objects",
                metrics=FOLLOWED_METRICS,
                primary="g",
                rates=FOLLOWED_RATES,
            ),
            BenchmarkSpec(
                name="refytvos",
                family="expressions",
                metrics=REGION_METRICS[:3],
                primary="jf",
                protocol="referring",
            ),
        )
    }
)


def truth_of(
    spec: BenchmarkSpec, chunks: Sequence[VideoRecord], labels: LabelSpace | None
) -> Prediction | None:
    """Build the ground truth of one item from its stored chunks; ``None`` where its owners withhold it.

    ``labels`` is the release's label space, ``None`` for benchmarks without classes.
    """
    record = join_chunks(chunks)
    if record.ground_truth != "full":
        return None
    match spec.family:
        case "image_panoptic" | "video_panoptic":
            return panoptic_truth((record,), _need(spec, labels))
        case "instance":
            return instance_truth((record,), _need(spec, labels))
        case "semantic":
            return semantic_truth((record,), _need(spec, labels))
        case "objects":
            return object_truth((record,))
        case "appearing_objects":
            return appearing_truth((record,))
        case "followed_objects":
            return appearing_truth((record,), _need(spec, labels))
        case "expressions":
            return expression_truth((record,))


def evaluate_video(
    spec: BenchmarkSpec, prediction: Prediction, truth: Prediction, labels: LabelSpace | None = None
) -> Partial:
    """Compare one video's prediction to its truth.

    Raises:
        ValueError: prediction and truth do not fit each other, or the label space is missing.
        TypeError: they are of a type that this benchmark does not score.
    """
    match spec.family:
        case "image_panoptic":
            return evaluate_panoptic(_pairs(prediction, truth), len(_need(spec, labels).categories))
        case "video_panoptic":
            return _evaluate_video_panoptic(_pairs(prediction, truth), _need(spec, labels))
        case "instance":
            return evaluate_instances(_typed(prediction, InstanceVideo), _typed(truth, InstanceVideo))
        case "semantic":
            num_classes = len(_need(spec, labels).categories)
            return evaluate_semantic(
                _typed(prediction, SemanticVideo), _typed(truth, SemanticVideo), num_classes
            )
        case "objects" | "appearing_objects" | "expressions":
            return evaluate_objects(
                _typed(prediction, ObjectVideo), _typed(truth, ObjectVideo), spec.protocol
            )
        case "followed_objects":
            return evaluate_followed_masks(
                _typed(prediction, ObjectVideo), _typed(truth, ObjectVideo), _need(spec, labels)
            )


def score(
    spec: BenchmarkSpec, partials: Sequence[Partial], labels: LabelSpace | None = None
) -> dict[str, float]:
    """Merge the partials of all videos into ``spec.metrics``, in percent but for ``spec.rates``.

    NaN where nothing was measured; the decay of DAVIS is that of the official script, which is NaN or wrong
    from 256 frames on.

    The order of the partials does not matter.

    Raises:
        ValueError: there is none, or a video (for RefVOS: an expression) is there twice.
        TypeError: a partial is of another family.
    """
    _refuse_repeats(spec, partials)
    match spec.family:
        case "image_panoptic":
            values = _score_images(partials, _need(spec, labels))
        case "video_panoptic":
            values = _score_video_panoptic(partials, _need(spec, labels))
        case "instance":
            instances = score_instances([_typed(part, InstancePartial) for part in partials])
            values = tuple(named_scores(instances).values())[: len(spec.metrics)]
        case "semantic":
            semantic = score_semantic([_typed(part, SemanticPartial) for part in partials])
            values = (semantic.miou, *semantic.consistency, semantic.fwiou, semantic.macc, semantic.pacc)
        case "objects" | "appearing_objects" | "expressions":
            objects = score_objects([_typed(part, ObjectPartial) for part in partials])
            values = tuple(objects.by_metric[metric] for metric in spec.metrics)
        case "followed_objects":
            values = tuple(score_followed([_typed(part, FollowedPartial) for part in partials]).values())
    return {
        name: float(value) * (1 if name in spec.rates else 100)
        for name, value in zip(spec.metrics, values, strict=True)
    }


def score_each_video(
    spec: BenchmarkSpec, partials: Sequence[Partial], labels: LabelSpace | None = None
) -> dict[str, float]:
    """Give the primary score of every video on its own, in percent, by video id in ascending order."""
    by_video: dict[str, list[Partial]] = {}
    for part in partials:
        by_video.setdefault(part.video_id, []).append(part)
    return {video_id: score(spec, own, labels)[spec.primary] for video_id, own in sorted(by_video.items())}


def _pairs(prediction: Prediction, truth: Prediction) -> SegmentPairs:
    return count_segment_pairs(_typed(prediction, PanopticVideo), _typed(truth, PanopticVideo))


def _evaluate_video_panoptic(pairs: SegmentPairs, labels: LabelSpace) -> VideoPanopticPartial:
    """Judge one panoptic video by the overlaps of its segments."""
    return VideoPanopticPartial(
        video_id=pairs.video_id,
        panoptic=evaluate_panoptic(pairs, len(labels.categories), VIDEO_WINDOWS),
        tracking=evaluate_tracking(pairs, labels.is_thing),
    )


def _score_images(partials: Sequence[Partial], labels: LabelSpace) -> tuple[float, ...]:
    (quality,) = score_panoptic([_typed(part, PanopticPartial) for part in partials], labels.is_thing)
    groups = (quality.every, quality.things, quality.stuff)
    return tuple(value for group in groups for value in (group.pq, group.sq, group.rq))


def _score_video_panoptic(partials: Sequence[Partial], labels: LabelSpace) -> tuple[float, ...]:
    parts = [_typed(part, VideoPanopticPartial) for part in partials]
    qualities = score_panoptic([part.panoptic for part in parts], labels.is_thing)
    tracking = score_tracking([part.tracking for part in parts])
    values = {**named_qualities(qualities), "stq": tracking.stq, "sq": tracking.sq, "aq": tracking.aq}
    return tuple(values[metric] for metric in _VIDEO_METRICS)


def _typed(value: object, kind: type[_Kind]) -> _Kind:
    if not isinstance(value, kind):
        raise TypeError(
            f"expected {kind.__name__}, got {type(value).__name__}: it belongs to another benchmark"
        )
    return value


def _need(spec: BenchmarkSpec, labels: LabelSpace | None) -> LabelSpace:
    if labels is None:
        raise ValueError(f"benchmark {spec.name!r} has classes: give the label space of its release")
    return labels


def _refuse_repeats(spec: BenchmarkSpec, partials: Sequence[Partial]) -> None:
    names: list[tuple[str, str]] = []
    for part in partials:
        owned = part.object_ids if isinstance(part, ObjectPartial) else ("",)
        names.extend((part.video_id, name) for name in owned)
    if not partials:
        raise ValueError(f"benchmark {spec.name!r}: no video was evaluated")
    if len(set(names)) < len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"benchmark {spec.name!r}: evaluated more than once: {repeated[:3]}")
