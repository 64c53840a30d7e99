from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from univs.data.augment import (
    Anchor,
    AugmentConfig,
    Source,
    draw_framing,
    draw_view,
    shrink_framing,
    swap_left_right,
)
from univs.data.view import Window

GEOMETRY_ONLY = AugmentConfig(
    short_edges_px=(40, 64, 90), max_long_edge_px=160, brightness=0, contrast=0, saturation=0
)
CONFIGS = (
    GEOMETRY_ONLY,
    replace(GEOMETRY_ONLY, jitter_canvas_px=96),
    replace(GEOMETRY_ONLY, crop_px=(30, 50), crop_short_edges_px=(24, 48), crop_probability=1),
    replace(GEOMETRY_ONLY, short_edges_px=(5,)),
)


def draw(config, source, seed):
    generator = np.random.default_rng(seed)
    drifts = config.pseudo_motion and source.is_pseudo_clip and source.num_frames > 1
    framing = draw_framing(config, (source.height, source.width), generator, is_moving=drifts)
    return draw_view(config, source, framing, generator)


@st.composite
def sources(draw) -> Source:
    height, width = draw(st.integers(1, 70)), draw(st.integers(1, 70))
    left, top = draw(st.integers(0, width - 1)), draw(st.integers(0, height - 1))
    box = Window(
        left=left,
        top=top,
        width=draw(st.integers(1, width - left)),
        height=draw(st.integers(1, height - top)),
    )
    x = draw(st.integers(box.left, box.left + box.width - 1))
    y = draw(st.integers(box.top, box.top + box.height - 1))
    return Source(
        height=height,
        width=width,
        num_frames=draw(st.integers(1, 5)),
        is_pseudo_clip=draw(st.booleans()),
        anchor=draw(st.sampled_from([None, Anchor(box=box, pixel=(x, y))])),
        is_reducible=draw(st.booleans()),
    )


@given(st.sampled_from(CONFIGS), sources(), st.integers(0, 10**6))
def test_windows_stay_inside_and_one_holds_the_anchor(config, source, seed):
    view = draw(config, source, seed)
    assert len(view.windows) == source.num_frames
    for window in view.windows:
        assert 0 <= window.left <= window.left + window.width <= source.width
        assert 0 <= window.top <= window.top + window.height <= source.height
        assert min(window.width, window.height) >= 1
        assert not any(value % view.scale for value in (window.left, window.top, window.width, window.height))
    if source.anchor and view.scale == 1:
        assert any(holds(window, source.anchor) for window in view.windows)
    if not source.is_pseudo_clip:
        assert len(set(view.windows)) == 1


@given(st.sampled_from(CONFIGS), sources(), st.integers(0, 10**6))
def test_frames_are_decoded_no_smaller_than_they_are_shown(config, source, seed):
    view = draw(config, source, seed)
    assert view.scale == 1 or source.is_reducible
    lost = view.scale - 1  # what does not fill a whole reduced pixel at the far border
    for window in view.windows:
        assert view.scale == 1 or window.width + lost >= view.scale * view.width
        assert view.scale == 1 or window.height + lost >= view.scale * view.height


def holds(window: Window, anchor: Anchor) -> bool:
    (x, y), box = anchor.pixel, anchor.box
    inside = 0 <= x - window.left < window.width and 0 <= y - window.top < window.height
    for start, size, left, length in (
        (box.left, box.width, window.left, window.width),
        (box.top, box.height, window.top, window.height),
    ):
        if size <= length:
            inside = inside and left <= start and start + size <= left + length
    return inside


def test_pseudo_clip_moves_steadily_and_video_does_not():
    config = AugmentConfig(short_edges_px=(64,), max_long_edge_px=128, rotation_degrees=15)
    shifts, turns = [], []
    for seed in range(30):
        source = Source(height=200, width=200, num_frames=5, is_pseudo_clip=True, anchor=None)
        view = draw(config, source, seed)
        centers = np.array([[w.left + w.width / 2, w.top + w.height / 2] for w in view.windows])
        steps = np.diff(centers, axis=0)
        assert np.abs(steps - steps.mean(0)).max() <= 1.5
        shifts.append(np.abs(centers[-1] - centers[0]).max())
        assert np.ptp(np.diff(view.angles)) < 1e-9
        assert np.abs(view.angles).max() <= 15
        turns.append(np.ptp(view.angles))
        video = draw(config, replace(source, is_pseudo_clip=False), seed)
        assert not video.angles
    assert np.median(shifts) > 5
    assert np.median(turns) > 3


