from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from univs.data.masks import decode_rle
from univs.draw import color_of
from univs.evaluation.pictures import draw_comparison, draw_prediction, thin_out
from univs.labels import Category, LabelSpace
from univs.predictions import (
    InstanceTrack,
    InstanceVideo,
    ObjectVideo,
    PanopticVideo,
    Segment,
    SemanticVideo,
)

LABELS = LabelSpace(
    name="small",
    categories=(
        Category(category_id=4, name="cat", is_thing=True),
        Category(category_id=9, name="grass", is_thing=False),
    ),
)
NUM_FRAMES, HEIGHT, WIDTH = 3, 60, 80
FRAMES = [np.full((HEIGHT, WIDTH, 3), 40, np.uint8) for _ in range(NUM_FRAMES)]


def masks(left: int) -> np.ndarray:
    """A square that is gone in the last frame."""
    found = np.zeros((NUM_FRAMES, HEIGHT, WIDTH), bool)
    found[:2, 10:50, left : left + 30] = True
    return found


def encode(mask: np.ndarray) -> str | None:
    if not mask.any():
        return None
    return coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"].decode()


def make_track(left: int, score: float, label: int = 0) -> InstanceTrack:
    return InstanceTrack(label=label, score=score, rles=tuple(encode(mask) for mask in masks(left)))


def make_panoptic() -> PanopticVideo:
    segment = Segment(segment_id=7, label=0)
    return PanopticVideo(video_id="v", maps=7 * masks(5).astype(np.int32), segments=(segment,))


def make_semantic() -> SemanticVideo:
    return SemanticVideo(video_id="v", labels=np.where(masks(5), 1, -1).astype(np.int16))


def make_instances(*tracks: InstanceTrack) -> InstanceVideo:
    return InstanceVideo(video_id="v", height=HEIGHT, width=WIDTH, tracks=tracks)


def make_objects(object_ids=("1",)) -> ObjectVideo:
    return ObjectVideo(
        video_id="v",
        object_ids=object_ids,
        masks=np.stack([masks(5), masks(45)])[: len(object_ids)],
        frame_names=("a", "b", "c"),
    )


def changed(picture: np.ndarray, factor: int = 1) -> np.ndarray:
    """Which pixels of the original size differ from the bare frame, but for the rows that names may cover."""
    blocks = (picture != 40).any(-1).reshape(HEIGHT, factor, WIDTH, factor)
    return without_names(blocks.any((1, 3)))


def without_names(mask: np.ndarray) -> np.ndarray:
    """Leave out the middle rows."""
    return np.delete(mask, range(14, 46), axis=0)


PREDICTIONS = {
    "panoptic": (make_panoptic(), 7),
    "semantic": (make_semantic(), 1),
    "instance": (make_instances(make_track(5, 0.9)), 0),
    "objects": (make_objects(), 0),
}


@pytest.mark.parametrize("factor", [1, 3])
@pytest.mark.parametrize("kind", PREDICTIONS)
def test_prediction_tints_its_own_pixels_in_its_color(kind, factor):
    prediction, number = PREDICTIONS[kind]
    drawn = draw_prediction(prediction, FRAMES, LABELS, factor)
    assert [picture.shape for picture in drawn] == [(HEIGHT * factor, WIDTH * factor, 3)] * NUM_FRAMES
    for picture, expected in zip(drawn, masks(5), strict=True):
        assert (changed(picture, factor) == without_names(expected)).all()
    # A corner pixel inside the contour: half the frame's gray, half the color.
    tint = (0.5 * 40 + 0.5 * np.asarray(color_of(number))).round()
    assert drawn[0][12 * factor, 7 * factor].tolist() == tint.tolist()
    assert all((frame == 40).all() for frame in FRAMES)


