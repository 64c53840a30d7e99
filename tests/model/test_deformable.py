import math

import torch

from univs.model.deformable import DeformableAttention, reference_points, sample_levels

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


def test_sample_levels_equals_a_loop():
    torch.manual_seed(0)
    num_images, num_queries, num_heads, head_dim, num_points = 2, 3, 2, 4, 3
    value = torch.randn(num_images, 26, num_heads, head_dim)
    # Some samples fall outside the map.
    locations = torch.rand(num_images, num_queries, num_heads, 2, num_points, 2) * 1.4 - 0.2
    weights = torch.rand(num_images, num_queries, num_heads, 2, num_points)
    got = sample_levels(value, SHAPES, locations, weights)
    expected = torch.zeros(num_images, num_queries, num_heads, head_dim)
    for n in range(num_images):
        for q in range(num_queries):
            for h in range(num_heads):
                for index, (height, width) in enumerate(SHAPES):
                    rows = value[n, :6, h] if index == 0 else value[n, 6:, h]
                    level = rows.reshape(height, width, head_dim)
                    for k in range(num_points):
                        x, y = locations[n, q, h, index, k].tolist()
                        sample = bilinear(level, x * width - 0.5, y * height - 0.5)
                        expected[n, q, h] += weights[n, q, h, index, k] * sample
    torch.testing.assert_close(got, expected.flatten(2), atol=1e-5, rtol=1e-5)


def test_reference_points_are_cell_centers_level_by_level():
    points = reference_points(SHAPES, torch.device("cpu"))
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
    got = attention(torch.randn(1, 26, 8), value, SHAPES)
    expected = attention.output_proj(attention.value_proj(value))
    # Only the coarse cells' centers lie far enough from the border of both levels.
    torch.testing.assert_close(got[:, :6], expected[:, :6], atol=1e-5, rtol=1e-5)
