"""The Triton kernels of deformable sampling against ``grid_sample`` in double precision.

On the CPU Triton's interpreter runs them, and its compiler shows that GPUs could; the rest needs a GPU.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from univs.model.deformable import DeformableAttention, deformable_sample, sample_grid
from univs.model.position import Shapes, cell_centers

triton = pytest.importorskip("triton", reason="Triton is not installed")
from univs.model.triton_sampling import gradient_kernel, sample_kernel, sample_triton  # noqa: E402

INTERPRETED = Path(__file__).with_name("interpret_sampling.py")
PYRAMID: Shapes = ((5, 7), (10, 13), (20, 27))
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Of the largest value, by the type of the values."""
NAMES = ("result", "gradient of value", "gradient of offsets", "gradient of weights")

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

Case = tuple[Tensor, Shapes, Tensor, Tensor, Tensor]


def draw_case(
    shapes: Shapes,
    *,
    num_images: int = 1,
    num_heads: int = 2,
    head_dim: int = 4,
    num_points: int = 2,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
) -> Case:
    """Draw values, places up to three cells beyond the maps, weights, and the gradient of the result.

    No place is near a cell's center or the border's, where the gradient of the place jumps.
    """
    torch.manual_seed(0)
    sizes = torch.tensor([(width, height) for height, width in shapes], device=device)[:, None]
    centers = cell_centers(shapes, torch.device(device))
    layout = (num_images, len(centers), num_heads, len(shapes), num_points)
    places = (torch.rand(*layout, 2, device=device) * (sizes + 5) - 3).floor()
    places += 0.1 + 0.8 * torch.rand(*layout, 2, device=device)
    offsets = places - (centers[:, None, None, None] * sizes - 0.5)
    value = torch.randn(*layout[:3], head_dim, device=device)
    weights = torch.rand(*layout, device=device)
    gradient = torch.randn(*layout[:2], num_heads * head_dim, device=device)
    value, offsets, weights, gradient = (t.to(dtype) for t in (value, offsets, weights, gradient))
    return value, shapes, offsets, weights, gradient


def run(sample, case: Case) -> list[Tensor]:
    """Give the result and the gradients of value, offsets and weights."""
    value, shapes, offsets, weights, gradient = case
    inputs = [tensor.detach().requires_grad_() for tensor in (value, offsets, weights)]
    sampled = sample(inputs[0], shapes, *inputs[1:])
    return [sampled.detach(), *torch.autograd.grad(sampled, inputs, gradient)]


def expected_of(case: Case) -> list[Tensor]:
    """Do the same with ``grid_sample`` in double precision."""
    value, shapes, *tensors = case
    return run(sample_grid, (value.double(), shapes, *(tensor.double() for tensor in tensors)))


def assert_equal(found: list[Tensor], case: Case) -> None:
    tolerance = TOLERANCES[case[0].dtype]
    for name, ours, theirs in zip(NAMES, found, expected_of(case), strict=True):
        difference = (ours.double() - theirs).abs().max() / theirs.abs().max()
        assert difference <= tolerance, f"{name} differs by {difference:.1e} of its scale"


def far_away() -> Case:
    case = draw_case(((2, 3), (4, 5)), num_images=2, dtype=torch.float64)
    case[2][0, 3] *= 1e12
    return case


CASES = {
    "tuned": draw_case(((2, 3), (1, 2)), num_heads=1, num_points=1, dtype=torch.float64),
    "several images and levels": draw_case(((2, 3), (4, 5)), num_images=2, num_points=3, dtype=torch.float64),
    "far away": far_away(),
    "odd sizes, channels and heads": draw_case(
        ((3, 5), (7, 1), (1, 1)), num_heads=3, head_dim=5, num_points=1
    ),
    "more cells than a block": draw_case(((9, 11),), num_heads=1, head_dim=32, num_points=1),
    "one channel": draw_case(((4, 4), (2, 2)), head_dim=1),
    "half": draw_case(((3, 4), (2, 2)), head_dim=12, dtype=torch.float16),
    "bfloat16": draw_case(((3, 4), (2, 2)), head_dim=12, dtype=torch.bfloat16),
}


def not_a_number() -> Case:
    case = draw_case(((3, 4), (2, 2)), num_images=2)
    case[2][1, 5, 1, 1, 0, 0] = torch.nan
    return case


