"""Linear layers and feed-forward nets that are fast on the CPU and keep little for the backward pass.

For products of many rows oneDNN, which torch uses for convolutions, is faster than the BLAS behind
``F.linear`` (1.2 to 1.4 times on AVX-512 machines), and it adds the bias and cuts at zero while it writes.
Its operator for that is what compiled graphs call; here it is called directly. Elsewhere (other devices and
types, few rows, compiled graphs, builds without oneDNN) this is ``F.linear``.

Legend: x [..., I], weight [O, I], bias [O].
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_MIN_ROWS = 512
"""Below, calling oneDNN costs more than it saves."""


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Do what ``F.linear`` does."""
    if not _suits_onednn(x, weight):
        return F.linear(x, weight, bias)
    product: Tensor = _Linear.apply(x, weight, bias)
    return product


def feed_forward(x: Tensor, first: nn.Linear, second: nn.Linear) -> Tensor:
    """Give ``second(relu(first(x)))``.

    On the CPU the wide hidden layer is not kept for the backward pass but worked out again.
    """
    if not _suits_onednn(x, first.weight):
        return second(F.relu(first(x)))
    product: Tensor = _FeedForward.apply(x, first.weight, first.bias, second.weight, second.bias)
    return product


class _Linear(torch.autograd.Function):
    """A product by oneDNN with gradients."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        return _product(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = gradients[0]
        needs_x, needs_weight, needs_bias = ctx.needs_input_grad
        return (
            _product(gradient, weight.T.contiguous()) if needs_x else None,
            _rows(gradient).T @ _rows(x) if needs_weight else None,
            _rows(gradient).sum(0) if needs_bias and ctx.has_bias else None,
        )


class _FeedForward(torch.autograd.Function):
    """Two products with a cut at zero between them; only the input is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, *parameters: Tensor) -> Tensor:
        ctx.save_for_backward(x, *parameters)
        first_weight, first_bias, second_weight, second_bias = parameters
        return _product(_product(x, first_weight, first_bias, "relu"), second_weight, second_bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        x, first_weight, first_bias, second_weight, _ = ctx.saved_tensors
        outer, inputs = _rows(gradients[0]), _rows(x)
        hidden = _product(inputs, first_weight, first_bias, "relu")
        second_gradient = outer.T @ hidden
        inner = _product(outer, second_weight.T.contiguous())
        torch.ops.aten.threshold_backward.grad_input(inner, hidden, 0, grad_input=inner)
        return (
            _product(inner, first_weight.T.contiguous()).view_as(x),
            inner.T @ inputs,
            inner.sum(0),
            second_gradient,
            outer.sum(0),
        )


def _suits_onednn(x: Tensor, weight: Tensor) -> bool:
    return (
        not torch.compiler.is_compiling()
        and x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and x.numel() >= _MIN_ROWS * x.shape[-1]
        and torch.backends.mkldnn.is_available()
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None = None, activation: str = "none") -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x.contiguous(), weight, bias, activation, [], "")
    return product


def _rows(x: Tensor) -> Tensor:
    return x.flatten(0, -2)
