"""The configurations of training and evaluation jobs: what is computed, never where."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from preprocessing.miniature import MiniatureConfig
from univs.config import ModelConfig
from univs.data.loader import LoaderConfig
from univs.inference.config import InferenceConfig
from univs.training.config import TrainConfig

StageName = Literal["stage1", "stage2", "stage3"]


@dataclass(frozen=True, kw_only=True, slots=True)
class StageSource:
    """One dataset of a stage's mixture."""

    dataset: str
    weight: float
    """Share of the steps, relative to the other sources."""
    frame_range_frames: int = 20
    """Largest distance of a clip's frame from its reference frame."""
    as_images: bool = False
    """Take single frames of videos."""


@dataclass(frozen=True, kw_only=True, slots=True)
class WorkerConfig:
    """The training workers Ray Train starts."""

    num_workers: int = 1
    use_gpu: bool = False
    cpus_per_worker: int = 1
    """CPUs reserved for, and threads used by, each worker."""
    max_failures: int = 3
    """Times a failed worker group is restarted from the last checkpoint."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StageConfig:
    """One stage of the curriculum."""

    name: str
    """Name of the curriculum; its artifacts lie in a folder of this name."""
    stage: StageName
    model: ModelConfig
    sources: tuple[StageSource, ...]
    loader: LoaderConfig
    train: TrainConfig
    workers: WorkerConfig = field(default_factory=WorkerConfig)
    checkpoint_every_steps: int = 1000
    """Steps between the checkpoints a killed run resumes from."""
    previous: "StageConfig | None" = None
    """The stage whose checkpoint this one starts from; trained first if it has not been."""
    init_from: str = ""
    """A checkpoint file to start from, in place of the previous stage's."""
    miniature: MiniatureConfig | None = None
    """The generated worlds this recipe trains on; without it releases must have been preprocessed."""

    def __post_init__(self) -> None:
        """Refuse a stage without data or with clips longer than what is loaded."""
        if not self.sources:
            raise ValueError(f"{self.stage} of {self.name!r} has no sources: name at least one dataset")
        if self.checkpoint_every_steps % self.train.report_every_steps:
            raise ValueError(
                f"checkpoint_every_steps {self.checkpoint_every_steps} must be a multiple of "
                f"train.report_every_steps {self.train.report_every_steps}"
            )
        if self.train.frames_per_clip > self.loader.frames_per_clip:
            raise ValueError(
                f"train.frames_per_clip {self.train.frames_per_clip} is more than the "
                f"{self.loader.frames_per_clip} frames the loader gives (loader.frames_per_clip)"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchmarkConfig:
    """One benchmark and how its videos are segmented."""

    name: str
    inference: InferenceConfig


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """How checkpoints are scored."""

    settings: tuple[BenchmarkConfig, ...]
    """Every benchmark this recipe knows how to run."""
    benchmarks: str = "all"
    """Names separated by commas, or ``all`` that have a release."""
    split: Literal["train", "val"] = "val"
    num_actors: int = 2
    """Model replicas that score videos in parallel."""
    cpus_per_actor: int = 1
    gpus_per_actor: float = 0.0
    max_items: int = 0
    """Images or videos per benchmark; 0 means all."""
    pictures_per_benchmark: int = 1
    """Items per benchmark drawn for the report."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse names that no setting has."""
        known = [setting.name for setting in self.settings]
        unknown = [name for name in self.names if name not in known]
        if unknown:
            raise ValueError(
                f"--benchmarks {self.benchmarks}: no benchmark {unknown[0]!r}, "
                f"expected some of {', '.join(known)}"
            )
        if self.num_actors < 1 or self.cpus_per_actor < 1:
            raise ValueError(
                f"num_actors {self.num_actors} and cpus_per_actor {self.cpus_per_actor} must be at least 1"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The benchmarks asked for."""
        if self.benchmarks == "all":
            return tuple(setting.name for setting in self.settings)
        return tuple(name.strip() for name in self.benchmarks.split(","))


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateJob:
    """Score one checkpoint and report."""

    checkpoint: Path
    """Checkpoint file to score."""
    data: Path
    """Folder of releases."""
    out: Path
    """Folder for report and submissions."""
    evaluation: EvaluateConfig
