import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from univs.data.augment import (
    Anchor,
    AugmentConfig,
    ClipView,
    Source,
    Window,
    draw_view,
    output_size,
    swap_left_right,
)

GEOMETRY_ONLY = AugmentConfig(
    short_edges_px=(40, 64, 90), max_long_edge_px=160, brightness=0, contrast=0, saturation=0
)


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
    )


@given(sources(), st.integers(0, 10**6))
def test_windows_stay_inside_and_one_holds_the_anchor(source, seed):
    view = draw_view(GEOMETRY_ONLY, source, np.random.default_rng(seed))
    assert len(view.windows) == source.num_frames
    for window in view.windows:
        assert 0 <= window.left <= window.left + window.width <= source.width
        assert 0 <= window.top <= window.top + window.height <= source.height
        assert min(window.width, window.height) >= 1
    if source.anchor:
        assert any(holds(window, source.anchor) for window in view.windows)
    if not source.is_pseudo_clip:
        assert len(set(view.windows)) == 1


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


@pytest.mark.parametrize("is_pseudo_clip", [False, True])
@pytest.mark.parametrize("seed", range(12))
def test_masks_move_with_frames(seed, is_pseudo_clip):
    mask = np.zeros((120, 160), dtype=np.uint8)
    cv2.circle(mask, (60, 50), 30, 1, -1)
    cv2.rectangle(mask, (90, 70), (140, 110), 1, -1)
    painted = np.repeat(mask[..., None] * np.uint8(255), 3, axis=2)
    source = Source(height=120, width=160, num_frames=3, is_pseudo_clip=is_pseudo_clip, anchor=None)
    view = draw_view(GEOMETRY_ONLY, source, np.random.default_rng(seed))
    for index in range(3):
        warped = view.warp_mask(mask.astype(bool), index).astype(np.uint8)
        seen = (view.warp_frame(painted, index)[..., 0] > 127).astype(np.uint8)
        assert warped.shape == (view.height, view.width)
        edge = cv2.morphologyEx(warped, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        assert not ((warped != seen) & (edge == 0)).any()


def test_pseudo_clip_moves_steadily_and_video_does_not():
    config = AugmentConfig(short_edges_px=(64,), max_long_edge_px=128)
    shifts = []
    for seed in range(30):
        source = Source(height=200, width=200, num_frames=5, is_pseudo_clip=True, anchor=None)
        windows = draw_view(config, source, np.random.default_rng(seed)).windows
        centers = np.array([[w.left + w.width / 2, w.top + w.height / 2] for w in windows])
        steps = np.diff(centers, axis=0)
        assert np.abs(steps - steps.mean(0)).max() <= 1.5
        shifts.append(np.abs(centers[-1] - centers[0]).max())
    assert np.median(shifts) > 5


def test_still_pseudo_clip_has_one_window():
    config = AugmentConfig(short_edges_px=(64,), max_long_edge_px=128, pseudo_motion=False)
    source = Source(height=200, width=200, num_frames=5, is_pseudo_clip=True, anchor=None)
    assert len(set(draw_view(config, source, np.random.default_rng(0)).windows)) == 1


def test_flip_mirrors_frames_and_masks():
    frame = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    window = Window(left=1, top=0, width=5, height=4)
    view = ClipView(windows=(window,), height=4, width=5, is_flipped=True)
    assert np.array_equal(view.warp_frame(frame, 0), frame[:, 5:0:-1])
    mask = frame[..., 0] > 30
    assert np.array_equal(view.warp_mask(mask, 0), mask[:, 5:0:-1])


def test_color_factors_change_what_they_name():
    frame = np.full((2, 2, 3), 0, np.uint8)
    frame[:] = [100, 60, 20]
    window = Window(left=0, top=0, width=2, height=2)

    def recolored(**factors) -> np.ndarray:
        view = ClipView(windows=(window,), height=2, width=2, **factors)
        return view.warp_frame(frame, 0)[0, 0].astype(int)

    assert recolored(brightness=1.5).tolist() == [150, 90, 30]
    assert recolored(contrast=0.5).tolist() == [114, 94, 74]
    gray = recolored(saturation=0.0)
    assert gray.max() == gray.min()
    assert 60 <= gray[0] <= 75
    assert np.ptp(recolored(saturation=1.2)) > 80


def test_drawn_colors_stay_in_their_range():
    config = AugmentConfig(short_edges_px=(8,), max_long_edge_px=9, brightness=0.1, saturation=0)
    source = Source(height=8, width=8, num_frames=1, is_pseudo_clip=False, anchor=None)
    views = [draw_view(config, source, np.random.default_rng(seed)) for seed in range(200)]
    assert all(abs(view.brightness - 1) <= 0.1 and abs(view.contrast - 1) <= 0.2 for view in views)
    assert {view.saturation for view in views} == {1.0}
    assert 60 < sum(view.is_flipped for view in views) < 140


@pytest.mark.parametrize(
    ("size", "expected"), [((480, 640), (240, 320)), ((640, 480), (320, 240)), ((100, 1000), (40, 400))]
)
def test_output_size_keeps_the_aspect_within_the_limits(size, expected):
    assert output_size(*size, 240, 400) == expected


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
    ],
)
def test_impossible_settings_are_refused(changes):
    with pytest.raises(ValueError, match=next(iter(changes))):
        AugmentConfig(**changes)
