"""Linear layers through oneDNN against the same in double precision."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from univs.model.linear import feed_forward, linear

NUM_ROWS = 700
"""Enough for oneDNN."""


def gradients(output, inputs, weight):
    return torch.autograd.grad((output * weight).sum(), inputs)


@pytest.mark.parametrize("shape", [(NUM_ROWS, 24), (3, NUM_ROWS, 24), (2, 3)])
@pytest.mark.parametrize("has_bias", [True, False])
def test_linear_and_its_gradients_equal_those_in_double_precision(shape, has_bias):
    torch.manual_seed(0)
    layer = nn.Linear(shape[-1], 40, bias=has_bias)
    x = torch.randn(shape, requires_grad=True)
    inputs = [x, *layer.parameters()]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    output, expected = linear(x, layer.weight, layer.bias), F.linear(*exact)
    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn_like(output)
    for found, wanted in zip(
        gradients(output, inputs, weight), gradients(expected, exact, weight.double()), strict=True
    ):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)


def test_linear_of_rows_that_are_not_contiguous_is_right():
    torch.manual_seed(0)
    x, weight = torch.randn(24, NUM_ROWS).T, torch.randn(40, 24)
    torch.testing.assert_close(linear(x, weight), x @ weight.T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("num_rows", [NUM_ROWS, 5])
def test_feed_forward_and_its_gradients_equal_those_in_double_precision(num_rows):
    torch.manual_seed(0)
    first, second = nn.Linear(24, 96), nn.Linear(96, 24)
    x = torch.randn(2, num_rows, 24, requires_grad=True)
    inputs = [x, *first.parameters(), *second.parameters()]
    exact = [tensor.detach().double().requires_grad_() for tensor in inputs]
    output = feed_forward(x, first, second)
    expected = F.linear(F.relu(F.linear(exact[0], exact[1], exact[2])), exact[3], exact[4])
    torch.testing.assert_close(output.double(), expected, rtol=1e-5, atol=1e-5)
    weight = torch.randn_like(output)
    for found, wanted in zip(
        gradients(output, inputs, weight), gradients(expected, exact, weight.double()), strict=True
    ):
        torch.testing.assert_close(found.double(), wanted, rtol=1e-4, atol=1e-4)


def test_feed_forward_keeps_only_its_input_and_parameters():
    first, second = nn.Linear(24, 96), nn.Linear(96, 24)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        feed_forward(torch.randn(NUM_ROWS, 24, requires_grad=True), first, second)
    assert sum(kept) == NUM_ROWS * 24 + sum(p.numel() for p in (*first.parameters(), *second.parameters()))


def test_autocast_still_chooses_the_type():
    layer = nn.Linear(24, 40)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(torch.randn(NUM_ROWS, 24), layer.weight, layer.bias).dtype == torch.bfloat16
