from dataclasses import replace

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from univs.evaluation.truth import (
    expression_truth,
    instance_truth,
    object_truth,
    panoptic_truth,
    semantic_truth,
)
from univs.labels import Category, LabelSpace
from univs.schema import Chunk, Expression, Frame, ObjectTrack, Region, VideoRecord

LABELS = LabelSpace(
    name="small",
    categories=(
        Category(category_id=3, name="cat", is_thing=True),
        Category(category_id=8, name="grass", is_thing=False),
    ),
)


def _rle(first, last):
    """A mask of columns first..last-1 in a 2x8 frame."""
    mask = np.zeros((2, 8), np.uint8, order="F")
    mask[:, first:last] = 1
    return coco_mask.encode(mask)["counts"].decode()


def _track(object_id, source_id, category_id, *rles, is_crowd=False):
    return ObjectTrack(
        object_id=object_id,
        source_id=source_id,
        category_id=category_id,
        states="".join("A" if rle is None else "V" for rle in rles),
        rles=rles,
        is_crowd=is_crowd,
    )


def _record(**changes):
    """Three frames: grass on the right throughout, a cat that enters in frame 1, void in columns 3-4."""
    record = VideoRecord(
        dataset="vipseg",
        split="val",
        item_id="seq",
        kind="video",
        height=2,
        width=8,
        label_space="small",
        frames=tuple(Frame(index=t, name=f"{5 * t:05d}.jpg", extension="jpg") for t in range(3)),
        objects=(
            _track(1, "300", 3, None, _rle(0, 3), _rle(1, 3)),
            _track(2, "9", 8, _rle(5, 8), _rle(5, 8), _rle(5, 8)),
        ),
        regions=(Region(kind="void", rles=(_rle(0, 5), _rle(3, 5), _rle(3, 5))),),
        expressions=(
            Expression(expression_id="0", text="the cat", object_ids=(1,)),
            Expression(expression_id="1", text="everything", object_ids=(1, 2)),
        ),
        is_partition=True,
    )
    return replace(record, **changes)


def _chunks(record):
    """The first two frames and the last, each with the objects it shows."""
    parts = []
    for index, span in enumerate((slice(0, 2), slice(2, 3))):
        objects = tuple(
            replace(o, states=o.states[span], rles=o.rles[span]) for o in record.objects if any(o.rles[span])
        )
        regions = tuple(replace(r, rles=r.rles[span]) for r in record.regions)
        parts.append(
            replace(
                record,
                frames=record.frames[span],
                objects=objects,
                regions=regions,
                chunk=Chunk(index=index, count=2, item_frames=3),
            )
        )
    return parts


def test_panoptic_truth_paints_object_ids_and_leaves_void():
    truth = panoptic_truth((_record(),), LABELS)
    assert truth.maps[:, 0].tolist() == [
        [0, 0, 0, 0, 0, 2, 2, 2],
        [1, 1, 1, 0, 0, 2, 2, 2],
        [0, 1, 1, 0, 0, 2, 2, 2],
    ]
    assert {(s.segment_id, s.label) for s in truth.segments} == {(1, 0), (2, 1)}


@pytest.mark.parametrize(
    ("sources", "cat_enters_late", "expected"),
    [(("9", "300"), True, [2, 1]), (("9", "300"), False, [1, 2]), (("300", "9"), False, [2, 1])],
)
def test_panoptic_truth_lists_segments_by_first_frame_then_source_number(sources, cat_enters_late, expected):
    cat = _track(1, sources[0], 3, None if cat_enters_late else _rle(0, 3), _rle(0, 3), _rle(0, 3))
    grass = _track(2, sources[1], 8, *[_rle(5, 8)] * 3)
    truth = panoptic_truth((_record(objects=(cat, grass)),), LABELS)
    assert [segment.segment_id for segment in truth.segments] == expected


def test_panoptic_truth_keeps_crowd_flags():
    objects = (_track(4, "1", 3, _rle(0, 2), _rle(0, 2), None, is_crowd=True),)
    (segment,) = panoptic_truth((_record(objects=objects),), LABELS).segments
    assert segment.is_crowd


def test_semantic_truth_holds_labels_and_minus_one_for_void():
    labels = semantic_truth((_record(),), LABELS).labels
    assert labels[1, 1].tolist() == [0, 0, 0, -1, -1, 1, 1, 1]
    assert labels.dtype == np.int16


def test_instance_truth_keeps_things_only():
    truth = instance_truth((_record(),), LABELS)
    (track,) = truth.tracks
    assert (track.label, track.score) == (0, 1.0)
    assert track.rles == (None, _rle(0, 3), _rle(1, 3))
    assert (truth.height, truth.width) == (2, 8)


def test_object_truth_keeps_ids_up_to_the_largest_of_the_first_frame():
    objects = (
        _track(1, "3", None, None, _rle(0, 1), None),
        _track(2, "2", None, _rle(1, 2), None, None),
        _track(3, "1", None, None, None, _rle(4, 6)),
    )
    truth = object_truth((_record(objects=objects),))
    assert truth.object_ids == ("1", "2")
    assert truth.masks[:, :, 0].sum(axis=2).tolist() == [[0, 0, 2], [1, 0, 0]]
    assert truth.frame_names == ("00000", "00005", "00010")


def test_object_truth_leaves_out_frames_that_are_not_labelled():
    record = _record()
    frames = (record.frames[0], replace(record.frames[1], labelled=False), record.frames[2])
    truth = object_truth((replace(record, frames=frames),))
    assert truth.frame_names == ("00000", "00010")
    assert truth.masks.shape == (1, 2, 2, 8)


def test_expression_truth_is_the_union_of_the_named_objects():
    truth = expression_truth((_record(),))
    assert truth.object_ids == ("0", "1")
    assert truth.masks[:, 2, 0].tolist() == [
        [False, True, True, False, False, False, False, False],
        [False, True, True, False, False, True, True, True],
    ]


@pytest.mark.parametrize("make", [panoptic_truth, semantic_truth, instance_truth])
def test_truth_of_chunks_in_any_order_equals_truth_of_the_whole(make):
    whole, joined = make((_record(),), LABELS), make(_chunks(_record())[::-1], LABELS)
    for field in whole.__slots__:
        assert np.array_equal(getattr(whole, field), getattr(joined, field))


@pytest.mark.parametrize(
    ("make", "changes", "message"),
    [
        (lambda r: panoptic_truth((r,), LABELS), {"is_partition": False}, "partition"),
        (lambda r: panoptic_truth((r,), LABELS), {"ground_truth": "none"}, "ground truth is 'none'"),
        (lambda r: object_truth((r,)), {"ground_truth": "first_frame"}, "first_frame"),
        (lambda r: object_truth((r,)), {"objects": ()}, "first frame shows no object"),
        (
            lambda r: semantic_truth((r,), LABELS),
            {"objects": (_track(1, "1", 77, None, None, None),)},
            "category 77",
        ),
        (
            lambda r: object_truth((r,)),
            {"objects": (_track(1, "left", None, _rle(0, 1), None, None),)},
            "numbers",
        ),
        (lambda r: expression_truth((r,)), {"objects": ()}, r"missing objects \[1\]"),
        (
            lambda r: semantic_truth((r,), LABELS),
            {
                "frames": tuple(
                    Frame(index=t, name=f"{t}.jpg", extension="jpg", labelled=t != 1) for t in range(3)
                )
            },
            "1.jpg",
        ),
    ],
)
def test_record_that_holds_no_such_truth_raises(make, changes, message):
    with pytest.raises(ValueError, match=message):
        make(_record(**changes))
