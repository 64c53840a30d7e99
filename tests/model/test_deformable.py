import itertools
import math

import pytest
import torch

from univs.model.deformable import DeformableAttention, deformable_sample, sample_grid
from univs.model.position import cell_centers

SHAPES = ((2, 3), (4, 5))


def bilinear(level: torch.Tensor, x: float, y: float) -> torch.Tensor:
    """Sample [h, w, d] at cell coordinates whose integers are cell centers, zero outside."""
    height, width, _ = level.shape
    left, top = math.floor(x), math.floor(y)
    total = torch.zeros(level.shape[-1])
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < height and 0 <= column < width:
                total = total + (1 - abs(y - row)) * (1 - abs(x - column)) * level[row, column]
    return total


def draw_samples(dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Draw values, offsets and weights; some samples fall outside the maps, some far outside."""
    torch.manual_seed(0)
    value = torch.randn(2, 26, 2, 4, dtype=dtype)
    offsets = torch.randn(2, 26, 2, 2, 3, 2, dtype=dtype) * 2
    offsets[0, 0] *= 1000
    return value, offsets, torch.rand(2, 26, 2, 2, 3, dtype=dtype)


@pytest.mark.parametrize("sample", [deformable_sample, sample_grid])
def test_sampling_equals_a_loop(sample):
    value, offsets, weights = draw_samples()
    centers = cell_centers(SHAPES, torch.device("cpu"))
    expected = torch.zeros(2, 26, 2, 4)
    for n, q, h, index, k in itertools.product(range(2), range(26), range(2), range(2), range(3)):
        height, width = SHAPES[index]
        level = (value[n, :6, h] if index == 0 else value[n, 6:, h]).reshape(height, width, 4)
        x = centers[q, 0] * width - 0.5 + offsets[n, q, h, index, k, 0]
        y = centers[q, 1] * height - 0.5 + offsets[n, q, h, index, k, 1]
        expected[n, q, h] += weights[n, q, h, index, k] * bilinear(level, float(x), float(y))
    got = sample(value, SHAPES, offsets, weights)
    torch.testing.assert_close(got, expected.flatten(2), atol=1e-5, rtol=1e-5)


def test_sampling_on_cell_centers_and_borders_equals_grid_sample():
    value, offsets, weights = draw_samples(torch.float64)
    offsets = offsets.round()
    got = deformable_sample(value, SHAPES, offsets, weights)
    torch.testing.assert_close(got, sample_grid(value, SHAPES, offsets, weights), atol=1e-6, rtol=1e-6)


def test_sampling_gradients_equal_numeric_ones():
    inputs = [tensor.requires_grad_() for tensor in draw_samples(torch.float64)]
    assert torch.autograd.gradcheck(
        lambda v, o, w: deformable_sample(v, SHAPES, o, w), inputs, fast_mode=True
    )


def test_sampling_gradients_equal_those_of_grid_sample():
    gradients = []
    for sample in (deformable_sample, sample_grid):
        inputs = [tensor.requires_grad_() for tensor in draw_samples()]
        (sample(inputs[0], SHAPES, *inputs[1:]) * torch.arange(8)).sum().backward()
        gradients.append([tensor.grad for tensor in inputs])
    for got, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


def test_sampling_in_many_chunks_equals_sampling_at_once(monkeypatch):
    at_once = deformable_sample(draw_samples()[0], SHAPES, *draw_samples()[1:])
    monkeypatch.setattr("univs.model.sparse_sampling._CHUNK_CELLS", 7)
    torch.testing.assert_close(deformable_sample(draw_samples()[0], SHAPES, *draw_samples()[1:]), at_once)


def test_a_place_that_is_no_number_gives_no_number_there_only():
    value, offsets, weights = draw_samples()
    expected = deformable_sample(value, SHAPES, offsets, weights)
    offsets[1, 5, 1, 1, 2, 0] = torch.nan
    got = deformable_sample(value.requires_grad_(), SHAPES, offsets.requires_grad_(), weights)
    assert got[1, 5, 4:].isnan().all()
    torch.testing.assert_close(got[1, 5, :4], expected[1, 5, :4])
    torch.testing.assert_close(got[1, 6:], expected[1, 6:])
    got.sum().backward()
    assert value.grad[0].isfinite().all()
    assert offsets.grad[1, 5, 1].isnan().any()


def test_cell_centers_come_level_by_level():
    points = cell_centers(SHAPES, torch.device("cpu"))
    torch.testing.assert_close(points[4], torch.tensor([1.5 / 3, 1.5 / 2]))
    torch.testing.assert_close(points[6 + 7], torch.tensor([2.5 / 5, 1.5 / 4]))


def test_new_attention_looks_one_direction_per_head():
    attention = DeformableAttention(8, 4, 2, 3)
    offsets = attention.sampling_offsets(torch.randn(8)).detach().unflatten(0, (4, 2, 3, 2))
    for head, direction in enumerate([(1, 0), (0, 1), (-1, 0), (0, -1)]):
        for point in range(3):
            expected = torch.tensor(direction, dtype=torch.float32) * (point + 1)
            torch.testing.assert_close(offsets[head, 0, point], expected, atol=1e-5, rtol=0)
            torch.testing.assert_close(offsets[head, 1, point], expected, atol=1e-5, rtol=0)


def test_constant_value_passes_through_where_samples_stay_inside():
    torch.manual_seed(0)
    attention = DeformableAttention(8, 2, 2, 2)
    with torch.no_grad():
        attention.sampling_offsets.bias.zero_()
    value = torch.full((1, 26, 8), 2.5)
    got = attention(value, torch.randn(26, 8), SHAPES)
    expected = attention.output_proj(attention.value_proj(value))
    # Only the coarse cells' centers lie far enough from the border of both levels.
    torch.testing.assert_close(got[:, :6], expected[:, :6], atol=1e-5, rtol=1e-5)
