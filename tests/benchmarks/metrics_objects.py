"""Rows of ``metrics.py`` for objects that are followed: J and F of DAVIS, and VIPOSeg's IoUs.

Both sides read the same files, on one core. Seconds of the official scripts are as recorded on the case of 30
videos; trackeval's J&F, where it is installed (it needs scikit-image, too), takes turns with ours.
"""

import importlib.util
import time
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask
from table import Row, time_all

from univs.evaluation.official.case import Case, ScoreOptions
from univs.evaluation.official.catalog import OFFICIAL, open_case

NUM_ROUNDS = 2
RECORDED_VIDEOS = 30
RECORDED_YARDSTICK_S = (0.58, 0.78)
DAVIS_S = 169.0
"""CPU seconds of davis2017-evaluation on 30 videos."""
VIPOSEG_S = 5.4 / 5 * RECORDED_VIDEOS
"""CPU seconds of VIPOSeg-Benchmark on 30 videos; recorded on 5 of them."""


def rows(case: Path, yardstick_s: float) -> list[Row]:
    """Measure the cases ``davis`` and ``viposeg`` of a folder."""
    pred = case / "davis/pred"
    davis = open_case(OFFICIAL["davis_2017"], case / "davis/gt", pred, ScoreOptions())
    viposeg = open_case(OFFICIAL["viposeg"], case / "viposeg/gt", pred, ScoreOptions())
    return [
        *_recorded("J&F", davis, DAVIS_S, "davis2017-evaluation", yardstick_s),
        *_recorded("VIPOSeg", viposeg, VIPOSEG_S, "VIPOSeg-Benchmark", yardstick_s),
        *_trackeval(case, davis),
    ]


def _compare(case: Case) -> dict[str, float]:
    return dict(case.score([case.compare(index) for index in range(len(case.names))]).values)


def _recorded(name: str, case: Case, seconds: float, other: str, yardstick_s: float) -> list[Row]:
    """Compare with a recording, where this is the case that was recorded."""
    if len(case.names) != RECORDED_VIDEOS:
        return []
    ours = time_all({"ours": lambda: _compare(case)}, NUM_ROUNDS, time.process_time)["ours"]
    low, high = RECORDED_YARDSTICK_S
    note = f"{other}, recorded where the yardstick was {low}-{high} s; here {yardstick_s:.2f} s"
    return [Row(name=f"{name}, {len(case.names)} videos", ours=ours, other=seconds, unit="s", note=note)]


def _trackeval(case: Path, davis: Case) -> list[Row]:
    """Take turns with trackeval on one video, and check that the values are equal."""
    if not all(importlib.util.find_spec(name) for name in ("trackeval", "skimage")):
        print("trackeval or scikit-image is not installed: its row of J&F is left out")
        return []
    found: dict[str, dict[str, float]] = {}
    video = davis.names[0]
    functions = {
        "ours": lambda: found.update(ours=dict(davis.score([davis.compare(0)]).values)),
        "other": lambda: found.update(other=_score_with_trackeval(case, video)),
    }
    best = time_all(functions, NUM_ROUNDS, time.process_time)
    largest = max(abs(found["ours"][name] - 100 * value) for name, value in found["other"].items())
    note = f"trackeval's J&F of the same PNGs, taking turns; largest difference {largest:.1e}"
    return [Row(name="J&F, one video", ours=best["ours"], other=best["other"], unit="s", note=note)]


def _score_with_trackeval(case: Path, video: str) -> dict[str, float]:
    """Score as its loaders do: run lengths of every object, ids from 0, and a Hungarian assignment by J."""
    from trackeval.metrics import JAndF

    stems = sorted(path.stem for path in (case / "davis/gt/Annotations/480p" / video).glob("*.png"))[1:-1]
    theirs, ours = (
        [_encode(folder / f"{stem}.png") for stem in stems]
        for folder in (case / "davis/gt/Annotations/480p" / video, case / "davis/pred" / video)
    )
    num = 1 + max(max(ids, default=0) for ids, _ in [*theirs, *ours])
    data = {
        "num_timesteps": len(stems),
        "num_gt_ids": num,
        "num_tracker_ids": num,
        "gt_ids": [ids for ids, _ in theirs],
        "tracker_ids": [ids for ids, _ in ours],
        "gt_dets": [masks for _, masks in theirs],
        "tracker_dets": [masks for _, masks in ours],
    }
    scores = JAndF().eval_sequence(data)
    names = {"j": "J-Mean", "f": "F-Mean", "jf": "J&F", "j_recall": "J-Recall", "f_decay": "F-Decay"}
    return {name: float(scores[theirs]) for name, theirs in names.items()}


def _encode(path: Path) -> tuple[list[int], list[dict[str, object]]]:
    with Image.open(path) as image:
        labels = np.asarray(image)
    ids = np.unique(labels[labels > 0])
    masks = [coco_mask.encode(np.asfortranarray((labels == i).astype(np.uint8))) for i in ids]
    return (ids - 1).tolist(), masks
