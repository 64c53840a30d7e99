from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from univs.data.images import PIXEL_MEAN, PIXEL_STD, normalize_colored
from univs.data.runs import Toggles, num_planes
from univs.data.view import ClipView, Window, output_size

HEIGHT, WIDTH = 40, 56


@st.composite
def views(draw, *, turned: bool | None = None, num_frames: int = 1) -> ClipView:
    windows = []
    for _ in range(num_frames):
        left, top = draw(st.integers(0, WIDTH - 4)), draw(st.integers(0, HEIGHT - 4))
        windows.append(
            Window(
                left=left,
                top=top,
                width=draw(st.integers(4, WIDTH - left)),
                height=draw(st.integers(4, HEIGHT - top)),
            )
        )
    turned = draw(st.booleans()) if turned is None else turned
    angles = tuple(draw(st.floats(-15, 15)) for _ in range(num_frames)) if turned else ()
    return ClipView(
        windows=tuple(windows),
        height=draw(st.integers(1, 70)),
        width=draw(st.integers(1, 70)),
        angles=angles,
        pivot=(draw(st.floats(20, 36)), draw(st.floats(15, 25))),
        is_flipped=draw(st.booleans()),
    )


def draw_masks(seed: int, number: int = 11) -> np.ndarray:
    generator = np.random.default_rng(seed)
    masks = np.zeros((number, HEIGHT, WIDTH), dtype=np.uint8)
    for index, mask in enumerate(masks):
        center = generator.integers(0, (WIDTH, HEIGHT)).tolist()
        cv2.circle(mask, center, 3 + index, 1, -1)
        mask ^= (generator.random(mask.shape) < 0.05).astype(np.uint8)
    return masks


def toggles(masks: np.ndarray) -> Toggles:
    counts = [coco_mask.encode(np.asfortranarray(mask))["counts"].decode() for mask in masks]
    return Toggles.parse(counts, HEIGHT, WIDTH)


