"""Where the artifacts of a curriculum lie, and what a stage still lacks before it can start."""

import hashlib
import json
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from jobs.artifacts import digest_files, is_whole, read_record, to_plain, write_record
from jobs.config import StageConfig, WorkerConfig
from jobs.errors import UserError
from jobs.releases import RELEASES, ReleaseName, missing_releases
from preprocessing.atomic import atomic_write
from univs.data.loader import MixtureSource
from univs.data.schedule import MixtureSchedule
from univs.model.univs import UniVS
from univs.model.weights import save_checkpoint
from univs.schema import canonical_json

CHECKPOINT_NAME, LOG_NAME = "checkpoint.safetensors", "steps.jsonl"
UNTRAINED = "untrained"


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """The folders of one stage under the run root."""

    releases: Path
    curriculum: Path
    stage: Path

    @property
    def checkpoint(self) -> Path:
        """The file a stage leaves."""
        return self.stage / CHECKPOINT_NAME


def places_of(config: StageConfig, run_root: Path) -> Places:
    """Say where a stage reads and writes."""
    curriculum = run_root.absolute() / config.name
    return Places(
        releases=run_root.absolute() / RELEASES, curriculum=curriculum, stage=curriculum / config.stage
    )


def releases_of(config: StageConfig) -> list[ReleaseName]:
    """Name the training releases of a stage."""
    return [ReleaseName(dataset=source.dataset, split="train") for source in config.sources]


def mixture_of(config: StageConfig, places: Places) -> tuple[MixtureSource, ...]:
    """Give the sources of a stage's training feed."""
    return tuple(
        MixtureSource(
            path=name.folder(places.releases),
            weight=source.weight,
            frame_range_frames=source.frame_range_frames,
            as_images=source.as_images,
        )
        for name, source in zip(releases_of(config), config.sources, strict=True)
    )


def is_trained(config: StageConfig, run_root: Path) -> bool:
    """Whether the stage's checkpoint is there, made from this very configuration.

    Raises:
        UserError: it is there but made from another one.
    """
    folder = places_of(config, run_root).stage
    if not is_whole(folder):
        return False
    if read_record(folder, "checkpoint").config != stage_identity(config):
        raise UserError(
            f"{folder}: holds a checkpoint of another configuration of {config.stage}; give this one another "
            "--name, or remove the folder to train it again"
        )
    return True


def stage_identity(config: StageConfig) -> dict[str, object]:
    """Give what makes two stages the same: the configuration without what came before, which inputs name."""
    body: dict[str, object] = to_plain(replace(config, previous=None))
    return body


def untrained_checkpoint(config: StageConfig, run_root: Path) -> Path:
    """Give the seeded weights that a curriculum without ``init_from`` starts from; write them if need be."""
    folder = places_of(config, run_root).curriculum / UNTRAINED
    path = folder / CHECKPOINT_NAME
    identity = {"model": to_plain(config.model), "seed": config.train.seed}
    if is_whole(folder) and read_record(folder, "checkpoint").config == identity:
        return path
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(config.train.seed)
    save_checkpoint(path, UniVS(config.model))
    outputs = digest_files(folder, [CHECKPOINT_NAME])
    write_record(folder, kind="checkpoint", config=identity, inputs={}, outputs=outputs)
    return path


def curriculum_id(folder: Path) -> str:
    """Give the id of the curriculum in this folder, drawn when it is first asked for.

    It keys the MLflow runs, so that a resumed job continues them and another folder never does.
    """
    path = folder / "curriculum.json"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary:
            temporary.write_text(json.dumps({"id": uuid.uuid4().hex}) + "\n", encoding="utf-8")
    return str(json.loads(path.read_text(encoding="utf-8"))["id"])


def run_digest(config: StageConfig, inputs: dict[str, str]) -> str:
    """Identify a training run by its configuration and inputs; a rerun with the same resumes it."""
    return hashlib.sha256(canonical_json({"config": stage_identity(config), "inputs": inputs})).hexdigest()[
        :12
    ]


def describe_plan(config: StageConfig, run_root: Path) -> str:
    """Say in lines what training this stage would do, from first missing input to last step."""
    lines = (
        [] if config.previous is None or config.init_from else [_describe_previous(config.previous, run_root)]
    )
    missing = missing_releases(places_of(config, run_root).releases, releases_of(config))
    shares = MixtureSchedule.from_weights([source.weight for source in config.sources])
    for position, source in enumerate(config.sources):
        share = shares.count_before(shares.period, position) / shares.period
        name = ReleaseName(dataset=source.dataset, split="train")
        state = _state(config, name in missing)
        lines.append(f"  data       {name.dataset}/{name.split}: {share:.1%} of steps, {state}")
    start = config.init_from or (
        f"the checkpoint of {config.previous.stage}" if config.previous else "seeded weights"
    )
    train, loader, workers = config.train, config.loader, config.workers
    lines += [
        f"  start      {start}",
        f"  train      {train.num_steps} steps x {loader.batch_size} clips x {loader.frames_per_clip} frames",
        f"  workers    {workers.num_workers} x {_device(workers)}, {train.precision}",
        f"  checkpoint {places_of(config, run_root).checkpoint}",
    ]
    return "\n".join([f"{config.stage} of {config.name!r}: {_progress(config, run_root)}", *lines])


def _device(workers: WorkerConfig) -> str:
    return "1 GPU" if workers.use_gpu else f"{workers.cpus_per_worker} CPU"


def _describe_previous(previous: StageConfig, run_root: Path) -> str:
    return f"  needs      {previous.stage}: {_progress(previous, run_root)}"


def _progress(config: StageConfig, run_root: Path) -> str:
    return "already trained" if is_trained(config, run_root) else "to be trained"


def _state(config: StageConfig, is_missing: bool) -> str:
    if not is_missing:
        return "there"
    return "to be generated" if config.miniature else "MISSING, build it with pipelines/preprocess.py"
