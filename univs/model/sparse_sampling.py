"""Deformable sampling on the CPU as a product with a sparse matrix.

All samples that one head takes at one cell are one row of a sparse matrix with four entries per sample, and
the result is that matrix times the table of cell values. ``embedding_bag`` multiplies it several times faster
than ``grid_sample`` samples, for it reads whole rows of channels. The gradients are the transposed product
and, at the matrix's entries, the products of gradients and values.

Legend: N images, S cells of all levels, h heads, d channels of one head, L levels, K points, R rows of one
head's table, E = 4 L K entries per row of the matrix. A table holds every level with a border of zeros, so
that samples outside a map need no test.
"""

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from scipy.sparse import csr_matrix
from torch import Tensor, library

from univs.model.position import Shapes, cell_centers

_CHUNK_CELLS = 1024
"""Cells whose matrix entries are worked out at once, so that they stay in the processor's cache."""
_MAX_EXACT = 2**24
"""Integers up to this are exact in float32, in which table rows are worked out."""


def sample_sparse(value: Tensor, shapes: Shapes, offsets: Tensor, weights: Tensor) -> Tensor:
    """Sum weighted samples: see ``univs.model.deformable.deformable_sample``."""
    sizes = [size for shape in shapes for size in shape]
    sampled: Tensor = _sample(value, offsets, weights, sizes)
    return sampled


def sparse_product(table: Tensor, columns: Tensor, entries: Tensor) -> Tensor:
    """Multiply a sparse matrix with a table on the CPU; only the table gets a gradient.

    Args:
        table: [R, d].
        columns: [S, E] int32, the rows of the table that each row of the product sums.
        entries: [S, E] their weights.

    Returns:
        [S, d].
    """
    product: Tensor = _SparseProduct.apply(table, columns, entries)
    return product


class _SparseProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, columns: Tensor, entries: Tensor) -> Tensor:
        """Sum weighted rows."""
        ctx.save_for_backward(columns, entries)
        ctx.num_rows = len(table)
        return F.embedding_bag(columns, table.contiguous(), mode="sum", per_sample_weights=entries)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        """Multiply with the transposed matrix."""
        columns, entries = ctx.saved_tensors
        matrix = _Matrix.of(columns, entries, 0, ctx.num_rows)
        return matrix.transposed_product(gradients[0].contiguous()), None, None


@dataclass(frozen=True, kw_only=True, slots=True)
class _Layout:
    """Where cells lie in the tables.

    Tensors but ``corners`` broadcast to [S, h, L, K], but not along K: loops over four numbers are slow.
    """

    x: Tensor
    y: Tensor
    """[S, 1, L, K] center of each cell on every level, in cells from the center of the first."""
    width: Tensor
    height: Tensor
    """[h, L, K]."""
    line: Tensor
    """[h, L, K] table rows from one line of a map to the next."""
    first: Tensor
    """[h, L, K] table row of each map's first cell; the heads' tables follow one another."""
    corners: Tensor
    """[4, L, K] int32 table rows from a sample's upper left neighbor to all four."""
    spans: tuple[tuple[int, int], ...]
    """Table rows of each level, border included."""
    num_rows: int
    """R."""


@lru_cache(maxsize=32)
def _layout(shapes: Shapes, num_heads: int, num_points: int) -> _Layout:
    bordered = [(height + 2) * (width + 2) for height, width in shapes]
    starts = [sum(bordered[:index]) for index in range(len(bordered) + 1)]
    # The lower neighbors of a sample below the last line weigh nothing, but are read.
    num_rows = starts[-1] + shapes[-1][1] + 4
    if num_heads * num_rows > _MAX_EXACT:
        raise ValueError(f"{num_heads} heads of {num_rows} cells are too many to sample on the CPU")
    with torch.inference_mode(False), torch.no_grad():
        height, width = torch.tensor(shapes, dtype=torch.float32).unbind(1)
        centers = cell_centers(shapes, torch.device("cpu"))
        line = width + 2
        heads = torch.arange(num_heads, dtype=torch.float32)[:, None] * num_rows
        corners = torch.stack([torch.zeros_like(line), torch.ones_like(line), line, line + 1])

        def spread(levels: Tensor, num_copies: int) -> Tensor:
            """Repeat [..., L] to [num_copies, L, K]."""
            return levels[..., None].expand(num_copies, -1, num_points).contiguous()

        return _Layout(
            x=spread(centers[:, :1] * width - 0.5, len(centers))[:, None],
            y=spread(centers[:, 1:] * height - 0.5, len(centers))[:, None],
            width=spread(width, num_heads),
            height=spread(height, num_heads),
            line=spread(line, num_heads),
            first=spread(heads + torch.tensor(starts[:-1]) + line + 1, num_heads),
            corners=spread(corners.int(), len(corners)),
            spans=tuple(pairwise(starts)),
            num_rows=num_rows,
        )


