"""Run the Triton kernels of deformable sampling on the CPU, by Triton's interpreter.

    TRITON_INTERPRET=1 python interpret_sampling.py CASES FOUND

A process of its own, as Triton decides on import whether it interprets. CASES is a file of ``torch.save``: a
dict of arguments (value, shapes, offsets, weights, gradient of the result). FOUND gets, under the same names,
the result and the gradients of value, offsets and weights. The operator's own checks come last.
"""

import sys

import torch
import triton
from torch import Tensor
from torch.library import opcheck

from univs.model.position import Shapes, cell_centers
from univs.model.triton_sampling import sample_kernel, sample_triton

TINY: Shapes = ((2, 2), (1, 3))


class Driver:
    """What Triton's tuner asks of a GPU: to time kernels. The first it times is the fastest."""

    def get_benchmarker(self):
        """Give what times one kernel.

        It runs all choices for the first case, to see that these runs leave nothing behind, and no more.
        """
        times_ms = iter(range(1, 10**9))

        def time_ms(run, quantiles):
            time = next(times_ms)
            if time <= len(sample_kernel.configs):
                run()
            return [time] * len(quantiles)

        return time_ms


def main(cases: str, found: str) -> None:
    triton.runtime.driver.set_active(Driver())
    torch.save({name: sample(*case) for name, case in torch.load(cases).items()}, found)
    check_gradients()
    check_operator()
    check_compiled()


def sample(value: Tensor, shapes: Shapes, offsets: Tensor, weights: Tensor, gradient: Tensor) -> list[Tensor]:
    inputs = [tensor.requires_grad_() for tensor in (value, offsets, weights)]
    sampled = sample_triton(inputs[0], shapes, *inputs[1:])
    return [sampled.detach(), *torch.autograd.grad(sampled, inputs, gradient)]


def draw_tiny() -> list[Tensor]:
    """Draw double-precision value, offsets and weights for one head of three channels."""
    torch.manual_seed(0)
    tensors = (torch.randn(1, 7, 1, 3), torch.randn(1, 7, 1, 2, 1, 2), torch.rand(1, 7, 1, 2, 1))
    return [tensor.double().requires_grad_() for tensor in tensors]


def tiny(value: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    return sample_triton(value, TINY, offsets, weights)


def check_gradients() -> None:
    torch.autograd.gradcheck(tiny, draw_tiny(), fast_mode=True)


def check_operator() -> None:
    """Let torch compare schema, shapes without numbers and traced gradients with what the operator does."""
    sizes = torch.tensor(TINY, dtype=torch.int32)
    operator = torch.ops.univs.deformable_sample_triton.default
    opcheck(operator, (*draw_tiny(), cell_centers(TINY, sizes.device), sizes))


def check_compiled() -> None:
    """Compile without falling back to Python anywhere: a graph break is an error."""
    inputs = draw_tiny()
    compiled = torch.compile(tiny, fullgraph=True, backend="aot_eager", dynamic=False)
    found, expected = compiled(*inputs), tiny(*inputs)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(*(torch.autograd.grad(t.sum(), inputs) for t in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs)


if __name__ == "__main__":
    main(*sys.argv[1:])
