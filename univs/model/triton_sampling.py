"""Deformable sampling on GPUs: Triton kernels, forward and backward.

A program takes the samples of one head at a block of cells. It works out where a sample lies, reads the d
channels of each of its four neighbors at once and sums in registers, so nothing of the size of the samples
is written to memory. Backward it goes the same way: a program owns all samples of its cells, so the gradients
of offsets and weights are sums in registers, too. Only those of values meet in memory, by atomic additions.
Their order varies, and with it the last bits of the values' gradients.

Sums are float32 whatever the inputs are (float64 if the values are). Importing this imports Triton; see
``univs.model.deformable`` for who does. On its first call for a type and layout a kernel is compiled, for
which Triton needs a C compiler, and tuned, which takes some seconds.

Legend: N images, S cells of all levels, h heads, d channels of one head, L levels, K points, B cells of one
block.
"""

import warnings
from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor, library

from univs.model.position import Shapes, cell_centers

_MAX_OFFSET = 2**31
"""Inside an image kernels count in int32; from image to image in int64."""
_CONFIGS = [
    triton.Config({"BLOCK_CELLS": block_cells}, num_warps=num_warps)
    for block_cells, num_warps in ((32, 4), (16, 4), (16, 2), (8, 2), (8, 1), (64, 8))
]
"""What the tuner tries: 4 to 8 of a block's numbers per thread, if d is 32, so that all fit in registers."""
_TUNED_BY = ["NUM_HEADS", "HEAD_DIM", "NUM_LEVELS", "NUM_POINTS"]


def sample_triton(value: Tensor, shapes: Shapes, offsets: Tensor, weights: Tensor) -> Tensor:
    """Sum weighted samples: see ``univs.model.deformable.deformable_sample``."""
    sampled: Tensor = _sample(
        value.contiguous(),
        offsets.contiguous(),
        weights.contiguous(),
        cell_centers(shapes, value.device),
        _level_sizes(shapes, value.device),
    )
    return sampled


@lru_cache(maxsize=32)
def _level_sizes(shapes: Shapes, device: torch.device) -> Tensor:
    """Put height and width of each level on the device: [L, 2] int32."""
    with torch.inference_mode(False), torch.no_grad():
        return torch.tensor(shapes, dtype=torch.int32, device=device)


