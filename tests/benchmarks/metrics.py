"""How fast metrics are computed from prediction files, on one core, against the official evaluators.

    python tests/benchmarks/metrics.py [--case DIR] [--json FILE]

Without ``--case`` a small case is made here (see ``metrics_case``); a larger one of the same layout can be
given. Rows are CPU seconds, reading included. Evaluators of packages run in the same run; install them with
``uv sync --group benchmarks``, else their rows are left out. For official scripts that are no package,
seconds recorded on another machine are scaled by a yardstick that was measured beside them and is measured
here; it sorts, which processors with AVX-512 do far faster than anything else, so there it asks for too much.
"""

import time
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
from metrics_case import CaseSize, write_case
from table import parser, report

MODULES = ("metrics_panoptic", "metrics_objects", "metrics_tracks")


def main() -> None:
    """Measure all."""
    flags = parser(__doc__)
    flags.add_argument("--case", type=Path, help="folder with vipseg, vspw, davis, viposeg and ytvis")
    arguments = flags.parse_args()
    cv2.setNumThreads(1)
    with TemporaryDirectory() as folder:
        case = arguments.case
        if case is None:
            case = Path(folder) / "case"
            write_case(case, CaseSize())
        yardstick_s = yardstick()
        print(f"yardstick {yardstick_s:.3f} CPU s")
        modules = [import_module(name) for name in MODULES if find_spec(name)]
        report([row for module in modules for row in module.rows(case, yardstick_s)], arguments.json)


def yardstick() -> float:
    """Give the CPU seconds of a fixed amount of sorting and filtering, the best of three."""
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 40, (8, 480, 854)).astype(np.uint64)
    ids = ids * 16777216 + rng.integers(0, 40, (8, 480, 854)).astype(np.uint64)
    mask = (rng.random((480, 854)) > 0.5).astype(np.uint8)
    return min(_work(ids, mask) for _ in range(3))


def _work(ids: np.ndarray, mask: np.ndarray) -> float:
    start = time.process_time()
    for _ in range(3):
        np.unique(ids, return_counts=True)
    for _ in range(200):
        cv2.dilate(mask, np.ones((17, 17), np.uint8))
    return time.process_time() - start


if __name__ == "__main__":
    main()
