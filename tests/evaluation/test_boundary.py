import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from univs.evaluation.boundary import boundary_f, matching_radius, trace


def _slow_boundary(mask):
    height, width = mask.shape
    edges = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            neighbors = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            inside = [(b, a) for b, a in neighbors if b < height and a < width]
            edges[y, x] = any(mask[b, a] != mask[y, x] for b, a in inside)
    return edges


def _slow_f(ours, theirs):
    radius = math.ceil(0.008 * math.sqrt(ours.shape[0] ** 2 + ours.shape[1] ** 2))
    points, targets = (np.argwhere(_slow_boundary(mask)) for mask in (ours, theirs))
    if len(points) == 0 or len(targets) == 0:
        return float(len(points) == len(targets))
    near = ((points[:, None] - targets[None]) ** 2).sum(axis=2) <= radius**2
    precision, recall = near.any(axis=1).mean(), near.any(axis=0).mean()
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _fast_f(ours, theirs):
    lines = (trace(mask.astype(np.uint8)).get(1) for mask in (ours, theirs))
    return boundary_f(*lines, matching_radius(ours.shape))


def _blob(rng, shape):
    y, x = np.ogrid[: shape[0], : shape[1]]
    center, size = rng.random(2) * shape, rng.uniform(3, 25, 2)
    return ((y - center[0]) / size[0]) ** 2 + ((x - center[1]) / size[1]) ** 2 < 1


@pytest.mark.parametrize("seed", range(12))
def test_boundary_f_equals_distances_between_all_boundary_pixels(seed):
    rng = np.random.default_rng(seed)
    shape = (int(rng.integers(20, 90)), int(rng.integers(20, 160)))
    theirs = _blob(rng, shape) | _blob(rng, shape)
    ours = np.roll(theirs, rng.integers(-3, 4, 2), axis=(0, 1)) ^ (rng.random(shape) < 0.002)
    assert _fast_f(ours, theirs) == pytest.approx(_slow_f(ours, theirs), abs=1e-12)


@given(seed=st.integers(0, 2**32 - 1), radius=st.integers(0, 24))
def test_boundaries_match_within_a_disk_of_any_radius(seed, radius):
    rng = np.random.default_rng(seed)
    points = [rng.integers(0, 60, (2, int(rng.integers(1, 9)))) for _ in range(2)]
    ours, theirs = (np.unique(p, axis=1) for p in points)
    near = ((ours[:, :, None] - theirs[:, None]) ** 2).sum(axis=0) <= radius**2
    precision, recall = near.any(axis=1).mean(), near.any(axis=0).mean()
    expected = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    assert boundary_f(ours, theirs, radius) == pytest.approx(expected, abs=1e-12)


@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    num_labels=st.integers(1, 5),
)
def test_traced_labels_obey_the_neighbor_rule(seed, size, num_labels):
    labels = np.random.default_rng(seed).integers(0, num_labels, size).astype(np.uint8)
    lines = trace(labels)
    assert 0 not in lines
    for label in range(1, num_labels):
        expected = [tuple(point) for point in np.argwhere(_slow_boundary(labels == label))]
        assert sorted(map(tuple, lines.get(label, np.zeros((2, 0), int)).T)) == expected


def test_boundary_f_of_a_mask_at_the_image_border_is_one():
    mask = np.zeros((30, 40), bool)
    mask[:12, 25:] = True
    assert _fast_f(mask, mask) == 1.0


@pytest.mark.parametrize(("ours", "theirs", "expected"), [(0, 0, 1.0), (1, 0, 0.0), (0, 1, 0.0)])
def test_boundary_f_of_empty_masks(ours, theirs, expected):
    mask = np.zeros((20, 20), bool)
    mask[5:9, 5:9] = True
    assert _fast_f(mask & bool(ours), mask & bool(theirs)) == expected


def test_boundary_f_of_masks_without_boundary_is_one():
    assert _fast_f(np.ones((8, 8), bool), np.ones((8, 8), bool)) == 1.0


def test_boundary_f_of_distant_masks_is_zero():
    ours, theirs = np.zeros((2, 60, 60), bool)
    ours[5:10, 5:10] = theirs[40:50, 40:50] = True
    assert _fast_f(ours, theirs) == 0.0
