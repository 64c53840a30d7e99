"""Check the zip of a submission against what the organizers publish of the split."""

from dataclasses import dataclass
from pathlib import Path

from jobs.scoring import require_benchmark
from univs.evaluation.submission_checks.archive import MB, SizeLimit
from univs.evaluation.submission_checks.catalog import FORMATS, check_zip
from univs.evaluation.submission_checks.inputs import Inputs


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckConfig:
    """Which zip to check."""

    check_submission: Path
    """The zip to upload."""
    benchmark: str
    """Name of the benchmark whose server takes it; --list shows all."""
    gt: Path
    """Public files of the split: the JSON that lists its videos, or a folder of frames and given masks."""
    split: str = ""
    """List of videos to use, where the folder has several (test-dev, val); empty for that without truth."""
    max_mb: int = 0
    """Limit of the server in megabytes, where you know it better; 0 for the one that --list names."""

    def __post_init__(self) -> None:
        """Refuse names and numbers that cannot be."""
        require_benchmark(self.benchmark, tuple(FORMATS))
        if self.max_mb < 0:
            raise ValueError(f"--max-mb {self.max_mb}: expected at least 0")


def check_submission(config: CheckConfig) -> str:
    """Check a zip; say in one line what is in it.

    Raises:
        ValueError: the server would refuse it; the line says what is wrong first.
    """
    limit = SizeLimit(num_bytes=config.max_mb * MB, source="--max-mb") if config.max_mb else None
    inputs = Inputs(root=config.gt, split=config.split)
    return check_zip(config.check_submission, FORMATS[config.benchmark], inputs, limit)