def warp(view: ClipView, masks: np.ndarray, index: int = 0) -> np.ndarray:
    """Warp masks [N, H, W], the same in all frames, to [N, h, w] of one frame."""
    num_frames = len(view.windows)
    planes = np.zeros((num_planes(len(masks)), num_frames, view.height, -(-view.width // 8) * 8), np.uint8)
    view.warp_masks(toggles(masks), [0] * num_frames, planes)
    return np.stack([planes[n // 8, index] >> (n % 8) & 1 for n in range(len(masks))])[..., : view.width]


@given(views(), st.integers(0, 99))
def test_a_warped_mask_is_the_mask_of_the_warped_label_image(view, seed):
    labels = np.random.default_rng(seed).integers(0, 12, (HEIGHT, WIDTH)).astype(np.uint8)
    labels = cv2.medianBlur(labels, 5)
    masks = np.stack([(labels == label).astype(np.uint8) for label in range(12)])
    warped = warp(view, masks)
    outside = view.outside(0, HEIGHT, WIDTH)
    assert warped.sum(0).max() <= 1
    inside = np.ones(warped.shape[1:], dtype=bool) if outside is None else ~outside
    assert (warped.sum(0)[inside] == 1).all()
    weighted = (warped * np.arange(12)[:, None, None]).sum(0)
    single = sum((warp(view, mask[None])[0] * label for label, mask in enumerate(masks)), start=0)
    assert np.array_equal(weighted, single)


@given(views(turned=False), st.integers(0, 99))
def test_masks_go_where_torchvision_puts_them(view, seed):
    masks, window = draw_masks(seed), view.windows[0]
    found = warp(view, masks)
    expected = F.resized_crop(
        # As an image of N channels: masks are resized from their corners there, not from their centers.
        tv_tensors.Image(torch.from_numpy(masks)),
        window.top,
        window.left,
        window.height,
        window.width,
        [view.height, view.width],
        interpolation=v2.InterpolationMode.NEAREST_EXACT,
    )
    expected = F.horizontal_flip(expected) if view.is_flipped else expected
    rows, columns = (
        (2 * np.arange(size) + 1) * source % (2 * size) == 0
        for size, source in ((view.height, window.height), (view.width, window.width))
    )
    # A center on the line between two pixels may be either's: torchvision computes it in single precision.
    columns = columns[::-1] if view.is_flipped else columns
    kept = np.ix_(range(len(masks)), ~rows, ~columns)
    assert np.array_equal(found[kept], expected.numpy()[kept])


@given(views(turned=False), st.floats(0.3, 2), st.integers(0, 9))
def test_frames_go_where_torchvision_puts_them(view, zoom, seed):
    window = view.windows[0]
    view = replace(view, height=max(1, round(zoom * window.height)), width=max(1, round(zoom * window.width)))
    smooth = cv2.GaussianBlur(np.random.default_rng(seed).normal(size=(HEIGHT, WIDTH, 3)), (0, 0), 4)
    frame = cv2.normalize(smooth, None, 20, 235, cv2.NORM_MINMAX).astype(np.uint8)
    image = tv_tensors.Image(torch.from_numpy(frame).permute(2, 0, 1))
    expected = F.resized_crop(
        image, window.top, window.left, window.height, window.width, [view.height, view.width], antialias=True
    )
    expected = F.horizontal_flip(expected) if view.is_flipped else expected
    found = view.warp_frame(frame, 0).astype(int)
    assert found.shape == (view.height, view.width, 3)
    assert np.abs(found - expected.permute(1, 2, 0).numpy().astype(int)).mean() < 4


@given(
    views().filter(lambda view: min(view.height, view.width) > 4),
    st.integers(0, WIDTH - 12),
    st.integers(0, HEIGHT - 12),
)
def test_the_corners_of_a_box_go_with_its_mask(view, left, top):
    mask = np.zeros((1, HEIGHT, WIDTH), dtype=np.uint8)
    mask[0, top : top + 12, left : left + 12] = 1
    corners = np.array([[left + dx, top + dy, 1.0] for dx in (0, 12) for dy in (0, 12)])
    mapped = corners @ view.matrix(0).T
    shape = np.zeros((view.height, view.width), dtype=np.uint8)
    hull = cv2.convexHull(mapped.astype(np.float32))[:, 0]
    ys, xs = np.mgrid[: view.height, : view.width]
    for y, x in zip(ys.ravel(), xs.ravel(), strict=True):
        shape[y, x] = cv2.pointPolygonTest(hull, (float(x) + 0.5, float(y) + 0.5), measureDist=False) >= 0
    found = warp(view, mask)[0]
    edge = cv2.morphologyEx(
        cv2.copyMakeBorder(shape, 1, 1, 1, 1, cv2.BORDER_REPLICATE),
        cv2.MORPH_GRADIENT,
        np.ones((3, 3), np.uint8),
    )
    assert not ((found != shape) & (edge[1:-1, 1:-1] == 0)).any()


@given(views(), st.integers(0, 99))
def test_mirroring_twice_changes_nothing(view, seed):
    masks = draw_masks(seed, 3)
    frame = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    other = replace(view, is_flipped=not view.is_flipped)
    if view.angles:
        # A turned frame is resampled between pixels: mirrored ones may round to the other side.
        assert (warp(view, masks) != warp(other, masks)[:, :, ::-1]).mean() < 0.06
    else:
        centered = (2 * np.arange(view.width) + 1) * view.windows[0].width % (2 * view.width) != 0
        kept = centered & centered[::-1]
        assert np.array_equal(warp(view, masks)[:, :, kept], warp(other, masks)[:, :, ::-1][:, :, kept])
        assert np.array_equal(view.warp_frame(frame, 0), other.warp_frame(frame, 0)[:, ::-1])


@given(views(num_frames=3), st.integers(0, 99))
def test_frames_of_a_clip_are_those_of_single_frames(view, seed):
    masks = draw_masks(seed, 3)
    for index in range(3):
        single = replace(view, windows=view.windows[index : index + 1], angles=view.angles[index : index + 1])
        assert np.array_equal(warp(view, masks, index), warp(single, masks))


def test_equal_windows_and_angles_give_equal_frames():
    view = ClipView(
        windows=(Window(left=3, top=2, width=40, height=30),) * 3,
        height=33,
        width=47,
        angles=(7.0,) * 3,
        pivot=(20.0, 20.0),
    )
    frame = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    assert all(np.array_equal(view.warp_frame(frame, 0), view.warp_frame(frame, i)) for i in (1, 2))
    assert all(np.array_equal(warp(view, draw_masks(0), 0), warp(view, draw_masks(0), i)) for i in (1, 2))


def test_a_turned_source_leaves_the_mean_color_and_unjudged_corners():
    whole = Window(left=0, top=0, width=WIDTH, height=HEIGHT)
    view = ClipView(
        windows=(whole,), height=HEIGHT, width=WIDTH, angles=(15.0,), pivot=(WIDTH / 2, HEIGHT / 2)
    )
    white = np.full((HEIGHT, WIDTH, 3), 255, dtype=np.uint8)
    outside = view.outside(0, HEIGHT, WIDTH)
    warped = view.warp_frame(white, 0)
    assert outside[0, 0]
    assert outside[-1, -1]
    assert not outside[HEIGHT // 2, WIDTH // 2]
    assert warped[0, 0].tolist() == [124, 116, 104]
    assert (warped[~outside] == 255).all()
    assert not warp(view, np.ones((1, HEIGHT, WIDTH), np.uint8))[0][warped[..., 0] == 124].any()


def test_a_positive_angle_turns_counterclockwise():
    whole = Window(left=0, top=0, width=WIDTH, height=HEIGHT)
    view = ClipView(windows=(whole,), height=HEIGHT, width=WIDTH, angles=(90.0,), pivot=(20.0, 20.0))
    x, y = view.matrix(0) @ [30, 20, 1]
    assert (round(x), round(y)) == (20, 10)


def test_flip_mirrors_frames():
    frame = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    view = ClipView(windows=(Window(left=1, top=0, width=5, height=4),), height=4, width=5, is_flipped=True)
    assert np.array_equal(view.warp_frame(frame, 0), frame[:, 5:0:-1])


def test_a_frame_is_written_in_place():
    frame = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    window = Window(left=0, top=0, width=WIDTH, height=HEIGHT)
    for changes in ({}, {"angles": (4.0,)}, {"is_flipped": True}):
        view = ClipView(windows=(window,), height=20, width=30, **changes)
        canvas = np.zeros((32, 64, 3), dtype=np.uint8)
        view.warp_frame(frame, 0, canvas[:20, :30])
        assert np.array_equal(canvas[:20, :30], view.warp_frame(frame, 0))
        assert not canvas[20:].any()
        assert not canvas[:, 30:].any()


def test_color_factors_change_what_they_name():
    frame = np.full((2, 2, 3), 0, np.uint8)
    frame[:] = [100, 60, 20]

    def recolored(**factors) -> np.ndarray:
        window = Window(left=0, top=0, width=2, height=2)
        color = torch.from_numpy(ClipView(windows=(window,), height=2, width=2, **factors).color)
        mean, scale = np.array(PIXEL_MEAN), np.array(PIXEL_STD)
        return normalize_colored(torch.from_numpy(frame[None]), color)[0, :, 0, 0].numpy() * scale + mean

    assert recolored() == pytest.approx([100, 60, 20], abs=1e-3)
    assert recolored(brightness=1.5) == pytest.approx([150, 90, 30], abs=1e-3)
    assert recolored(contrast=0.5) == pytest.approx([114, 94, 74], abs=1e-3)
    assert recolored(brightness=3.0) == pytest.approx([255, 180, 60], abs=1e-3)
    gray = recolored(saturation=0.0)
    assert np.ptp(gray) < 1e-3
    assert 60 <= gray[0] <= 75
    assert np.ptp(recolored(saturation=1.2)) > 80


@pytest.mark.parametrize(
    ("size", "expected"), [((480, 640), (240, 320)), ((640, 480), (320, 240)), ((100, 1000), (40, 400))]
)
def test_output_size_keeps_the_aspect_within_the_limits(size, expected):
    assert output_size(*size, 240, 400) == expected