@triton.jit
def _place(
    num_cells: tl.tensor, NUM_HEADS: tl.constexpr, BLOCK_CELLS: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Give the image, the head and the cells [B] that this program works on.

    Program p has block ``p % num_blocks`` of the cells of image ``p // num_blocks // h`` and head
    ``p // num_blocks % h``.
    """
    num_blocks = tl.cdiv(num_cells, BLOCK_CELLS)
    image = (tl.program_id(0) // num_blocks // NUM_HEADS).to(tl.int64)
    head = tl.program_id(0) // num_blocks % NUM_HEADS
    return image, head, tl.program_id(0) % num_blocks * BLOCK_CELLS + tl.arange(0, BLOCK_CELLS)


@triton.jit
def _load_xy(
    pairs: tl.tensor, at: tl.tensor, in_use: tl.tensor, SUM_TYPE: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """Load x and y [B] of the pairs at some places, 0 where not in use."""
    x = tl.load(pairs + at * 2, mask=in_use, other=0.0).to(SUM_TYPE)
    return x, tl.load(pairs + at * 2 + 1, mask=in_use, other=0.0).to(SUM_TYPE)


@triton.jit
def _locate(center: tl.tensor, offset: tl.tensor, size: tl.tensor) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """Find samples along one axis of a level: [B], but ``size`` a number.

    Returns:
        The neighbor before the sample, the way from there to the sample in cells, and whether the sample
        moves with its offset: from a cell beyond the border on, it does not. What is no number stays so.
    """
    place = center * size - 0.5 + offset
    moves = (place > -1) & (place < size)
    place = tl.where(place < -1, -1.0, place)
    place = tl.where(place > size, size, place)
    before = tl.floor(place)
    return before, place - before, moves


@triton.jit
def _neighbor(
    row: tl.tensor, column: tl.tensor, height: tl.tensor, width: tl.tensor, first: tl.tensor
) -> tuple[tl.tensor, tl.tensor]:
    """Give the cell [B] at a row and column of the level that begins at ``first``, and whether it exists."""
    # Compared before they become integers: what is no number is in no cell.
    exists = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    return first + row.to(tl.int32) * width + column.to(tl.int32), exists


@triton.autotune(configs=_CONFIGS, key=_TUNED_BY)
@triton.jit(do_not_specialize=["num_cells"])
def sample_kernel(  # noqa: PLR0913
    value: tl.tensor,
    offsets: tl.tensor,
    weights: tl.tensor,
    centers: tl.tensor,
    sizes: tl.tensor,
    sampled: tl.tensor,
    num_cells: tl.tensor,
    NUM_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    NUM_LEVELS: tl.constexpr,
    NUM_POINTS: tl.constexpr,
    SUM_TYPE: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    BLOCK_CELLS: tl.constexpr,
) -> None:
    """Write ``sampled`` [N, S, h, d]; the other tensors are those of ``_sample``.

    BLOCK_CHANNELS is the power of two from HEAD_DIM on.
    """
    image, head, cells = _place(num_cells, NUM_HEADS, BLOCK_CELLS)
    value += image * num_cells * (NUM_HEADS * HEAD_DIM)
    sampled += image * num_cells * (NUM_HEADS * HEAD_DIM)
    weights += image * num_cells * (NUM_HEADS * NUM_LEVELS * NUM_POINTS)
    offsets += image * num_cells * (NUM_HEADS * NUM_LEVELS * NUM_POINTS * 2)

    channels = tl.arange(0, BLOCK_CHANNELS)
    in_use, has_channel = cells < num_cells, channels < HEAD_DIM
    center_x, center_y = _load_xy(centers, cells, in_use, SUM_TYPE)
    total = tl.zeros((BLOCK_CELLS, BLOCK_CHANNELS), SUM_TYPE)
    first = 0
    for level in range(NUM_LEVELS):
        height, width = tl.load(sizes + level * 2), tl.load(sizes + level * 2 + 1)
        for point in tl.static_range(NUM_POINTS):
            at = ((cells * NUM_HEADS + head) * NUM_LEVELS + level) * NUM_POINTS + point
            weight = tl.load(weights + at, mask=in_use, other=0.0).to(SUM_TYPE)
            offset_x, offset_y = _load_xy(offsets, at, in_use, SUM_TYPE)
            left, across, _ = _locate(center_x, offset_x, width.to(SUM_TYPE))
            top, down, _ = _locate(center_y, offset_y, height.to(SUM_TYPE))
            for corner in tl.static_range(4):
                share_x = across if corner % 2 else 1 - across
                share_y = down if corner // 2 else 1 - down
                neighbor, exists = _neighbor(top + corner // 2, left + corner % 2, height, width, first)
                found = tl.load(
                    value + ((neighbor * NUM_HEADS + head) * HEAD_DIM)[:, None] + channels[None, :],
                    mask=(exists & in_use)[:, None] & has_channel[None, :],
                    other=0.0,
                )
                total += found.to(SUM_TYPE) * (weight * share_x * share_y)[:, None]
        first += height * width
    tl.store(
        sampled + ((cells * NUM_HEADS + head) * HEAD_DIM)[:, None] + channels[None, :],
        total.to(sampled.dtype.element_ty),
        mask=in_use[:, None] & has_channel[None, :],
    )


@triton.autotune(configs=_CONFIGS, key=_TUNED_BY, reset_to_zero=["value_gradient"])
@triton.jit(do_not_specialize=["num_cells"])
def gradient_kernel(  # noqa: PLR0913
    gradient: tl.tensor,
    value: tl.tensor,
    offsets: tl.tensor,
    weights: tl.tensor,
    centers: tl.tensor,
    sizes: tl.tensor,
    value_gradient: tl.tensor,
    offset_gradient: tl.tensor,
    weight_gradient: tl.tensor,
    num_cells: tl.tensor,
    NUM_HEADS: tl.constexpr,
    HEAD_DIM: tl.constexpr,
    NUM_LEVELS: tl.constexpr,
    NUM_POINTS: tl.constexpr,
    SUM_TYPE: tl.constexpr,
    BLOCK_CHANNELS: tl.constexpr,
    BLOCK_CELLS: tl.constexpr,
) -> None:
    """Add to ``value_gradient`` and write the other two, from the ``gradient`` [N, S, h, d] of the result.

    The product of gradient and neighbor, summed over channels, is all that a sample's offset and weight need
    to know of the values.
    """
    image, head, cells = _place(num_cells, NUM_HEADS, BLOCK_CELLS)
    value += image * num_cells * (NUM_HEADS * HEAD_DIM)
    value_gradient += image * num_cells * (NUM_HEADS * HEAD_DIM)
    gradient += image * num_cells * (NUM_HEADS * HEAD_DIM)
    weights += image * num_cells * (NUM_HEADS * NUM_LEVELS * NUM_POINTS)
    weight_gradient += image * num_cells * (NUM_HEADS * NUM_LEVELS * NUM_POINTS)
    offsets += image * num_cells * (NUM_HEADS * NUM_LEVELS * NUM_POINTS * 2)
    offset_gradient += image * num_cells * (NUM_HEADS * NUM_LEVELS * NUM_POINTS * 2)

    channels = tl.arange(0, BLOCK_CHANNELS)
    in_use, has_channel = cells < num_cells, channels < HEAD_DIM
    center_x, center_y = _load_xy(centers, cells, in_use, SUM_TYPE)
    received = tl.load(
        gradient + ((cells * NUM_HEADS + head) * HEAD_DIM)[:, None] + channels[None, :],
        mask=in_use[:, None] & has_channel[None, :],
        other=0.0,
    ).to(SUM_TYPE)
    first = 0
    for level in range(NUM_LEVELS):
        height, width = tl.load(sizes + level * 2), tl.load(sizes + level * 2 + 1)
        for point in tl.static_range(NUM_POINTS):
            at = ((cells * NUM_HEADS + head) * NUM_LEVELS + level) * NUM_POINTS + point
            weight = tl.load(weights + at, mask=in_use, other=0.0).to(SUM_TYPE)
            offset_x, offset_y = _load_xy(offsets, at, in_use, SUM_TYPE)
            left, across, moves_x = _locate(center_x, offset_x, width.to(SUM_TYPE))
            top, down, moves_y = _locate(center_y, offset_y, height.to(SUM_TYPE))
            total = tl.zeros((BLOCK_CELLS,), SUM_TYPE)
            along_x = tl.zeros((BLOCK_CELLS,), SUM_TYPE)
            along_y = tl.zeros((BLOCK_CELLS,), SUM_TYPE)
            for corner in tl.static_range(4):
                share_x = across if corner % 2 else 1 - across
                share_y = down if corner // 2 else 1 - down
                neighbor, exists = _neighbor(top + corner // 2, left + corner % 2, height, width, first)
                entries = ((neighbor * NUM_HEADS + head) * HEAD_DIM)[:, None] + channels[None, :]
                mask = (exists & in_use)[:, None] & has_channel[None, :]
                found = tl.load(value + entries, mask=mask, other=0.0).to(SUM_TYPE)
                passed_on = received * (weight * share_x * share_y)[:, None]
                tl.atomic_add(value_gradient + entries, passed_on, mask=mask, sem="relaxed")
                product = tl.sum(found * received, axis=1)
                total += product * share_x * share_y
                along_x += product * (share_y if corner % 2 else -share_y)
                along_y += product * (share_x if corner // 2 else -share_x)
            along_x *= weight * moves_x.to(SUM_TYPE)
            along_y *= weight * moves_y.to(SUM_TYPE)
            tl.store(weight_gradient + at, total.to(weight_gradient.dtype.element_ty), mask=in_use)
            tl.store(offset_gradient + at * 2, along_x.to(offset_gradient.dtype.element_ty), mask=in_use)
            tl.store(offset_gradient + at * 2 + 1, along_y.to(offset_gradient.dtype.element_ty), mask=in_use)
        first += height * width


@library.custom_op("univs::deformable_sample_triton", mutates_args=())
def _sample(value: Tensor, offsets: Tensor, weights: Tensor, centers: Tensor, sizes: Tensor) -> Tensor:
    """Sample as ``deformable_sample`` says; ``centers`` [S, 2] float, ``sizes`` [L, 2] int32."""
    _check(value, offsets, weights, centers, sizes)
    sampled = _empty_sampled(value)
    with torch.cuda.device_of(value):
        sample_kernel[_grid(value)](
            value, offsets, weights, centers, sizes, sampled, value.shape[1], **_constants(value, offsets)
        )
    return sampled


@_sample.register_fake
def _(value: Tensor, offsets: Tensor, weights: Tensor, centers: Tensor, sizes: Tensor) -> Tensor:
    return _empty_sampled(value)


@library.custom_op("univs::deformable_sample_triton_backward", mutates_args=())
def _gradients(
    gradient: Tensor, value: Tensor, offsets: Tensor, weights: Tensor, centers: Tensor, sizes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the gradients of value, offsets and weights from that of the result [N, S, h * d]."""
    _heed_determinism()
    _check(value, offsets, weights, centers, sizes)
    value_gradient = torch.zeros_like(value, dtype=_sum_type(value))
    offset_gradient, weight_gradient = torch.empty_like(offsets), torch.empty_like(weights)
    with torch.cuda.device_of(value):
        gradient_kernel[_grid(value)](
            gradient,
            value,
            offsets,
            weights,
            centers,
            sizes,
            value_gradient,
            offset_gradient,
            weight_gradient,
            value.shape[1],
            **_constants(value, offsets),
        )
    return value_gradient.to(value.dtype), offset_gradient, weight_gradient


@_gradients.register_fake
def _(
    gradient: Tensor, value: Tensor, offsets: Tensor, weights: Tensor, centers: Tensor, sizes: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(value), torch.empty_like(offsets), torch.empty_like(weights)


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    return (*_gradients(gradient.contiguous(), *ctx.saved_tensors), None, None)


_sample.register_autograd(_backward, setup_context=_keep)


def _empty_sampled(value: Tensor) -> Tensor:
    return value.new_empty(*value.shape[:2], value.shape[2] * value.shape[3])


def _sum_type(value: Tensor) -> torch.dtype:
    return torch.float64 if value.dtype == torch.float64 else torch.float32


def _grid(value: Tensor) -> Any:
    """Say how many programs there are for a choice of the tuner's."""
    num_images, num_cells, num_heads, _ = value.shape
    return lambda chosen: (num_images * num_heads * triton.cdiv(num_cells, chosen["BLOCK_CELLS"]),)


def _constants(value: Tensor, offsets: Tensor) -> dict[str, Any]:
    """Give what kernels are compiled for."""
    return {
        "NUM_HEADS": value.shape[2],
        "HEAD_DIM": value.shape[3],
        "NUM_LEVELS": offsets.shape[3],
        "NUM_POINTS": offsets.shape[4],
        "SUM_TYPE": tl.float64 if _sum_type(value) == torch.float64 else tl.float32,
        "BLOCK_CHANNELS": triton.next_power_of_2(value.shape[3]),
    }


def _check(value: Tensor, offsets: Tensor, weights: Tensor, centers: Tensor, sizes: Tensor) -> None:
    """Raise where the kernels would read or write what is not theirs."""
    num_images, num_cells, num_heads, head_dim = value.shape
    num_levels, num_points = offsets.shape[3:5]
    expected = {
        "offsets": (offsets, (num_images, num_cells, num_heads, num_levels, num_points, 2)),
        "weights": (weights, (num_images, num_cells, num_heads, num_levels, num_points)),
        "centers": (centers, (num_cells, 2)),
        "sizes": (sizes, (num_levels, 2)),
    }
    for name, (tensor, shape) in expected.items():
        if tensor.shape != shape:
            raise ValueError(f"{name} to sample with have shape {tuple(tensor.shape)}, expected {shape}")
    for name, tensor in {"value": value, **{name: pair[0] for name, pair in expected.items()}}.items():
        if not tensor.is_contiguous() or tensor.device != value.device:
            state = "contiguous" if tensor.is_contiguous() else "not contiguous"
            raise ValueError(f"{name} is {state} on {tensor.device}, expected contiguous on {value.device}")
    if num_cells * num_heads * max(head_dim, 2 * num_levels * num_points) >= _MAX_OFFSET:
        raise ValueError(f"images of {num_cells} cells are too large to sample, split them")


def _heed_determinism() -> None:
    """Raise or warn, as torch's own operators do, where ``torch.use_deterministic_algorithms`` is on."""
    if not torch.are_deterministic_algorithms_enabled():
        return
    message = (
        "gradients of deformable sampling on GPUs are not deterministic: give warn_only=True to "
        "torch.use_deterministic_algorithms, or train on the CPU"
    )
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(message)
    warnings.warn(message, stacklevel=2)