@library.custom_op("univs::deformable_sample", mutates_args=(), device_types="cpu")
def _sample(value: Tensor, offsets: Tensor, weights: Tensor, sizes: list[int]) -> Tensor:
    """Sample in chunks of cells; ``sizes`` lists height and width of each level."""
    shapes = _shapes(sizes)
    num_images, num_cells, num_heads, head_dim = value.shape
    layout = _layout(shapes, num_heads, offsets.shape[-2])
    tables = _tables(value, shapes, layout)
    sampled = value.new_empty(num_images, num_cells, num_heads * head_dim)
    for image in range(num_images):
        for start in range(0, num_cells, _CHUNK_CELLS):
            cells = slice(start, min(start + _CHUNK_CELLS, num_cells))
            rows, entries = _entries(offsets[image, cells], weights[image, cells], layout, cells)
            bags = F.embedding_bag(
                rows.flatten(2).flatten(0, 1),
                tables[image].flatten(0, 1),
                mode="sum",
                per_sample_weights=entries.flatten(2).flatten(0, 1),
            )
            sampled[image, cells] = bags.view(-1, num_heads * head_dim)
    return sampled


@_sample.register_fake
def _(value: Tensor, offsets: Tensor, weights: Tensor, sizes: list[int]) -> Tensor:
    return value.new_empty(*value.shape[:2], value.shape[2] * value.shape[3])


