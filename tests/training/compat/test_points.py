import torch

from univs.draws import Draws
from univs.training.compat.points import Sampling, sample
from univs.training.config import LossConfig


def test_sample_counts_what_lies_beyond_the_border_as_zero():
    ones = torch.ones(1, 1, 4, 4)
    points = torch.tensor([[[0.5, 0.5], [0.0, 0.5], [0.0, 0.0], [0.125, 0.125]]])
    assert torch.allclose(sample(ones, points)[0, 0], torch.tensor([1.0, 0.5, 0.25, 1.0]))


def test_sample_nearest_reads_whole_cells():
    cells = torch.arange(4.0).view(1, 1, 2, 2)
    points = torch.tensor([[[0.4, 0.1], [0.9, 0.4], [0.1, 0.6], [0.51, 0.51]]])
    assert sample(cells, points, mode="nearest")[0, 0].tolist() == [0, 1, 2, 3]


def test_uncertain_points_lie_nearest_to_a_logit_of_zero_and_elsewhere():
    # Logits grow from left to right through 0 in the middle of 100 columns.
    columns = torch.linspace(-10, 10, 100)
    config = LossConfig(num_points=40, oversample_ratio=3, importance_ratio=0.5)
    sampling = Sampling(config, Draws(torch.Generator().manual_seed(0)))
    points = sampling.uncertain_points(columns.expand(2, 50, 100))
    assert points.shape == (2, 40, 2)
    distance = (points[..., 0] - 0.5).abs()
    # 20 of 120 uniform candidates lie within a twelfth of the width from the middle, up to chance.
    assert distance[:, :20].mean() < 0.1
    assert distance[:, 20:].max() > 0.3


def test_uncertain_points_differ_from_map_to_map():
    sampling = Sampling(LossConfig(num_points=16), Draws(torch.Generator().manual_seed(0)))
    first, second = sampling.uncertain_points(torch.randn(8, 8).expand(2, -1, -1))
    assert not torch.equal(first, second)
