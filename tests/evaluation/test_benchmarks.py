import math
import pickle
from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from univs.evaluation.benchmarks import (
    BENCHMARKS,
    BenchmarkSpec,
    evaluate_video,
    score,
    score_each_video,
    truth_of,
)
from univs.labels import Category, LabelSpace
from univs.predictions import (
    InstanceTrack,
    InstanceVideo,
    ObjectVideo,
    PanopticVideo,
    Segment,
    SemanticVideo,
)
from univs.schema import Frame, ObjectTrack, VideoRecord

LABELS = LabelSpace(
    name="small",
    categories=tuple(Category(category_id=10 * k + 1, name=f"c{k}", is_thing=k > 1) for k in range(4)),
)
FOLLOWED_LABELS = LabelSpace(
    name="seen and unseen",
    categories=tuple(
        Category(category_id=number, name=f"c{number}", is_thing=number in (2, 46))
        for number in (0, 2, 5, 46)
    ),
)
NUM_FRAMES = 18
VIDEOS = ("12", "7", "103")


def _maps(seed):
    """Four objects, 1..4, that drift over a 24x32 image; 1 and 2 are stuff, and a void border stays."""
    rng = np.random.default_rng(seed)
    maps = np.zeros((NUM_FRAMES, 24, 32), np.int32)
    maps[:, 1:12], maps[:, 12:23] = 1, 2
    for number in (3, 4):
        y, x = rng.integers(2, 12), rng.integers(2, 14)
        for t in range(NUM_FRAMES):
            maps[t, y : y + 7, x + t // 3 : x + t // 3 + 9] = number
    return maps


def _noisy(maps, seed, amount=0.2):
    rng = np.random.default_rng(seed)
    noise = np.kron(rng.random((NUM_FRAMES, 6, 8)), np.ones((1, 4, 4))) < amount
    return np.where(noise, np.roll(maps, 7, axis=2), maps)


def _panoptic(video_id, maps, ids=(1, 2, 3, 4)):
    renamed = np.asarray((0, *ids), np.int32)[maps]
    segments = tuple(Segment(segment_id=number, label=label) for label, number in enumerate(ids))
    return PanopticVideo(video_id=video_id, maps=renamed, segments=segments)


def _image(video_id, maps, ids=(1, 2, 3, 4)):
    video = _panoptic(video_id, maps, ids)
    return replace(video, maps=video.maps[:1])


def _encode(mask):
    return coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def _instance(video_id, maps, ids=(1, 2, 3, 4)):
    tracks = tuple(
        InstanceTrack(label=n, score=0.9 - n / 10, rles=tuple(_encode(m) for m in maps == n + 1))
        for n in (2, 3)
    )
    return InstanceVideo(
        video_id=video_id, height=24, width=32, tracks=tracks if ids[0] == 1 else tracks[::-1]
    )


def _semantic(video_id, maps, ids=None):
    del ids
    return SemanticVideo(video_id=video_id, labels=(maps - 1).astype(np.int16))


def _objects(video_id, maps, ids=(1, 2, 3, 4)):
    order = [0, 1, 2, 3] if ids[0] == 1 else [2, 0, 3, 1]
    return ObjectVideo(
        video_id=video_id,
        object_ids=tuple(str(n + 1) for n in order),
        masks=np.stack([maps == n + 1 for n in order]),
        frame_names=tuple(f"{t:05d}" for t in range(NUM_FRAMES)),
    )


def _followed(video_id, maps, ids=(1, 2, 3, 4)):
    video = _objects(video_id, maps, ids)
    return replace(video, labels=tuple(int(object_id) - 1 for object_id in video.object_ids))


MAKERS = {
    "coco_panoptic": _image,
    "ade20k": _image,
    "ytvis_2021": _instance,
    "ytvis_2019": _instance,
    "ytvis_2022": _instance,
    "ovis": _instance,
    "vipseg": _panoptic,
    "vipseg_720p": _panoptic,
    "vspw": _semantic,
    "davis_2017": _objects,
    "davis_2016": _objects,
    "mose": _objects,
    "ytvos_2018": _objects,
    "ytvos_2019": _objects,
    "viposeg": _followed,
    "refytvos": _objects,
}


def _labels(name):
    return FOLLOWED_LABELS if name == "viposeg" else LABELS


def _prediction_maps(name, maps):
    """Semantic predictions must label every pixel, so their void becomes a class."""
    return np.maximum(maps, 1) if name == "vspw" else maps


def _partials(name, change=lambda maps, seed: maps, ids=(1, 2, 3, 4)):
    spec, make, partials = BENCHMARKS[name], MAKERS[name], []
    for seed, video_id in enumerate(VIDEOS):
        truth = make(video_id, _maps(seed))
        ours = make(video_id, _prediction_maps(name, change(_maps(seed), seed)), ids)
        partials.append(evaluate_video(spec, ours, truth, _labels(name)))
    return partials


@pytest.mark.parametrize("name", BENCHMARKS)
def test_perfect_prediction_scores_a_hundred_on_every_metric(name):
    scores = score(BENCHMARKS[name], _partials(name), _labels(name))
    assert tuple(scores) == BENCHMARKS[name].metrics
    expected = {metric: 0 if metric.endswith("decay") else 100 for metric in scores}
    assert scores == pytest.approx(expected)
    assert {type(value) for value in scores.values()} == {float}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_noise_lowers_the_primary_score_and_more_noise_lowers_it_more(name):
    spec = BENCHMARKS[name]
    values = [
        score(spec, _partials(name, lambda maps, seed, a=amount: _noisy(maps, seed, a)), _labels(name))[
            spec.primary
        ]
        for amount in (0.0, 0.1, 0.5)
    ]
    assert values[0] == pytest.approx(100)
    assert values[0] > values[1] > values[2] >= 0


@pytest.mark.parametrize("name", BENCHMARKS)
def test_order_of_partials_and_a_trip_between_processes_change_nothing(name):
    spec, partials = BENCHMARKS[name], _partials(name, _noisy)
    at_once = score(spec, partials, _labels(name))
    for order in ((2, 0, 1), (1, 2, 0), (2, 1, 0)):
        travelled = [pickle.loads(pickle.dumps(partials[n])) for n in order]
        assert score(spec, travelled, _labels(name)) == at_once


@pytest.mark.parametrize("name", BENCHMARKS)
def test_other_names_for_predicted_objects_change_nothing(name):
    spec = BENCHMARKS[name]
    plain = score(spec, _partials(name, _noisy), _labels(name))
    renamed = score(spec, _partials(name, _noisy, ids=(70000, 5, 9, 3)), _labels(name))
    assert renamed == pytest.approx(plain)


@pytest.mark.parametrize("name", [name for name in BENCHMARKS if name != "vspw"])
def test_empty_prediction_scores_zero(name):
    spec = BENCHMARKS[name]
    scores = score(spec, _partials(name, lambda maps, _: np.zeros_like(maps)), _labels(name))
    assert scores[spec.primary] == 0


@pytest.mark.parametrize(
    ("name", "empty"),
    [
        ("ytvis_2021", InstanceVideo(video_id="1", height=24, width=32, tracks=())),
        ("vipseg", PanopticVideo(video_id="1", maps=np.zeros((NUM_FRAMES, 24, 32), np.int32), segments=())),
        (
            "refytvos",
            ObjectVideo(
                video_id="1",
                object_ids=(),
                masks=np.zeros((0, NUM_FRAMES, 24, 32), bool),
                frame_names=tuple(f"{t:05d}" for t in range(NUM_FRAMES)),
            ),
        ),
    ],
)
def test_prediction_without_any_object_scores_zero(name, empty):
    spec = BENCHMARKS[name]
    partial = evaluate_video(spec, empty, MAKERS[name]("1", _maps(0)), LABELS)
    assert score(spec, [partial], LABELS)[spec.primary] == 0


def test_video_panoptic_means_are_over_the_named_windows():
    scores = score(BENCHMARKS["vipseg"], _partials("vipseg", _noisy), LABELS)
    by_window = [scores[f"vpq{window}"] for window in (1, 2, 4, 6, 8)]
    assert len(set(by_window)) == 5
    assert scores["vpq"] == pytest.approx(np.mean(by_window))
    assert scores["vpq_1246"] == pytest.approx(np.mean(by_window[:4]))
    assert scores["stq"] == pytest.approx(math.sqrt(scores["sq"] * scores["aq"]))


def test_each_video_is_scored_on_its_own():
    spec = BENCHMARKS["davis_2017"]
    partials = _partials("davis_2017", lambda maps, seed: _noisy(maps, seed) if seed else maps)
    values = score_each_video(spec, partials)
    assert list(values) == sorted(VIDEOS)
    assert values["12"] == 100
    assert values["7"] < 100
    assert np.mean(list(values.values())) == pytest.approx(score(spec, partials)["jf"])


def test_expressions_of_one_video_may_come_apart():
    spec, make = BENCHMARKS["refytvos"], _objects
    truth, ours = make("a", _maps(0)), make("a", _noisy(_maps(0), 1))
    parts = [
        evaluate_video(
            spec,
            replace(ours, object_ids=ours.object_ids[n : n + 1], masks=ours.masks[n : n + 1]),
            replace(truth, object_ids=truth.object_ids[n : n + 1], masks=truth.masks[n : n + 1]),
        )
        for n in range(4)
    ]
    assert score(spec, parts) == score(spec, [evaluate_video(spec, ours, truth)])
    assert list(score_each_video(spec, parts)) == ["a"]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_video_twice_or_none_at_all_raises(name):
    partials = _partials(name)
    with pytest.raises(ValueError, match="more than once"):
        score(BENCHMARKS[name], [*partials, partials[0]], LABELS)
    with pytest.raises(ValueError, match="no video"):
        score(BENCHMARKS[name], [], LABELS)


def test_prediction_of_another_benchmark_raises():
    with pytest.raises(TypeError, match="expected SemanticVideo, got PanopticVideo"):
        evaluate_video(BENCHMARKS["vspw"], _panoptic("1", _maps(0)), _semantic("1", _maps(0)), LABELS)


def test_benchmark_with_classes_needs_a_label_space():
    with pytest.raises(ValueError, match="label space"):
        evaluate_video(BENCHMARKS["vipseg"], _panoptic("1", _maps(0)), _panoptic("1", _maps(0)))


def test_short_videos_have_no_long_consistency():
    short = SemanticVideo(video_id="1", labels=np.zeros((9, 4, 4), np.int16))
    spec = BENCHMARKS["vspw"]
    scores = score(spec, [evaluate_video(spec, short, short, LABELS)], LABELS)
    assert scores["vc8"] == 100
    assert math.isnan(scores["vc16"])


def _record(ground_truth="full"):
    maps = _maps(0)
    objects = tuple(
        ObjectTrack(
            object_id=n,
            source_id=str(n),
            category_id=LABELS.categories[n - 1].category_id,
            states="V" * NUM_FRAMES,
            rles=tuple(_encode(m) for m in maps == n),
        )
        for n in (1, 2, 3, 4)
    )
    return VideoRecord(
        dataset="vipseg",
        split="val",
        item_id="12",
        kind="video",
        height=24,
        width=32,
        label_space="small",
        frames=tuple(Frame(index=t, name=f"{t:05d}.jpg", extension="jpg") for t in range(NUM_FRAMES)),
        objects=objects,
        is_partition=True,
        ground_truth=ground_truth,
    )


@pytest.mark.parametrize(
    "name", ["ytvis_2021", "vipseg", "vspw", "davis_2017", "mose", "ytvos_2018", "viposeg"]
)
def test_truth_from_a_record_scores_like_the_maps_it_was_made_from(name):
    spec = BENCHMARKS[name]
    truth = truth_of(spec, (_record(),), LABELS)
    ours = MAKERS[name]("12", _prediction_maps(name, _noisy(_maps(0), 0)))
    expected = evaluate_video(spec, ours, MAKERS[name]("12", _maps(0)), LABELS)
    partial = evaluate_video(spec, ours, truth, LABELS)
    assert score(spec, [partial], LABELS) == pytest.approx(score(spec, [expected], LABELS), nan_ok=True)


@pytest.mark.parametrize("ground_truth", ["none", "first_frame"])
@pytest.mark.parametrize("name", BENCHMARKS)
def test_withheld_truth_is_none(name, ground_truth):
    assert truth_of(BENCHMARKS[name], (_record(ground_truth),), LABELS) is None


def test_spec_whose_primary_is_not_measured_raises():
    with pytest.raises(ValueError, match="primary"):
        BenchmarkSpec(name="x", family="semantic", metrics=("miou",), primary="vc8")
