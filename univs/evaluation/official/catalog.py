"""All benchmarks whose prediction files can be scored, by name."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from univs.evaluation.official.burst import BURST, BURST_EXEMPLAR
from univs.evaluation.official.case import Case, OfficialBenchmark, ScoreOptions
from univs.evaluation.official.coco_instances import COCO_INSTANCES
from univs.evaluation.official.vipseg import VIPSEG
from univs.evaluation.official.ytvis import OVIS, YTVIS_2019, YTVIS_2021, YTVIS_2022

OFFICIAL: Mapping[str, OfficialBenchmark] = MappingProxyType(
    {
        benchmark.name: benchmark
        for benchmark in (
            COCO_INSTANCES,
            YTVIS_2019,
            YTVIS_2021,
            YTVIS_2022,
            OVIS,
            VIPSEG,
            BURST,
            BURST_EXEMPLAR,
        )
    }
)


def open_case(benchmark: OfficialBenchmark, gt: Path, pred: Path, options: ScoreOptions) -> Case:
    """Open ground truth and predictions of a benchmark.

    Raises:
        ValueError: a folder is not there or another benchmark's, files are missing or not what they should
            be, or a quirk to mend is not one of this benchmark's.
    """
    for flag, folder in (("--gt", gt), ("--pred", pred)):
        if not folder.exists():
            raise ValueError(f"{flag} {folder}: no such folder")
    unmarked = [mark for mark in benchmark.marks if not _matches(gt, mark)]
    if unmarked:
        raise ValueError(
            f"--gt {gt}: no {unmarked[0]}, expected the ground truth of {benchmark.name}: "
            f"{benchmark.gt_layout}{_guess(benchmark, gt)}"
        )
    unknown = [mend for mend in options.mends if mend not in benchmark.mends]
    if unknown:
        known = ", ".join(benchmark.mends) or "none"
        raise ValueError(f"--mend {unknown[0]}: not a quirk of {benchmark.name}, expected one of: {known}")
    return benchmark.open(gt, pred, options)


def _guess(benchmark: OfficialBenchmark, gt: Path) -> str:
    others = [
        other.name
        for other in OFFICIAL.values()
        if other.name != benchmark.name and other.marks and all(_matches(gt, mark) for mark in other.marks)
    ]
    return f"; it looks like {' or '.join(others)}" if others else ""


def _matches(folder: Path, pattern: str) -> bool:
    return any(True for _ in folder.glob(pattern))
