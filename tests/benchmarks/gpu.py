"""How fast deformable sampling and whole clips are on a GPU: Triton kernel, bfloat16, compiled.

    python tests/benchmarks/gpu.py [--json FILE] [--height 640 --width 1152] [--models resnet50 swin_l]

Needs torch, torchvision, timm, transformers, numpy, scipy, opencv and pillow only. First the kernel against
``grid_sample``, then every way to run a model against eager single precision, all in the same run: time, peak
memory, and the largest difference over the largest value, beside the largest that is allowed.
"""

import sys
from collections.abc import Callable
from typing import TypeVar

import torch
from table import Row, parser, report, time_all
from torch import Tensor

from univs.config import BackboneConfig, ModelConfig
from univs.model.deformable import Sampler, deformable_sample, sample_grid
from univs.model.position import Shapes, cell_centers
from univs.model.types import Predictions
from univs.model.univs import UniVS

NUM_FRAMES = 5
NUM_CLASSES = 133
NUM_ROUNDS = 5
NUM_REPEATS = 20
"""Of one sampling, in one timing: a single one is too short to be timed."""
MAX_DIFFERENCES = {torch.float32: 1e-4, torch.bfloat16: 2e-2}
"""Over the largest value."""
NO_GPU = "gpu.py measures on a CUDA device and found none; tests/benchmarks/model.py measures on the CPU"

Run = Callable[[], object]
Found = TypeVar("Found")


def main() -> None:
    """Measure sampling and the models asked for."""
    flags = parser(__doc__)
    flags.add_argument("--device", default="cuda", help="cpu shows that the script runs, no more")
    flags.add_argument("--height", type=int, default=640)
    flags.add_argument("--width", type=int, default=1152)
    flags.add_argument("--models", nargs="+", default=["resnet50", "swin_l"])
    given = flags.parse_args()
    if given.device != "cpu" and not torch.cuda.is_available():
        sys.exit(NO_GPU)
    torch.manual_seed(0)
    frames = torch.randn(1, NUM_FRAMES, 3, given.height, given.width, device=given.device)
    rows = [*sampling_rows(frames), *(row for name in given.models for row in model_rows(name, frames))]
    report(rows, given.json)


