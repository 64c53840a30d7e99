"""All benchmarks whose prediction files can be scored, by name."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from univs.evaluation.official.burst import BURST, BURST_EXEMPLAR
from univs.evaluation.official.case import Case, OfficialBenchmark, ScoreOptions
from univs.evaluation.official.coco_instances import COCO_INSTANCES
from univs.evaluation.official.coco_panoptic import ADE20K_PANOPTIC, COCO_PANOPTIC
from univs.evaluation.official.davis import DAVIS_2016, DAVIS_2017
from univs.evaluation.official.mose import MOSE
from univs.evaluation.official.refdavis import REFDAVIS
from univs.evaluation.official.refytvos import REFYTVOS
from univs.evaluation.official.semantic_images import ADE20K, COCO_SEMANTIC
from univs.evaluation.official.viposeg import VIPOSEG
from univs.evaluation.official.vipseg import VIPSEG
from univs.evaluation.official.vspw import VSPW
from univs.evaluation.official.ytvis import OVIS, YTVIS_2019, YTVIS_2021, YTVIS_2022
from univs.evaluation.official.ytvos import YTVOS_2018, YTVOS_2019

OFFICIAL: Mapping[str, OfficialBenchmark] = MappingProxyType(
    {
        benchmark.name: benchmark
        for benchmark in (
            COCO_PANOPTIC,
            COCO_INSTANCES,
            COCO_SEMANTIC,
            ADE20K,
            ADE20K_PANOPTIC,
            YTVIS_2019,
            YTVIS_2021,
            YTVIS_2022,
            OVIS,
            VIPSEG,
            VSPW,
            DAVIS_2016,
            DAVIS_2017,
            MOSE,
            YTVOS_2018,
            YTVOS_2019,
            REFDAVIS,
            REFYTVOS,
            VIPOSEG,
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
        ways = " or ".join(unmarked[0].split("|"))
        raise ValueError(
            f"--gt {gt}: no {ways}, expected the ground truth of {benchmark.name}: "
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
    return any(True for way in pattern.split("|") for _ in folder.glob(way))