@library.custom_op("univs::deformable_sample_backward", mutates_args=(), device_types="cpu")
def _gradients(
    gradient: Tensor, value: Tensor, offsets: Tensor, weights: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    """Give the gradients of value, offsets and weights from that of the result [N, S, h * d]."""
    shapes = _shapes(sizes)
    layout = _layout(shapes, value.shape[2], offsets.shape[-2])
    tables = _tables(value, shapes, layout)
    offset_gradients, weight_gradients = torch.empty_like(offsets), torch.empty_like(weights)
    table_gradients = torch.empty_like(tables)
    by_head = gradient.unflatten(-1, value.shape[2:]).transpose(1, 2).contiguous()
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        for image in range(len(value)):
            rows, entries = _entries(offsets[image], weights[image], layout, slice(None))
            matrices = [
                _Matrix.of(rows[:, head], entries[:, head], head, layout.num_rows)
                for head in range(rows.shape[1])
            ]
            # A transposed product runs on one thread, so all heads' run at once.
            table_parts = pool.map(_Matrix.transposed_product, matrices, by_head[image])
            products = map(_Matrix.products, matrices, by_head[image], tables[image])
            entry_gradients = torch.stack(list(products), dim=1).view_as(entries)
            offset_gradients[image], weight_gradients[image] = _chain(
                entry_gradients, offsets[image], weights[image], layout
            )
            table_gradients[image] = torch.stack(list(table_parts))
    return _untable(table_gradients, shapes, layout), offset_gradients, weight_gradients


@_gradients.register_fake
def _(
    gradient: Tensor, value: Tensor, offsets: Tensor, weights: Tensor, sizes: list[int]
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(value), torch.empty_like(offsets), torch.empty_like(weights)


def _keep(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, list[int]], output: Tensor) -> None:
    *tensors, sizes = inputs
    ctx.save_for_backward(*tensors)
    ctx.sizes = sizes


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
    gradients = _gradients(gradient.contiguous(), *ctx.saved_tensors, ctx.sizes)
    return (*gradients, None)


_sample.register_autograd(_backward, setup_context=_keep)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Matrix:
    """The sparse matrix [S, R] of one image and head."""

    starts: Tensor
    """[S + 1] int32, where the entries of each row start."""
    columns: Tensor
    """[S E] int32 table rows."""
    entries: Tensor
    """[S E]."""
    num_columns: int
    """R."""

    @classmethod
    def of(cls, rows: Tensor, entries: Tensor, head: int, num_rows: int) -> "_Matrix":
        """Take the rows of one head's table out of those of all heads: both [S, 4, L, K]."""
        num_cells, num_entries = len(rows), rows[0].numel()
        return cls(
            starts=torch.arange(0, num_cells * num_entries + 1, num_entries, dtype=torch.int32),
            columns=(rows - head * num_rows).flatten(),
            entries=entries.flatten(),
            num_columns=num_rows,
        )

    @property
    def shape(self) -> tuple[int, int]:
        """[S, R]."""
        return len(self.starts) - 1, self.num_columns

    def transposed_product(self, gradient: Tensor) -> Tensor:
        """Multiply the transposed matrix with [S, d] -> [R, d]."""
        parts = (self.entries.numpy(), self.columns.numpy(), self.starts.numpy())
        product = csr_matrix(parts, shape=self.shape).T @ gradient.numpy()
        # Into torch's memory, whose alignment is always the same: sums of what follows depend on it.
        return torch.from_numpy(product).clone()

    def products(self, gradient: Tensor, table: Tensor) -> Tensor:
        """Multiply the rows of [S, d] and [R, d] that meet in an entry: [S, E]."""
        _silence_beta_warning()
        pattern = torch.sparse_csr_tensor(
            self.starts, self.columns, self.entries, size=self.shape, check_invariants=False
        )
        met = torch.sparse.sampled_addmm(pattern, gradient, table.T, beta=0)
        return met.values().view(len(gradient), -1)


@cache
def _silence_beta_warning() -> None:
    """Let torch say once, unheard, that its sparse matrices are in beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        index = torch.zeros(1, dtype=torch.int32)
        torch.sparse_csr_tensor(index, index[:0], torch.zeros(0), size=(0, 1), check_invariants=False)


def _shapes(sizes: list[int]) -> Shapes:
    return tuple(zip(sizes[::2], sizes[1::2], strict=True))


def _tables(value: Tensor, shapes: Shapes, layout: _Layout) -> Tensor:
    """Lay out [N, S, h, d] as tables [N, h, R, d]."""
    num_images, _, num_heads, head_dim = value.shape
    tables = value.new_zeros(num_images, num_heads, layout.num_rows, head_dim)
    for level, inner in zip(_levels(value, shapes), _inner(tables, shapes, layout), strict=True):
        inner.copy_(level)
    return tables


def _untable(tables: Tensor, shapes: Shapes, layout: _Layout) -> Tensor:
    """Take the cells [N, S, h, d] out of tables [N, h, R, d]."""
    num_images, num_heads, _, head_dim = tables.shape
    num_cells = sum(height * width for height, width in shapes)
    value = tables.new_empty(num_images, num_cells, num_heads, head_dim)
    for level, inner in zip(_levels(value, shapes), _inner(tables, shapes, layout), strict=True):
        level.copy_(inner)
    return value


def _levels(value: Tensor, shapes: Shapes) -> list[Tensor]:
    """View the levels of [N, S, h, d] as [N, h, H, W, d]."""
    parts = value.split([height * width for height, width in shapes], dim=1)
    return [
        part.unflatten(1, shape).permute(0, 3, 1, 2, 4) for part, shape in zip(parts, shapes, strict=True)
    ]


def _inner(tables: Tensor, shapes: Shapes, layout: _Layout) -> list[Tensor]:
    """View the levels of tables [N, h, R, d] without their borders: [N, h, H, W, d]."""
    return [
        tables[:, :, start:stop].unflatten(2, (height + 2, width + 2))[:, :, 1:-1, 1:-1]
        for (start, stop), (height, width) in zip(layout.spans, shapes, strict=True)
    ]


def _places(offsets: Tensor, layout: _Layout, cells: slice) -> tuple[Tensor, Tensor]:
    """Give x and y [S, h, L, K] of samples in cells; what lies beyond the border is moved onto it."""
    x = torch.add(offsets[..., 0], layout.x[cells]).clamp_(min=-1)
    y = torch.add(offsets[..., 1], layout.y[cells]).clamp_(min=-1)
    return torch.minimum(x, layout.width, out=x), torch.minimum(y, layout.height, out=y)


def _entries(offsets: Tensor, weights: Tensor, layout: _Layout, cells: slice) -> tuple[Tensor, Tensor]:
    """Work out table rows (int32) and matrix entries [S, h, 4, L, K] for some cells of one image."""
    x, y = _places(offsets, layout, cells)
    left, top = x.floor(), y.floor()
    across, down = x.sub_(left), y.sub_(top)
    # A place that is not a number reads any cell, with a weight that is not a number either.
    rows = left.addcmul_(top, layout.line).nan_to_num_(nan=0).add_(layout.first).int()
    lower = weights * down
    upper = weights - lower
    entries = weights.new_empty(*weights.shape[:2], 4, *weights.shape[2:])
    for first, part in ((0, upper), (2, lower)):
        right = torch.mul(part, across, out=entries[:, :, first + 1])
        torch.sub(part, right, out=entries[:, :, first])
    return rows[:, :, None] + layout.corners, entries


def _chain(
    entry_gradients: Tensor, offsets: Tensor, weights: Tensor, layout: _Layout
) -> tuple[Tensor, Tensor]:
    """Give gradients of offsets and weights from those of the entries [S, h, 4, L, K] of one image."""
    x, y = _places(offsets, layout, slice(None))
    inside_x = (x > -1) & (x < layout.width)
    inside_y = (y > -1) & (y < layout.height)
    across, down = x - x.floor(), y - y.floor()
    upper_left, upper_right, lower_left, lower_right = entry_gradients.unbind(2)
    upper = torch.lerp(upper_left, upper_right, across)
    lower = torch.lerp(lower_left, lower_right, across)
    along_x = torch.lerp(upper_right - upper_left, lower_right - lower_left, down)
    along_y = lower - upper
    offset_gradients = torch.stack([along_x * inside_x, along_y * inside_y], dim=-1) * weights[..., None]
    return offset_gradients, torch.lerp(upper, lower, down)