@pytest.fixture(scope="module")
def interpreted(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Tensor]]:
    """Let the interpreter run all cases and check the operator."""
    folder = tmp_path_factory.mktemp("interpreted")
    torch.save(CASES | {"not a number": not_a_number()}, folder / "cases.pt")
    done = subprocess.run(
        [sys.executable, str(INTERPRETED), str(folder / "cases.pt"), str(folder / "found.pt")],
        env={**os.environ, "TRITON_INTERPRET": "1"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return torch.load(folder / "found.pt")


@pytest.mark.parametrize("name", CASES)
def test_interpreted_kernels_give_result_and_gradients(interpreted, name):
    assert_equal(interpreted[name], CASES[name])


def test_a_place_that_is_no_number_gives_no_number_there_only(interpreted):
    case = not_a_number()
    for ours, theirs in zip(interpreted["not a number"], expected_of(case), strict=True):
        torch.testing.assert_close(ours[0].double(), theirs[0], rtol=1e-5, atol=1e-5)
    result, value_gradient, _, weight_gradient = interpreted["not a number"]
    assert result[1, 5, 4:].isnan().all()
    assert result.isnan().sum() == 4
    assert value_gradient.isfinite().all()
    assert weight_gradient[1, 5, 1, 1, 0].isnan()


@pytest.mark.parametrize("kernel", [sample_kernel, gradient_kernel])
@pytest.mark.parametrize(("dtype", "head_dim"), [("fp32", 32), ("bf16", 12)])
def test_kernels_compile_for_gpus(kernel, dtype, head_dim, monkeypatch, tmp_path):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants = {
        "NUM_HEADS": 8,
        "HEAD_DIM": head_dim,
        "NUM_LEVELS": 3,
        "NUM_POINTS": 4,
        "SUM_TYPE": triton.language.float32,
        "BLOCK_CHANNELS": triton.next_power_of_2(head_dim),
        "BLOCK_CELLS": 32,
    }
    types = {"centers": "*fp32", "sizes": "*i32", "value_gradient": "*fp32", "num_cells": "i32"}
    types |= dict.fromkeys(constants, "constexpr")
    signature = {name: types.get(name, f"*{dtype}") for name in kernel.arg_names}
    source = triton.compiler.ASTSource(kernel.fn, signature, constants)
    for capability in (80, 90):
        target = triton.backends.compiler.GPUTarget("cuda", capability, 32)
        assert triton.compile(source, target=target).asm["cubin"]


CHOOSE = """
import sys
sys.modules |= dict.fromkeys({missing!r})
import torch
from torch._subclasses import FakeTensorMode
from univs.model.deformable import deformable_sample

def show(graph, inputs):
    print(graph.code)
    return graph

with FakeTensorMode():  # tensors without numbers, on a GPU that need not be there
    value, offsets, weights = (
        torch.empty(1, 6, 1, *last, device={device!r}) for last in ((4,), (1, 2, 2), (1, 2))
    )
    compiled = torch.compile(deformable_sample, fullgraph=True, backend=show, dynamic=False)
    compiled(value, ((2, 3),), offsets, weights)
print("imported" if "univs.model.triton_sampling" in sys.modules else "not imported")
"""


@pytest.mark.parametrize(
    ("device", "missing", "operator", "imported"),
    [
        ("cpu", [], "univs.deformable_sample.default", False),
        ("cuda", [], "univs.deformable_sample_triton.default", True),
        ("cuda", ["triton"], "grid_sample", False),
    ],
)
def test_device_and_what_is_installed_choose_the_operator(device, missing, operator, imported):
    done = subprocess.run(
        [sys.executable, "-c", CHOOSE.format(device=device, missing=missing)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert operator in done.stdout
    assert done.stdout.splitlines()[-1] == ("imported" if imported else "not imported")


def test_wrong_shapes_are_told():
    value, shapes, offsets, weights, _ = CASES["one channel"]
    expected = r"weights to sample with have shape \(1, 20, 2, 2, 1\), expected \(1, 20, 2, 2, 2\)"
    with pytest.raises(ValueError, match=expected):
        sample_triton(value, shapes, offsets, weights[..., :1])
    with pytest.raises(ValueError, match=r"centers .* shape \(12, 2\), expected \(20, 2\)"):
        sample_triton(value, ((4, 2), (2, 2)), offsets, weights)


def operands(case: Case) -> list[Tensor]:
    """Give what the operator takes."""
    value, shapes, offsets, weights, _ = case
    return [value, offsets, weights, cell_centers(shapes, value.device), torch.tensor(shapes).int()]


def test_the_operator_takes_contiguous_tensors_only():
    value, *others = operands(CASES["half"])
    with pytest.raises(ValueError, match="value is not contiguous on cpu, expected contiguous on cpu"):
        torch.ops.univs.deformable_sample_triton(value.mT.contiguous().mT, *others)


def test_gradients_heed_that_only_deterministic_ones_are_wanted():
    case = CASES["half"]
    torch.use_deterministic_algorithms(True)
    try:
        with pytest.raises(RuntimeError, match="gradients of deformable sampling .* not deterministic"):
            torch.ops.univs.deformable_sample_triton_backward(case[-1], *operands(case))
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("head_dim", [32, 12])
def test_kernels_on_a_gpu_give_result_and_gradients(dtype, head_dim):
    case = draw_case(PYRAMID, num_images=2, num_heads=8, head_dim=head_dim, dtype=dtype, device="cuda")
    assert_equal(run(deformable_sample, case), case)


@pytest.mark.gpu
@needs_gpu
def test_kernels_tuned_for_one_size_are_right_for_another():
    for shapes in (PYRAMID, PYRAMID[1:] + PYRAMID[:1], ((1, 1), (2, 3), (4, 5))):
        case = draw_case(shapes, device="cuda")
        assert_equal(run(deformable_sample, case), case)


@pytest.mark.gpu
@needs_gpu
def test_attention_on_a_gpu_equals_that_on_the_cpu_and_compiles_whole():
    torch.manual_seed(0)
    attention = DeformableAttention(64, 8, 3, 4)
    # Away from the first offsets, which are whole cells, where the gradient jumps.
    torch.nn.init.normal_(attention.sampling_offsets.weight, std=0.1)
    num_cells = sum(height * width for height, width in PYRAMID)
    x, positions = torch.randn(2, num_cells, 64), torch.randn(num_cells, 64)
    expected = attention(x, positions, PYRAMID)
    expected.square().mean().backward()
    wanted = {name: parameter.grad for name, parameter in attention.named_parameters()}
    attention.cuda()
    for forward in (attention, torch.compile(attention, fullgraph=True, dynamic=False)):
        attention.zero_grad()
        found = forward(x.cuda(), positions.cuda(), PYRAMID)
        found.square().mean().backward()
        torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-3)
        for name, parameter in attention.named_parameters():
            scale = wanted[name].abs().max().item()
            torch.testing.assert_close(
                parameter.grad.cpu(), wanted[name], rtol=1e-2, atol=1e-2 * scale, msg=name
            )
