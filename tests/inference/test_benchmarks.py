from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from univs.evaluation.benchmarks import BENCHMARKS, evaluate_video, truth_of
from univs.evaluation.truth import evaluated_objects
from univs.inference.benchmarks import first_masks, frame_stems, predict
from univs.inference.config import (
    image_defaults,
    refvos_defaults,
    vis_defaults,
    vos_defaults,
    vps_defaults,
    vss_defaults,
)
from univs.predictions import InstanceVideo, ObjectVideo, PanopticVideo, SemanticVideo
from univs.schema import Expression, Frame, ObjectTrack, Region, VideoRecord

HEIGHT, WIDTH, NUM_FRAMES = 64, 96, 4

SIZES = {"short_edge_px": 64, "memory_frames": 2}
CONFIGS = {
    "coco_panoptic": replace(image_defaults(), **SIZES, class_threshold=0.0),
    "ade20k": replace(image_defaults(), **SIZES, class_threshold=0.0),
    **{
        name: replace(vis_defaults(), **SIZES, frames_per_clip=3, class_threshold=0.0)
        for name in ("ytvis_2019", "ytvis_2021", "ytvis_2022", "ovis")
    },
    "vipseg": replace(vps_defaults(), **SIZES, frames_per_clip=3, class_threshold=0.0),
    "vipseg_720p": replace(vps_defaults(), **SIZES, frames_per_clip=3, class_threshold=0.0),
    "vspw": replace(vss_defaults(), **SIZES, frames_per_clip=3, clip_stride=3),
    "davis_2017": replace(vos_defaults(), **SIZES, frames_per_clip=3, overlap_threshold=0.0),
    "davis_2016": replace(vos_defaults(), **SIZES, frames_per_clip=3, overlap_threshold=0.0),
    **{
        name: replace(vos_defaults(), **SIZES, frames_per_clip=3, overlap_threshold=0.0)
        for name in ("mose", "ytvos_2018", "ytvos_2019", "viposeg")
    },
    "refytvos": replace(refvos_defaults(), **SIZES, frames_per_clip=3, overlap_threshold=0.0),
}
TYPES = {
    "coco_panoptic": PanopticVideo,
    "ade20k": PanopticVideo,
    "ytvis_2019": InstanceVideo,
    "ytvis_2021": InstanceVideo,
    "ytvis_2022": InstanceVideo,
    "ovis": InstanceVideo,
    "vipseg": PanopticVideo,
    "vipseg_720p": PanopticVideo,
    "vspw": SemanticVideo,
    "davis_2017": ObjectVideo,
    "davis_2016": ObjectVideo,
    "mose": ObjectVideo,
    "ytvos_2018": ObjectVideo,
    "ytvos_2019": ObjectVideo,
    "viposeg": ObjectVideo,
    "refytvos": ObjectVideo,
}


def encode(top, left, height=20, width=24):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[top : top + height, left : left + width] = 1
    return coco_mask.encode(mask)["counts"].decode()


def make_track(object_id, rles, category_id=1):
    return ObjectTrack(
        object_id=object_id,
        source_id=str(object_id),
        category_id=category_id,
        states="".join("A" if counts is None else "V" for counts in rles),
        rles=tuple(rles),
    )


def make_record(num_frames=NUM_FRAMES, **changes):
    """Two objects; the second comes in the third frame."""
    tracks = [make_track(1, [encode(8, 8 + t) for t in range(num_frames)])]
    if num_frames > 2:
        tracks.append(make_track(2, [None, None] + [encode(40, 60)] * (num_frames - 2), category_id=4))
    record = VideoRecord(
        dataset="tiny",
        split="val",
        item_id="12",
        kind="video" if num_frames > 1 else "image",
        height=HEIGHT,
        width=WIDTH,
        label_space="tiny",
        frames=tuple(Frame(index=t, name=f"deep.er/{t:05d}.jpg", extension="jpg") for t in range(num_frames)),
        objects=tuple(tracks),
        regions=(Region(kind="void", rles=(None,) * num_frames),),
        is_partition=True,
        expressions=(
            Expression(expression_id="0", text="the red box", object_ids=(1,)),
            Expression(expression_id="1", text="everything", object_ids=(1,)),
        ),
    )
    return replace(record, **changes)


