"""How fast the model is, and how much memory a training step takes.

    python tests/benchmarks/model.py [--json FILE] [--threads 2]

The original is not run here. Its times, recorded beside the time of torchvision's ResNet-50 trunk on the same
machine (3 frames of 384 x 640, 2 threads, pure torch), are scaled by the time of that trunk in this run.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import timm
import torch
import torchvision
from table import Row, parser, report, time_all
from timm.layers.norm_act import freeze_batch_norm_2d
from torch import Tensor, nn
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from univs.config import BackboneConfig, ModelConfig
from univs.data.batch import ClipBatch, ClipTargets
from univs.label_spaces import builtin_spaces, category_texts
from univs.model.deformable import deformable_sample, sample_grid
from univs.model.foreign import read_foreign
from univs.model.importing import ImportConfig, assemble
from univs.model.regions import mask_regions
from univs.model.univs import UniVS
from univs.training.config import PromptSampling, TrainConfig
from univs.training.objective import Objective

NUM_FRAMES, HEIGHT, WIDTH = 3, 384, 640
NUM_OBJECTS = 4
NUM_ROUNDS = 3

# Times of the original over that of the trunk, and its peak memory: UniVS at commit 7415d31, ResNet-50.
ORIGINAL = {"backbone": 1.03, "pixel decoder": 3.4, "forward": 5.6, "forward, 4 visual prompts": 5.6}
ORIGINAL_STEP = {"backbone frozen": 14.5, "backbone trained": 13.9}
ORIGINAL_STEP_GIB = {"backbone frozen": 6.2, "backbone trained": 6.7}
FROZEN_STAGES = {"backbone frozen": 5, "backbone trained": 0}

Functions = dict[str, Callable[[], object]]


def main() -> None:
    """Measure everything, or one training step in a process of its own."""
    flags = parser(__doc__)
    flags.add_argument("--threads", type=int, default=2)
    flags.add_argument("--step", choices=sorted(FROZEN_STAGES), help="in this process, as JSON")
    given = flags.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(0)
    if given.step:
        print(json.dumps(measure_step(given.step)))
        return
    rows = [
        *forward_rows(),
        *step_rows(given.threads),
        *sampling_rows(),
        *folding_rows(),
        *mask2former_rows(),
    ]
    report(rows, given.json)


def trunk() -> nn.Module:
    """Give torchvision's ResNet-50 without pooling and classifier: the yardstick."""
    return nn.Sequential(*list(torchvision.models.resnet50().children())[:-2]).eval()


def univs_r50(frozen_stages: int = 0) -> UniVS:
    """Give UniVS with random weights and a random bank in place of its untrained text tower's."""
    model = UniVS(ModelConfig(backbone=BackboneConfig(name="resnet50", frozen_stages=frozen_stages)))
    model.text.adopt(category_texts(builtin_spaces()["coco_panoptic"].labels), torch.randn(133, 640))
    return model


def draw_masks() -> Tensor:
    """Give rectangles [1, N, T, H, W] bool."""
    masks = torch.zeros(1, NUM_OBJECTS, NUM_FRAMES, HEIGHT, WIDTH, dtype=torch.bool)
    for index in range(NUM_OBJECTS):
        masks[0, index, :, 40 : 40 + 80 * (index + 1), 100 * index : 100 * index + 150] = True
    return masks


@torch.inference_mode()
def forward_rows() -> list[Row]:
    """Compare the forward pass and its parts with the original."""
    model, yardstick = univs_r50().eval(), trunk()
    frames = torch.randn(1, NUM_FRAMES, 3, HEIGHT, WIDTH)
    index = torch.arange(NUM_FRAMES)[None]
    bank = torch.randn(133, 640)
    regions = mask_regions(draw_masks()[:, :, 0], torch.zeros(1, NUM_OBJECTS, dtype=torch.int64))
    maps = model.backbone(frames[0])

    def prompted() -> object:
        features = model.encode(frames, index)
        return model.decode(features, model.prompt(features, regions), bank)

    functions: Functions = {
        "trunk": lambda: yardstick(frames[0]),
        "backbone": lambda: model.backbone(frames[0]),
        "pixel decoder": lambda: model.pixel_decoder(maps),
        "forward": lambda: model.decode(model.encode(frames, index), None, bank),
        "forward, 4 visual prompts": prompted,
    }
    times = time_all(functions, NUM_ROUNDS)
    note = "original, scaled by the trunk"
    return [
        Row(name=name, ours=times[name], other=times["trunk"] * share, unit="s", note=note)
        for name, share in ORIGINAL.items()
    ]


def step_rows(num_threads: int) -> list[Row]:
    """Compare time and memory of forward, losses and backward with the original."""
    rows = []
    for name in FROZEN_STAGES:
        command = [sys.executable, __file__, "--step", name, "--threads", str(num_threads)]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout.splitlines()[-1])
        scaled = found["trunk_s"] * ORIGINAL_STEP[name]
        title = f"training step, {name}"
        note = "original, scaled by the trunk"
        rows.append(Row(name=title, ours=found["step_s"], other=scaled, unit="s", note=note))
        other = ORIGINAL_STEP_GIB[name]
        rows.append(
            Row(name=f"{title}, peak", ours=found["peak_gib"], other=other, unit="GiB", note="original")
        )
    return rows


