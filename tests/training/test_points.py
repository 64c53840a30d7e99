import torch

from univs.training.points import (
    draw_points,
    feature_rows,
    point_logits,
    sample_masks,
    sample_rows,
    select_uncertain,
)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _sample_dense(maps: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Read maps [n, h, w] at points [S, 2], one point and neighbor at a time."""
    height, width = maps.shape[-2:]
    values = torch.zeros(len(maps), len(points))
    for i, (x, y) in enumerate((points * torch.tensor([width, height]) - 0.5).tolist()):
        for row, column in ((r, c) for r in range(-1, height + 1) for c in range(-1, width + 1)):
            share = max(0.0, 1 - abs(x - column)) * max(0.0, 1 - abs(y - row))
            clamped = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
            values[:, i] += share * maps[:, clamped[0], clamped[1]]
    return values


def test_point_logits_equal_dense_logits_sampled():
    generator = _generator()
    embeddings = torch.randn(3, 2, 5, 2, 4, generator=generator)
    features = torch.randn(2, 2, 4, 6, 7, generator=generator)
    points = draw_points(2, 2, 9, generator)
    logits = point_logits(embeddings, features, points)
    dense = torch.einsum("lbmtc,btchw->btlmhw", embeddings, features)
    expected = torch.stack(
        [
            torch.stack(
                [_sample_dense(dense[b, t].flatten(0, 1), points[b, t]).view(3, 5, 9) for t in range(2)]
            )
            for b in range(2)
        ]
    )
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)


def test_sampled_rows_and_their_gradients_equal_those_of_grid_sample():
    features = torch.randn(2, 2, 4, 6, 7, generator=_generator())
    points = draw_points(2, 2, 9, _generator(1))
    points[0, 0, 0], points[0, 0, 1] = torch.tensor([0.0, 0.0]), torch.tensor([0.999999, 1.0])
    ours, other = (features.clone().requires_grad_() for _ in range(2))
    got = sample_rows(feature_rows(ours), (6, 7), points)
    grid = (2 * points - 1).flatten(0, 1)[:, None]
    expected = torch.nn.functional.grid_sample(
        other.flatten(0, 1), grid, padding_mode="border", align_corners=False
    )
    expected = expected.squeeze(2).transpose(1, 2).unflatten(0, (2, 2))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)
    upstream = torch.randn(got.shape, generator=_generator(2))
    got.backward(upstream)
    expected.backward(upstream)
    torch.testing.assert_close(ours.grad, other.grad, atol=1e-5, rtol=1e-5)


def test_sample_masks_equals_sampling_floats():
    masks = torch.rand(2, 3, 2, 6, 5, generator=_generator()) > 0.5
    points = draw_points(2, 2, 11, _generator(1))
    points[0, 0, 0], points[0, 0, 1] = torch.tensor([0.0, 0.0]), torch.tensor([0.999999, 1.0])
    sampled = sample_masks(masks, points)
    assert sampled.shape == (2, 2, 3, 11)
    for b in range(2):
        for t in range(2):
            expected = _sample_dense(masks[b, :, t].float(), points[b, t])
            torch.testing.assert_close(sampled[b, t], expected, atol=1e-5, rtol=1e-5)


def test_sample_masks_at_a_pixel_center_gives_the_pixel():
    masks = torch.rand(1, 1, 1, 4, 8, generator=_generator()) > 0.5
    y, x = torch.meshgrid((torch.arange(4) + 0.5) / 4, (torch.arange(8) + 0.5) / 8, indexing="ij")
    points = torch.stack([x, y], -1).reshape(1, 1, 32, 2)
    assert torch.equal(sample_masks(masks, points).view(4, 8), masks[0, 0, 0].float())


def test_select_uncertain_takes_best_candidates_then_all_uniform_points():
    scores = torch.tensor([[0.1, 0.9, 0.5, 0.7, 5.0, 6.0], [0.9, 0.1, 0.7, 0.5, 0.0, 0.0]])
    index = select_uncertain(scores, num_candidates=4, num_uncertain=2)
    assert [sorted(row) for row in index[:, :2].tolist()] == [[1, 3], [0, 2]]
    assert index[:, 2:].tolist() == [[4, 5], [4, 5]]