def record_for(name):
    if name in ("coco_panoptic", "ade20k"):
        return make_record(num_frames=1)
    return make_record() if name == "refytvos" else make_record(expressions=())


def run(model, name, record, frames, labels, **options):
    return predict(model, BENCHMARKS[name].family, record, frames, labels, CONFIGS[name], **options)


def as_arrays(prediction):
    if isinstance(prediction, InstanceVideo):
        return [np.asarray([(track.label, track.score, str(track.rles)) for track in prediction.tracks])]
    fields = ("maps", "labels", "masks")
    return [getattr(prediction, name) for name in fields if hasattr(prediction, name)]


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_gets_the_prediction_it_scores(model, make_frames, label_space, name):
    record = record_for(name)
    frames = make_frames(record.num_frames)
    prediction = run(model, name, record, frames, label_space)
    assert type(prediction) is TYPES[name]
    assert prediction.video_id == "12"
    truth = truth_of(BENCHMARKS[name], [record], label_space)
    evaluate_video(BENCHMARKS[name], prediction, truth, label_space)
    blind = run(model, name, move_objects(record, name), frames, label_space)
    for one, other in zip(as_arrays(prediction), as_arrays(blind), strict=True):
        assert np.array_equal(one, other)


def move_objects(record, name):
    """Change all annotation that the model must not see: for VOS what comes after the first masks."""
    if BENCHMARKS[name].family in ("appearing_objects", "followed_objects"):
        return replace(record, objects=tuple(move_later(track) for track in record.objects))
    num_given = 1 if name.startswith("davis") else 0
    moved = [encode(30, 50)] * (record.num_frames - num_given)
    tracks = [make_track(o.object_id, [*o.rles[:num_given], *moved]) for o in record.objects]
    return replace(record, objects=tuple(tracks[:1] if num_given else tracks))


def move_later(track):
    num_given = track.states.index("V") + 1
    moved = [encode(30, 50)] * (len(track.rles) - num_given)
    return make_track(track.object_id, [*track.rles[:num_given], *moved], track.category_id)


def test_object_keeps_the_mask_it_is_given_by(model, make_frames):
    record = record_for("davis_2017")
    prediction = run(model, "davis_2017", record, make_frames(NUM_FRAMES), None)
    truth = truth_of(BENCHMARKS["davis_2017"], [record], None)
    assert prediction.frame_names == truth.frame_names == ("00000", "00001", "00002", "00003")
    assert prediction.object_ids == truth.object_ids == ("1",)
    assert np.array_equal(prediction.masks[0, 0], truth.masks[0, 0])


def test_objects_that_come_later_are_followed_up_to_the_largest_id_of_the_first_frame():
    """DAVIS counts objects so and refuses results with others."""
    record = record_for("davis_2017")
    assert list(first_masks(record, evaluated_objects(record))) == ["1"]
    swapped = replace(
        record,
        objects=(replace(record.objects[0], source_id="2"), replace(record.objects[1], source_id="1")),
    )
    found = first_masks(swapped, evaluated_objects(swapped))
    assert {name: given.frame_index for name, given in found.items()} == {"1": 2, "2": 0}


def test_objects_that_come_later_are_all_followed_where_a_benchmark_has_such(model, make_frames, label_space):
    record = record_for("ytvos_2018")
    for name in ("mose", "ytvos_2018", "viposeg"):
        prediction = run(model, name, record, make_frames(NUM_FRAMES), label_space)
        assert prediction.object_ids == ("1", "2")
        assert not prediction.masks[1, :2].any()


def test_expressions_are_named_by_their_official_ids(model, make_frames):
    prediction = run(model, "refytvos", make_record(), make_frames(NUM_FRAMES), None)
    assert prediction.object_ids == ("0", "1")
    assert prediction.frame_names == ("00000", "00001", "00002", "00003")


@pytest.mark.parametrize("name", ["coco_panoptic", "ytvis_2021", "vipseg", "vspw"])
def test_classes_without_a_label_space_are_refused(model, make_frames, name):
    record = record_for(name)
    frames = make_frames(record.num_frames)
    with pytest.raises(ValueError, match="^tiny/12: a benchmark with classes needs its label space$"):
        run(model, name, record, frames, None)


def test_frame_stems_leave_out_folder_and_suffix():
    assert frame_stems(make_record(num_frames=1)) == ("00000",)
