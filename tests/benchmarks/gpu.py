"""How fast whole clips are on a GPU: single precision, bfloat16, compiled; and what that changes.

    python tests/benchmarks/gpu.py [--json FILE] [--height 640 --width 1152] [--models resnet50 swin_l]

Needs torch, torchvision, timm and transformers only. Every way is compared with eager single precision in the
same run: seconds per clip, peak memory, and the largest difference of image features over the largest value.
"""

import torch
from table import Row, parser, report, time_all
from torch import Tensor

from univs.config import BackboneConfig, ModelConfig
from univs.model.types import Predictions
from univs.model.univs import UniVS

NUM_FRAMES = 5
NUM_CLASSES = 133
NUM_ROUNDS = 5
MAX_DIFFERENCE = 2e-2
"""Of bfloat16 to single precision, in image features."""


class Ways:
    """The ways to run one model on one clip; each gives the encoder's mask features and the predictions."""

    def __init__(self, name: str, frames: Tensor) -> None:
        torch.manual_seed(0)
        config = ModelConfig(backbone=BackboneConfig(name=name))
        self.model = UniVS(config).to(frames.device).eval()
        self.compiled = torch.compile(self._forward, dynamic=False)
        self.frames = frames
        self.index = torch.arange(frames.shape[1], device=frames.device)[None]
        self.bank = torch.randn(NUM_CLASSES, config.text.embed_dim, device=frames.device)

    def eager(self) -> tuple[Tensor, Predictions]:
        """Run in single precision."""
        return self._finish(self._forward)

    def bfloat16(self) -> tuple[Tensor, Predictions]:
        """Run where safe in bfloat16."""
        with torch.autocast(self.frames.device.type, dtype=torch.bfloat16):
            return self._finish(self._forward)

    def compiled_bfloat16(self) -> tuple[Tensor, Predictions]:
        """Run compiled, where safe in bfloat16."""
        with torch.autocast(self.frames.device.type, dtype=torch.bfloat16):
            return self._finish(self.compiled)

    def _forward(self) -> tuple[Tensor, Predictions]:
        features = self.model.encode(self.frames, self.index)
        return features.mask, self.model.decode(features, None, self.bank)

    def _finish(self, forward) -> tuple[Tensor, Predictions]:
        with torch.inference_mode():
            found = forward()
        if self.frames.device.type == "cuda":
            torch.cuda.synchronize()
        return found


def main() -> None:
    """Measure the models asked for."""
    flags = parser(__doc__)
    flags.add_argument("--device", default="cuda")
    flags.add_argument("--height", type=int, default=640)
    flags.add_argument("--width", type=int, default=1152)
    flags.add_argument("--models", nargs="+", default=["resnet50", "swin_l"])
    given = flags.parse_args()
    frames = torch.randn(1, NUM_FRAMES, 3, given.height, given.width, device=given.device)
    rows = [row for name in given.models for row in rows_of(name, frames)]
    report(rows, given.json)


def rows_of(name: str, frames: Tensor) -> list[Row]:
    """Compare the ways to run one model."""
    ways = Ways(name, frames)
    reference = ways.eager()[0]
    functions = {"bfloat16": ways.bfloat16, "compiled bfloat16": ways.compiled_bfloat16}
    differences = {way: difference(function()[0], reference) for way, function in functions.items()}
    times = time_all({"eager": ways.eager, **functions}, NUM_ROUNDS)
    peaks = {way: peak_gib(function) for way, function in {"eager": ways.eager, **functions}.items()}
    rows = []
    for way in functions:
        note = f"eager fp32; {NUM_FRAMES / times[way]:.1f} frames/s, differs by {differences[way]:.1e}"
        note += "" if differences[way] <= MAX_DIFFERENCE else f", MORE THAN {MAX_DIFFERENCE}"
        rows.append(Row(name=f"{name}, {way}", ours=times[way], other=times["eager"], unit="s", note=note))
        if frames.device.type == "cuda":
            title = f"{name}, {way}, peak"
            rows.append(Row(name=title, ours=peaks[way], other=peaks["eager"], unit="GiB", note="eager fp32"))
    return rows


def difference(found: Tensor, reference: Tensor) -> float:
    """Give the largest difference over the largest value."""
    return ((found.float() - reference).abs().max() / reference.abs().max()).item()


def peak_gib(function) -> float:
    """Give the most memory that was in use on the GPU, 0 elsewhere."""
    if not torch.cuda.is_available():
        return 0.0
    torch.cuda.reset_peak_memory_stats()
    function()
    return torch.cuda.max_memory_allocated() / 2**30


if __name__ == "__main__":
    main()
