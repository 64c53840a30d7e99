from dataclasses import replace

import numpy as np
import pytest

from preprocessing.findings import FindingLog
from preprocessing.geometry_checks import check_geometry
from preprocessing.masks import encode_mask
from univs.schema import Frame, ObjectTrack, VideoRecord

HEIGHT, WIDTH = 20, 30
BOX = (4.0, 5.0, 10.0, 6.0)
"""Tight box of the mask."""


@pytest.fixture
def record():
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask[5:11, 4:14] = True
    track = ObjectTrack(
        object_id=1,
        source_id="7",
        category_id=None,
        states="VAV",
        rles=(encode_mask(mask), None, encode_mask(mask)),
    )
    return VideoRecord(
        dataset="ovis",
        split="train",
        item_id="a",
        kind="video",
        height=HEIGHT,
        width=WIDTH,
        label_space=None,
        frames=tuple(Frame(index=i, name=f"{i}.jpg", extension="jpg") for i in range(3)),
        objects=(track,),
    )


def findings_of(record, **changes):
    log = FindingLog()
    check_geometry(replace(record, objects=(replace(record.objects[0], **changes),)), log)
    return [(finding.code, finding.message) for finding in log.findings()]


def test_check_geometry_official_numbers_that_fit_are_sound(record):
    outline = ((4.0, 5.0, 14.0, 5.0, 14.0, 11.0, 4.0, 11.0),)
    assert findings_of(record) == []
    assert (
        findings_of(record, boxes=(BOX, None, BOX), areas=(60.0, None, 60.0), polygons=(outline, None, None))
        == []
    )
    near = (4.6, 4.1, 9.9, 6.4)
    assert findings_of(record, boxes=(near, None, None), areas=(51.25, 3.0, None)) == []


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ((5.5, 5, 10, 6), "box [5.5, 5, 10, 6]; mask has [4, 5, 10, 6]"),
        ((4, 5, 10, 8), "box [4, 5, 10, 8]; mask has [4, 5, 10, 6]"),
        ((4, 5, 0, 6), "box [4, 5, 0, 6] has no extent; mask has [4, 5, 10, 6]"),
        ((4, 5, 10, -1), "box [4, 5, 10, -1] has no extent; mask has [4, 5, 10, 6]"),
    ],
)
def test_check_geometry_box_off_by_more_than_a_pixel_is_w116(record, box, found):
    assert findings_of(record, boxes=(BOX, None, box)) == [("W116", f"a: object 7 frame 2: {found}")]


def test_check_geometry_box_of_an_outline_may_be_off_by_two_pixels(record):
    outline = (((4, 5, 14, 5, 14, 11, 4, 11),), None, None)
    assert findings_of(record, boxes=((2.0, 5, 12, 6), None, None), polygons=outline) == []
    found = findings_of(record, boxes=((1.9, 5, 12.1, 6), None, None), polygons=outline)
    assert found == [("W116", "a: object 7 frame 0: box [1.9, 5, 12.1, 6]; mask has [4, 5, 10, 6]")]


@pytest.mark.parametrize(
    ("area", "found"),
    [
        (80.0, "area 80; mask has 60 pixels"),
        (43.5, "area 43.5; mask has 60 pixels"),
        (0.0, "area 0; mask has 60 pixels"),
    ],
)
def test_check_geometry_area_off_by_more_than_the_outline_is_w115(record, area, found):
    assert findings_of(record, areas=(area, None, 60.0)) == [("W115", f"a: object 7 frame 0: {found}")]


def test_check_geometry_area_of_the_box_is_named_as_such(record):
    mask = np.zeros((HEIGHT, WIDTH), dtype=np.bool_)
    mask[np.arange(20), np.arange(20)] = True
    rles = (encode_mask(mask), None, None)
    found = findings_of(record, states="VAA", rles=rles, areas=(400.0, None, None))
    expected = "a: object 7 frame 0: area 400; mask has 20 pixels; it is the area of the box"
    assert found == [("W115", expected)]


@pytest.mark.parametrize(
    ("polygon", "found"),
    [
        ((-2.5, 5, 14, 5, 14, 11), "polygon reaches from -2.5 to (14, 11); image is 30x20"),
        ((4, 5, 31.5, 5, 14, 11), "polygon reaches from 4 to (31.5, 11); image is 30x20"),
        ((4, 5, 14, 5, 14, 22), "polygon reaches from 4 to (14, 22); image is 30x20"),
    ],
)
def test_check_geometry_polygon_outside_the_image_is_w118(record, polygon, found):
    polygons = ((polygon,), None, None)
    assert findings_of(record, polygons=polygons) == [("W118", f"a: object 7 frame 0: {found}")]


def test_check_geometry_many_of_a_kind_are_one_finding(record):
    wrong = (0.0, 0.0, 1.0, 1.0)
    ((code, message),) = findings_of(record, boxes=(wrong, None, wrong))
    assert (code, message.rpartition(" (")[2]) == ("W116", "and 1 more like it)")


def test_check_geometry_image_is_named_without_frame(record):
    image = replace(
        record,
        kind="image",
        frames=record.frames[:1],
    )
    rle = record.objects[0].rles[0]
    found = findings_of(image, states="V", rles=(rle,), areas=(100.0,))
    assert found == [("W115", "a: object 7: area 100; mask has 60 pixels")]
