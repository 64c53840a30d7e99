from itertools import pairwise
from xml.etree import ElementTree

import av
import cv2
import numpy as np
import pytest

from univs import draw


def _frame(height=48, width=64, value=90):
    return np.full((height, width, 3), value, np.uint8)


def _mask():
    mask = np.zeros((48, 64), bool)
    mask[10:40, 12:50] = True
    return mask


def test_palette_is_the_one_of_davis_masks():
    table = draw.palette()
    assert table[:6].tolist() == [
        [0, 0, 0],
        [128, 0, 0],
        [0, 128, 0],
        [128, 128, 0],
        [0, 0, 128],
        [128, 0, 128],
    ]
    assert table[255].tolist() == [224, 224, 192]
    assert len({tuple(row) for row in table.tolist()}) == 256


def test_colors_are_stable_bright_and_neighbors_differ():
    colors = [draw.color_of(number) for number in range(40)]
    assert colors == [draw.color_of(number) for number in range(40)]
    assert len(set(colors)) == 40
    assert all(max(color) > 180 for color in colors)
    assert all(np.abs(np.subtract(a, b)).sum() > 100 for a, b in pairwise(colors))


def test_overlay_changes_the_mask_and_nothing_else():
    frame, mask = _frame(), _mask()
    picture = draw.overlay(frame, mask[None], numbers=[3])
    changed = (picture != frame).any(axis=2)
    assert (changed == mask).all()
    assert (frame == 90).all()
    inside = picture[25, 30].astype(int)
    assert np.abs(inside - (np.add(draw.color_of(3), 90) / 2)).max() <= 1
    assert tuple(picture[10, 30]) == draw.color_of(3)


def test_overlay_writes_a_name_only_on_masks_that_are_shown():
    frame, mask = _frame(), _mask()
    masks = np.stack((mask, np.zeros_like(mask)))
    plain, named, hidden = (draw.overlay(frame, masks, names) for names in ((), ("cat", ""), ("", "cat")))
    assert (plain != named).any()
    assert (plain == hidden).all()


def test_overlay_of_labels_keeps_ignored_pixels_and_colors_by_value():
    labels = np.where(_mask(), 5, 0)
    picture = draw.overlay_labels(_frame(), labels, {})
    assert (picture[~_mask()] == 90).all()
    assert (picture == draw.overlay(_frame(), _mask()[None], numbers=[5])).all()
    assert (draw.overlay_labels(_frame(), np.zeros((48, 64), int), {}) == 90).all()


def test_text_stays_inside_the_picture_and_is_readable():
    for center in ((0, 0), (63, 47), (200, -5)):
        picture = _frame()
        draw.write_text(picture, "cat", center)
        assert picture.max() > 240
        assert picture.min() == 30


def test_side_by_side_keeps_both_pictures_and_adds_titles():
    joined = draw.side_by_side([_frame(value=10), _frame(value=200)], gap_px=2)
    assert joined.shape == (48, 130, 3)
    assert (joined[:, :64] == 10).all()
    assert (joined[:, 66:] == 200).all()
    titled = draw.side_by_side([_frame(value=10), _frame(value=200)], ["truth", "prediction"])
    assert titled.shape[0] > 48
    assert (titled[-48:, :64] == 10).all()
    with pytest.raises(ValueError, match="one height"):
        draw.side_by_side([_frame(), _frame(height=20)])


def test_png_reads_back_in_red_green_blue():
    picture = np.random.default_rng(0).integers(0, 256, (7, 9, 3), np.uint8)
    decoded = cv2.imdecode(np.frombuffer(draw.to_png(picture), np.uint8), cv2.IMREAD_COLOR)
    assert (decoded[..., ::-1] == picture).all()


def test_video_plays_every_frame_enlarged_to_even_size(tmp_path):
    frames = [_frame(47, 63, value) for value in (20, 120, 220)]
    draw.write_video(tmp_path / "new/overlay.mp4", frames, frames_per_s=5, min_side_px=100)
    with av.open(str(tmp_path / "new/overlay.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 5
        decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [picture.shape for picture in decoded] == [(142, 190, 3)] * 3
    assert np.abs([picture.mean() for picture in decoded] - np.asarray((20, 120, 220))).max() < 4
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["overlay.mp4"]


@pytest.mark.parametrize("frames", [[], [_frame(), _frame(height=20)]])
def test_video_of_no_frames_or_mixed_sizes_raises(tmp_path, frames):
    with pytest.raises(ValueError, match="one size"):
        draw.write_video(tmp_path / "a.mp4", frames)
    assert not list(tmp_path.iterdir())


def test_curves_name_their_series_and_are_the_same_every_time():
    series = {"total loss": [(0, 3.0), (10, 1.5)], "mask loss": [(0, 2.0), (10, 1.0)]}
    picture = draw.curves(series, title="stage 1")
    assert picture == draw.curves(series, title="stage 1")
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    for text in (b"total loss", b"mask loss", b"stage 1", b"step"):
        assert text in picture
    assert draw.curves(series, form="png") == draw.curves(series, form="png")
    assert draw.curves({}).startswith(b"<?xml")


def test_curves_as_png_hold_a_line_per_series():
    def pixels(series):
        encoded = np.frombuffer(draw.curves(series, form="png"), np.uint8)
        return cv2.imdecode(encoded, cv2.IMREAD_COLOR)

    points = [(0, 0.0), (1, 1.0)]
    assert (pixels({"a": points}) != pixels({"a": points, "b": points[::-1]})).any()


def test_histogram_and_bars_are_svg_that_is_the_same_every_time():
    picture = draw.histogram([1, 2, 2, 9], "objects per item", ("objects", "items"))
    assert picture == draw.histogram([1, 2, 2, 9], "objects per item", ("objects", "items"))
    assert ElementTree.fromstring(picture).tag.endswith("svg")
    assert b"objects per item" in picture
    assert picture != draw.histogram([1, 2, 2, 8], "objects per item", ("objects", "items"))
    for values in ([], [3], [0.25, 0.5]):
        assert draw.histogram(values).startswith(b"<?xml")
    named = draw.bars({"cat": 3, "sky": 0}, "categories")
    assert b"cat" in named
    assert b"sky" in named


def test_jpeg_reads_back_in_red_green_blue():
    picture = np.zeros((16, 16, 3), np.uint8)
    picture[..., 0] = 200
    decoded = cv2.imdecode(np.frombuffer(draw.to_jpeg(picture), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded[..., ::-1].astype(int) - picture).max() < 12