def sampling_rows(frames: Tensor) -> list[Row]:
    """Compare the sampling of one pixel decoder layer with ``grid_sample``."""
    height, width = frames.shape[-2:]
    shapes = tuple((height // stride, width // stride) for stride in (32, 16, 8))
    inputs = draw_samples(shapes, frames.device)
    forward = {"ours": deformable_sample, "other": sample_grid}
    both = {name: with_gradients(sampler, shapes, inputs) for name, sampler in forward.items()}
    with torch.no_grad():
        alone = {name: bound(sampler, shapes, inputs) for name, sampler in forward.items()}
        rows = compare("deformable sampling, forward", alone)
    return [*rows, *compare("deformable sampling, and backward", both), *sampling_differences(shapes, inputs)]


def draw_samples(shapes: Shapes, device: torch.device) -> list[Tensor]:
    """Draw values, offsets and weights of eight heads with four points each, some cells around.

    No place is near a cell's center, where the gradient of the place jumps.
    """
    sizes = torch.tensor([(width, height) for height, width in shapes], device=device)[:, None]
    own = cell_centers(shapes, device)[:, None, None, None] * sizes - 0.5
    layout = (NUM_FRAMES, len(own), 8, len(shapes), 4)
    steps = torch.randint(-4, 4, (*layout, 2), device=device)
    places = own.floor() + steps + 0.1 + 0.8 * torch.rand(*layout, 2, device=device)
    value = torch.randn(*layout[:3], 32, device=device)
    return [value, places - own, torch.rand(layout, device=device)]


def bound(sampler: Sampler, shapes: Shapes, inputs: list[Tensor]) -> Run:
    """Sample without gradients."""
    return lambda: sampler(inputs[0], shapes, *inputs[1:])


def with_gradients(sampler: Sampler, shapes: Shapes, inputs: list[Tensor]) -> Callable[[], list[Tensor]]:
    """Sample, and give the result and all gradients of the sum of its squares."""
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]

    def run() -> list[Tensor]:
        sampled = sampler(leaves[0], shapes, *leaves[1:])
        return [sampled.detach(), *torch.autograd.grad(sampled.float().square().sum(), leaves)]

    return run


def compare(title: str, runs: dict[str, Run]) -> list[Row]:
    """Compare time and memory."""

    def repeat(run: Run) -> Run:
        return lambda: finish([run() for _ in range(NUM_REPEATS)][-1])

    times = time_all({name: repeat(run) for name, run in runs.items()}, NUM_ROUNDS)
    milliseconds = {name: 1e3 * time / NUM_REPEATS for name, time in times.items()}
    rows = [Row(name=title, **milliseconds, unit="ms", note="grid_sample")]
    if torch.cuda.is_available():
        peaks = {name: peak_gib(run) for name, run in runs.items()}
        rows.append(Row(name=f"{title}, peak", **peaks, unit="GiB", note="grid_sample"))
    return rows


def sampling_differences(shapes: Shapes, inputs: list[Tensor]) -> list[Row]:
    """Compare result and gradients with those of ``grid_sample`` in single precision: the worst of them."""
    rows = []
    # The sparse product of the CPU is for single precision only.
    dtypes = MAX_DIFFERENCES if inputs[0].is_cuda else [torch.float32]
    for dtype in dtypes:
        rounded = [tensor.to(dtype) for tensor in inputs]
        found = with_gradients(deformable_sample, shapes, rounded)()
        expected = with_gradients(sample_grid, shapes, [tensor.float() for tensor in rounded])()
        worst = max(map(difference, found, expected))
        title = f"deformable sampling, {dtype}".replace("torch.", "")
        rows.append(difference_row(title, worst, MAX_DIFFERENCES[dtype]))
    return rows


class Ways:
    """The ways to run one model on one clip; each gives the encoder's mask features and the predictions."""

    def __init__(self, name: str, frames: Tensor) -> None:
        torch.manual_seed(0)
        config = ModelConfig(backbone=BackboneConfig(name=name))
        self.model = UniVS(config).to(frames.device).eval()
        self.compiled = torch.compile(self._forward, fullgraph=True, dynamic=False)
        self.frames = frames
        self.index = torch.arange(frames.shape[1], device=frames.device)[None]
        self.bank = torch.randn(NUM_CLASSES, config.text.embed_dim, device=frames.device)

    @torch.inference_mode()
    def eager(self) -> tuple[Tensor, Predictions]:
        """Run in single precision."""
        return finish(self._forward())

    @torch.inference_mode()
    def bfloat16(self) -> tuple[Tensor, Predictions]:
        """Run where safe in bfloat16."""
        with torch.autocast(self.frames.device.type, dtype=torch.bfloat16):
            return finish(self._forward())

    @torch.inference_mode()
    def compiled_bfloat16(self) -> tuple[Tensor, Predictions]:
        """Run compiled, as one graph, where safe in bfloat16."""
        with torch.autocast(self.frames.device.type, dtype=torch.bfloat16):
            return finish(self.compiled())

    def _forward(self) -> tuple[Tensor, Predictions]:
        features = self.model.encode(self.frames, self.index)
        return features.mask, self.model.decode(features, None, self.bank)


def model_rows(name: str, frames: Tensor) -> list[Row]:
    """Compare the ways to run one model with eager single precision."""
    ways = Ways(name, frames)
    runs = {"eager": ways.eager, "bfloat16": ways.bfloat16, "compiled bfloat16": ways.compiled_bfloat16}
    reference = ways.eager()[0]
    worst = {way: difference(run()[0], reference) for way, run in runs.items()}
    times = time_all(runs, NUM_ROUNDS)
    peaks = {way: peak_gib(run) for way, run in runs.items()} if torch.cuda.is_available() else {}
    rows = [frame_row(f"{name}, {way}", times[way], times["eager"]) for way in runs]
    for way in list(runs)[1:]:
        allowed = MAX_DIFFERENCES[torch.bfloat16]
        rows.append(difference_row(f"{name}, {way}, mask features", worst[way], allowed))
    for way, peak in peaks.items():
        title = f"{name}, {way}, peak"
        rows.append(Row(name=title, ours=peak, other=peaks["eager"], unit="GiB", note="eager fp32"))
    return rows


def frame_row(title: str, time_s: float, eager_s: float) -> Row:
    """Give the time of one frame, from that of a clip."""
    ours, other = 1e3 * time_s / NUM_FRAMES, 1e3 * eager_s / NUM_FRAMES
    return Row(name=title, ours=ours, other=other, unit="ms", note=f"eager fp32; {1e3 / ours:.1f} frames/s")


def difference_row(title: str, found: float, allowed: float) -> Row:
    """Set a difference, in thousandths of the largest value, beside what is allowed."""
    note = "allowed" if found <= allowed else "allowed: EXCEEDED"
    # Nothing is exactly equal: a ratio needs a number above zero.
    return Row(
        name=f"{title}, difference", ours=max(1e3 * found, 1e-9), other=1e3 * allowed, unit="1e-3", note=note
    )


def difference(found: Tensor, reference: Tensor) -> float:
    """Give the largest difference over the largest value."""
    return ((found.float() - reference).abs().max() / reference.abs().max()).item()


def finish(found: Found) -> Found:
    """Wait for the GPU."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return found


def peak_gib(run: Run) -> float:
    """Give the most memory in use on the GPU while something runs."""
    torch.cuda.reset_peak_memory_stats()
    run()
    return torch.cuda.max_memory_allocated() / 2**30


if __name__ == "__main__":
    main()