def test_still_pseudo_clip_has_one_window_and_one_angle():
    config = AugmentConfig(
        short_edges_px=(64,), max_long_edge_px=128, pseudo_motion=False, rotation_degrees=15
    )
    source = Source(height=200, width=200, num_frames=5, is_pseudo_clip=True, anchor=None)
    view = draw(config, source, 0)
    assert len(set(view.windows)) == len(set(view.angles)) == 1


def test_a_turned_clip_still_shows_its_anchor():
    config = replace(GEOMETRY_ONLY, rotation_degrees=15, crop_probability=1, crop_min_fraction=0.3)
    shown = 0
    for seed in range(60):
        anchor = Anchor(box=Window(left=100, top=40, width=10, height=10), pixel=(104, 43))
        source = Source(height=120, width=160, num_frames=3, is_pseudo_clip=True, anchor=anchor)
        view = draw(config, source, seed)
        points = [view.matrix(index) @ [104.5, 43.5, 1] for index in range(3)]
        shown += any(0 <= x < view.width and 0 <= y < view.height for x, y in points)
    assert shown == 60


def test_large_scale_jitter_scales_uniformly_about_the_square():
    config = AugmentConfig(jitter_canvas_px=1024)
    zooms = []
    for seed in range(2000):
        framing = draw_framing(config, (360, 640), np.random.default_rng(seed), is_moving=False)
        assert framing.canvas == (1024, 1024)
        zoom = framing.width / framing.crop_width
        assert framing.height / framing.crop_height == pytest.approx(zoom, abs=0.05)
        assert framing.width == 1024 or framing.crop_width == 640
        assert framing.height == 1024 or framing.crop_height == 360
        zooms.append(zoom * 640 / 1024)
    quartiles = np.quantile(zooms, [0.25, 0.5, 0.75])
    assert np.abs(quartiles - [0.25 + 3.75 * q for q in (0.25, 0.5, 0.75)]).max() < 0.15
    assert 0.24 < min(zooms) < 0.3
    assert 3.9 < max(zooms) < 4.1


def test_a_crop_in_pixels_is_measured_at_the_scale_of_its_short_edge():
    config = AugmentConfig(crop_probability=1, crop_px=(600, 1024), crop_short_edges_px=(500,))
    widths = []
    for seed in range(300):
        framing = draw_framing(config, (1000, 4000), np.random.default_rng(seed), is_moving=False)
        assert framing.crop_height == 1000  # 500 is below the smallest crop
        widths.append(framing.crop_width / 2)
    assert 600 <= min(widths) < 620
    assert 1004 < max(widths) <= 1024


def test_a_clip_is_shrunk_to_a_canvas_planned_for_another():
    framing = draw_framing(GEOMETRY_ONLY, (60, 60), np.random.default_rng(0), is_moving=False)
    assert shrink_framing(framing, (framing.height + 9, framing.width)).height == framing.height
    small = shrink_framing(framing, (framing.height, framing.width // 2))
    assert (small.height, small.width) == (
        framing.height * (framing.width // 2) // framing.width,
        framing.width // 2,
    )
    assert small.crop_width == framing.crop_width


def test_drawn_colors_stay_in_their_range():
    config = AugmentConfig(short_edges_px=(8,), max_long_edge_px=9, brightness=0.1, saturation=0)
    source = Source(height=8, width=8, num_frames=1, is_pseudo_clip=False, anchor=None)
    views = [draw(config, source, seed) for seed in range(200)]
    assert all(abs(view.brightness - 1) <= 0.1 and abs(view.contrast - 1) <= 0.2 for view in views)
    assert {view.saturation for view in views} == {1.0}
    assert 60 < sum(view.is_flipped for view in views) < 140


@pytest.mark.parametrize(
    ("text", "swapped"),
    [
        ("the man on the left", "the man on the right"),
        ("Right hand, LEFT foot", "Left hand, RIGHT foot"),
        ("leftmost cup; right-hand door; moving leftward", "rightmost cup; left-hand door; moving rightward"),
        ("a bright upright leftover copyright", "a bright upright leftover copyright"),
        ("from left to right.", "from right to left."),
    ],
)
def test_swap_changes_whole_words_only(text, swapped):
    assert swap_left_right(text) == swapped
    assert swap_left_right(swapped) == text


@pytest.mark.parametrize(
    "changes",
    [
        {"short_edges_px": ()},
        {"max_long_edge_px": 100},
        {"crop_min_fraction": 0.0},
        {"flip_probability": 1.5},
        {"contrast": 1.0},
        {"rotation_degrees": 90.0},
        {"jitter_scale": (2.0, 1.0)},
        {"jitter_canvas_px": -1},
        {"crop_px": (9, 4)},
        {"crop_short_edges_px": (0,)},
    ],
)
def test_impossible_settings_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        AugmentConfig(**changes)