@pytest.mark.parametrize("kind", PREDICTIONS)
def test_names_are_written_at_the_final_size(kind):
    (picture, *_) = draw_prediction(PREDICTIONS[kind][0], FRAMES, LABELS, 3)
    blocks = (picture > 200).all(-1).reshape(HEIGHT, 3, WIDTH, 3).sum((1, 3))
    # White strokes finer than a pixel of the frame; enlarged text would fill blocks of 3 x 3.
    assert blocks.any()
    assert set(np.unique(blocks).tolist()) - {0, 9}


def test_unlikely_tracks_are_not_drawn():
    drawn = draw_prediction(make_instances(make_track(5, 0.31), make_track(45, 0.29)), FRAMES, LABELS)
    assert (changed(drawn[0]) == without_names(masks(5)[0])).all()
    nothing = draw_prediction(make_instances(make_track(5, 0.1)), FRAMES, LABELS)
    assert all((picture == 40).all() for picture in nothing)


def test_classless_objects_need_no_label_space():
    drawn = draw_prediction(make_objects(("1", "expression 2")), FRAMES, None)
    assert (changed(drawn[0]) == without_names(masks(5)[0] | masks(45)[0])).all()


def test_comparison_shows_truth_left_and_prediction_right():
    truth, prediction = make_instances(make_track(5, 1.0)), make_instances(make_track(45, 0.9))
    drawn = draw_comparison(truth, prediction, FRAMES, LABELS, 1)
    left, right = drawn[0][-HEIGHT:, :WIDTH], drawn[0][-HEIGHT:, -WIDTH:]
    assert (changed(left) == without_names(masks(5)[0])).all()
    assert (changed(right) == without_names(masks(45)[0])).all()
    assert len(drawn) == NUM_FRAMES
    assert drawn[0].shape[0] > HEIGHT


def test_truth_of_some_frames_is_drawn_on_those():
    every = make_objects()
    sparse = replace(every, masks=every.masks[:, [1]], frame_names=("b",))
    drawn = draw_comparison(sparse, every, FRAMES, None, 1)
    shown = [changed(picture[-HEIGHT:, :WIDTH]).any() for picture in drawn]
    assert shown == [False, True, False]


def test_prediction_of_other_frames_is_refused():
    with pytest.raises(ValueError, match="zip"):
        draw_prediction(make_semantic(), FRAMES[:2], LABELS)


def test_matching_segments_have_one_color_whatever_their_ids():
    truth, other = make_panoptic(), replace(make_panoptic(), segments=(Segment(segment_id=9, label=0),))
    prediction = replace(other, maps=np.where(truth.maps, 9, 0).astype(np.int32))
    pictures = draw_comparison(truth, prediction, FRAMES, LABELS, 1)
    for picture in pictures:
        assert (picture[20:, :WIDTH] == picture[20:, WIDTH + 4 :]).all()
    wrong = replace(prediction, segments=(Segment(segment_id=9, label=1),))
    (picture, *_) = draw_comparison(truth, wrong, FRAMES, LABELS, 1)
    assert (picture[20:, :WIDTH] != picture[20:, WIDTH + 4 :]).any()


def test_segment_that_is_drawn_but_not_listed_is_drawn():
    truth = make_panoptic()
    unlisted = replace(truth, segments=())
    (picture, *_) = draw_comparison(truth, unlisted, FRAMES, LABELS, 1)
    assert (picture[20:, WIDTH + 4 :] != 40).any()


@pytest.mark.parametrize("step", [1, 2, 3])
def test_thinned_out_predictions_are_every_nth_row_and_column(step):
    shown = masks(5)[:, ::step, ::step]
    assert (thin_out(make_panoptic(), step).maps == 7 * shown).all()
    assert (thin_out(make_semantic(), step).labels == np.where(shown, 1, -1)).all()
    objects = make_objects()
    assert (thin_out(objects, step).masks == objects.masks[..., ::step, ::step]).all()
    instances = thin_out(make_instances(make_track(5, 0.9)), step)
    assert (instances.height, instances.width) == shown.shape[1:]
    (track,) = instances.tracks
    decoded = [decode_rle(counts, instances.height, instances.width) for counts in track.rles]
    assert (np.stack(decoded) == shown).all()
