import math

import torch

from univs.model.position import SinePosition, sine


def angle_by_hand(value: float, channel: int, num_channels: int) -> float:
    phase = value / 10000 ** (2 * (channel // 2) / num_channels)
    return math.sin(phase) if channel % 2 == 0 else math.cos(phase)


def test_sine_of_an_angle_equals_the_formula():
    got = sine(torch.tensor(1.7), 8)
    torch.testing.assert_close(got, torch.tensor([angle_by_hand(1.7, c, 8) for c in range(8)]))


def test_cells_hold_row_then_column_halves_plus_time():
    got = SinePosition(16, "arbitrary_t").cells(torch.tensor([[5, 40]]), 3, 4).unflatten(2, (3, 4))
    row, column = 2 * math.pi * 2 / 3, 2 * math.pi * 4 / 4
    for frame, index in enumerate((5, 40)):
        time = 2 * math.pi * index / 128
        expected = [angle_by_hand(row, c, 8) for c in range(8)] + [
            angle_by_hand(column, c, 8) for c in range(8)
        ]
        expected = [space + angle_by_hand(time, c, 16) for c, space in enumerate(expected)]
        torch.testing.assert_close(got[0, frame, 1, 3], torch.tensor(expected), atol=1e-5, rtol=0)


def test_time_modes_differ_as_named():
    indices = torch.tensor([[7, 9]])
    assert SinePosition(8, "2d").time(indices).abs().max() == 0
    fixed = SinePosition(8, "fixed_t")
    torch.testing.assert_close(fixed.time(indices), fixed.time(indices + 50))
    arbitrary = SinePosition(8, "arbitrary_t")
    assert not torch.allclose(arbitrary.time(indices), arbitrary.time(indices + 50))


def test_points_use_fractions_without_a_cell_shift():
    position = SinePosition(8, "arbitrary_t")
    got = position.points(torch.tensor([[0.25, 0.75]]), torch.zeros(1, 8))
    expected = [angle_by_hand(2 * math.pi * 0.75, c, 4) for c in range(4)]
    expected += [angle_by_hand(2 * math.pi * 0.25, c, 4) for c in range(4)]
    torch.testing.assert_close(got[0], torch.tensor(expected), atol=1e-5, rtol=0)


def test_grid_first_used_in_inference_mode_can_still_be_trained_with():
    position = SinePosition(8, "2d")
    with torch.inference_mode():
        position.grid(5, 7, torch.device("cpu"))
    weight = torch.ones(8, requires_grad=True)
    (position.grid(5, 7, torch.device("cpu")) * weight).sum().backward()
    assert weight.grad is not None