def measure_step(name: str) -> dict[str, float]:
    """Time forward, losses and backward of one clip, and take the process's peak memory."""
    config = TrainConfig(
        frames_per_clip=NUM_FRAMES, prompts=PromptSampling(visual_probability=1.0), num_steps=1
    )
    objective = Objective(univs_r50(FROZEN_STAGES[name]), config).train()
    batch = draw_batch()

    def step() -> None:
        objective.zero_grad()
        terms = objective(batch, torch.Generator().manual_seed(0))
        torch.stack(list(terms.values())).sum().backward()

    times = time_all({"step": step}, NUM_ROUNDS)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yardstick, frames = trunk(), batch.frames[0]
    with torch.inference_mode():
        times |= time_all({"trunk": lambda: yardstick(frames)}, NUM_ROUNDS)
    return {"step_s": times["step"], "trunk_s": times["trunk"], "peak_gib": peak_kib / 2**20}


def draw_batch() -> ClipBatch:
    """Give one clip with four objects."""
    targets = ClipTargets(
        masks=draw_masks()[0],
        labels=torch.arange(NUM_OBJECTS),
        object_ids=torch.arange(NUM_OBJECTS),
        is_thing=torch.ones(NUM_OBJECTS, dtype=torch.bool),
        expression_objects=torch.zeros(0, dtype=torch.int64),
        expressions=(),
        ignore=torch.zeros(NUM_FRAMES, HEIGHT, WIDTH, dtype=torch.bool),
    )
    return ClipBatch(
        step=0,
        dataset="none",
        task="detection",
        label_space=builtin_spaces()["coco_panoptic"].labels,
        frames=torch.randn(1, NUM_FRAMES, 3, HEIGHT, WIDTH),
        frame_indices=torch.arange(NUM_FRAMES)[None],
        image_sizes=torch.tensor([[HEIGHT, WIDTH]]),
        targets=(targets,),
        keys=("none",),
    )


def sampling_rows() -> list[Row]:
    """Compare deformable sampling with ``grid_sample``."""
    shapes = tuple((HEIGHT // stride, WIDTH // stride) for stride in (32, 16, 8))
    num_cells = sum(height * width for height, width in shapes)
    value = torch.randn(NUM_FRAMES, num_cells, 8, 32)
    offsets = 3 * torch.randn(NUM_FRAMES, num_cells, 8, 3, 4, 2)
    weights = torch.rand(NUM_FRAMES, num_cells, 8, 3, 4)

    def with_gradients(sample: Callable[..., Tensor]) -> Callable[[], object]:
        inputs = [tensor.clone().requires_grad_() for tensor in (value, offsets, weights)]
        return lambda: torch.autograd.grad(sample(inputs[0], shapes, *inputs[1:]).sum(), inputs)

    with torch.no_grad():
        forward = time_all(
            {
                "ours": lambda: deformable_sample(value, shapes, offsets, weights),
                "other": lambda: sample_grid(value, shapes, offsets, weights),
            },
            NUM_ROUNDS,
        )
    both = time_all(
        {"ours": with_gradients(deformable_sample), "other": with_gradients(sample_grid)}, NUM_ROUNDS
    )
    return [
        Row(name=f"deformable sampling, {name}", unit="s", note="grid_sample", **times)
        for name, times in (("forward", forward), ("and backward", both))
    ]


@torch.inference_mode()
def folding_rows() -> list[Row]:
    """Compare the backbone with the same one as timm runs it."""
    ours = univs_r50().backbone.eval()
    other = freeze_batch_norm_2d(timm.create_model("resnet50", features_only=True, pretrained=False)).eval()
    images = torch.randn(NUM_FRAMES, 3, HEIGHT, WIDTH)
    times = time_all({"ours": lambda: ours(images), "other": lambda: other(images)}, NUM_ROUNDS)
    return [Row(name="frozen ResNet-50", unit="s", note="timm with frozen norms", **times)]


@torch.inference_mode()
def mask2former_rows() -> list[Row]:
    """Compare with transformers' Mask2Former: same frames, weights and queries."""
    stages = ["stage1", "stage2", "stage3", "stage4"]
    swin = SwinConfig(
        embed_dim=96, depths=[2, 2, 6, 2], num_heads=[3, 6, 12, 24], window_size=7, out_features=stages
    )
    theirs = Mask2FormerForUniversalSegmentation(Mask2FormerConfig(backbone_config=swin, num_queries=200))
    with TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        settings = ImportConfig(source=folder, out=Path(folder) / "ours", position="2d", class_head="linear")
        ours = assemble(read_foreign(folder, ema=False), settings)[0].eval()
    frames = torch.randn(NUM_FRAMES, 1, 3, HEIGHT, WIDTH)
    index = torch.zeros(NUM_FRAMES, 1, dtype=torch.int64)
    theirs = theirs.eval()
    times = time_all(
        {
            "ours": lambda: ours.decode(ours.encode(frames, index)).mask_logits(),
            "other": lambda: theirs(pixel_values=frames[:, 0]),
        },
        NUM_ROUNDS,
    )
    return [Row(name="Mask2Former Swin-T", unit="s", note="transformers", **times)]


if __name__ == "__main__":
    main()
