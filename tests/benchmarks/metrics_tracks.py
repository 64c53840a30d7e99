"""Speed of the metrics of tracks and instances: YouTube-VIS, BURST and COCO, all from one case's tracks."""

import contextlib
import io
import json
import math
import time
from collections import Counter
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from table import Row, time_all

from univs.evaluation.official.case import ScoreOptions
from univs.evaluation.official.catalog import OFFICIAL, open_case
from univs.run_lengths import parse_runs

RECORDED_S, RECORDED_YARDSTICK_S = 5.12, 0.58
"""Of the official ytvoseval on the large case, and of the yardstick beside it."""
LARGE = (30, 300, 3000)
"""Videos, true and predicted tracks of the large case."""
NUM_IMAGES = 200
NUM_DENSE_IMAGES = 10
"""Images that are also given as pixels, which torchmetrics takes."""
NUM_ROUNDS = 1
TOLERANCE = 1e-7
"""Of percentages, as the next one."""
SINGLE_TOLERANCE = 0.1
"""torchmetrics samples precision at recalls in single precision, just beside those of COCO."""


def rows(case: Path, yardstick_s: float) -> list[Row]:
    """Measure ours and others in turn; refuse to compare where the values differ."""
    gt, results = (json.loads((case / "ytvis" / name).read_text()) for name in ("gt.json", "results.json"))
    with TemporaryDirectory() as folder:
        root = Path(folder)
        found = _measure_tracks(root / "vis", gt, results, yardstick_s)
        found += _measure_distinct(root / "distinct", gt, _tell_apart(results))
        _write_burst(root / "burst", gt, results)
        found += _measure_burst(root / "burst")
        _write_images(root / "images", gt, results, NUM_IMAGES)
        found += _measure_images(root / "images")
        _write_images(root / "dense", gt, results, NUM_DENSE_IMAGES)
        return found + _measure_dense(root / "dense")


def _measure_tracks(root: Path, gt: Mapping[str, Any], results: list[Any], yardstick_s: float) -> list[Row]:
    contenders = _track_contenders(root, gt, results)
    found = _compare("VIS AP (YouTube-VIS, OVIS)", contenders)
    if (len(gt["videos"]), len(gt["annotations"]), len(results)) == LARGE:
        ours = found[0].ours if found else _time(contenders)["ours"]
        other = RECORDED_S * yardstick_s / RECORDED_YARDSTICK_S
        note = "ytvoseval, recorded and scaled by the yardstick"
        found.append(Row(name="VIS AP (YouTube-VIS, OVIS)", ours=ours, other=other, unit="s", note=note))
    return found


def _measure_distinct(root: Path, gt: Mapping[str, Any], results: list[Any]) -> list[Row]:
    return _compare("VIS AP, no equal masks", _track_contenders(root, gt, results))


def _track_contenders(
    root: Path, gt: Mapping[str, Any], results: list[Any]
) -> dict[str, Callable[[], float]]:
    _dump(root / "gt/instances.json", gt)
    _dump(root / "pred/results.json", results)
    contenders: dict[str, Callable[[], float]] = {"ours": lambda: _score("ytvis_2021", root)["map"]}
    if _has("trackeval"):
        sizes = {row["id"]: {"height": row["height"], "width": row["width"]} for row in gt["videos"]}
        truths, found = (
            [{**row, **sizes[row["video_id"]]} for row in side] for side in (gt["annotations"], results)
        )
        _dump(root / "trackeval/gt/youtube_vis_val/instances.json", {**gt, "annotations": truths})
        _dump(root / "trackeval/pred/youtube_vis_val/t/data/results.json", found)
        contenders["TrackEval"] = lambda: _trackeval_vis(root / "trackeval")
    return contenders


def _tell_apart(results: list[Any]) -> list[Any]:
    """Move each repeated track by its own number of columns, so that what is done once for equals is not."""
    seen: Counter[tuple[int, tuple[str | None, ...]]] = Counter()
    moved = []
    for row in results:
        key = (row["video_id"], tuple(mask and mask["counts"] for mask in row["segmentations"]))
        columns = (seen[key] + 1) // 2 * (-1) ** seen[key]
        seen[key] += 1
        masks = [mask and _move(mask, columns) for mask in row["segmentations"]]
        moved.append({**row, "segmentations": masks})
    return moved


def _move(mask: Mapping[str, Any], columns: int) -> Mapping[str, Any]:
    """Move a mask sideways, the other way where it would leave the frame."""
    runs = parse_runs(mask["counts"]).tolist()
    if len(runs) == 1:
        return mask
    runs += [0] * (len(runs) % 2 == 0)
    height = mask["size"][0]
    by = next((by for by in (columns * height, -columns * height) if runs[0] + by >= 0 <= runs[-1] - by), 0)
    moved = {"size": mask["size"], "counts": [runs[0] + by, *runs[1:-1], runs[-1] - by]}
    return _compress(moved, {"height": height, "width": mask["size"][1]})


def _measure_burst(root: Path) -> list[Row]:
    contenders: dict[str, Callable[[], float]] = {"ours": lambda: _score("burst", root)["hota"]}
    if _has("trackeval"):
        contenders["TrackEval"] = lambda: _trackeval_burst(root)
    return _compare("HOTA and track AP (BURST)", contenders)


def _measure_images(root: Path) -> list[Row]:
    contenders: dict[str, Callable[[], float]] = {
        "ours": lambda: _score("coco_instances", root)["map"],
        "pycocotools": lambda: _pycocotools(root),
    }
    return _compare("mask AP (COCO)", contenders)


def _measure_dense(root: Path) -> list[Row]:
    if not _has("torchmetrics"):
        return []
    contenders: dict[str, Callable[[], float]] = {
        "ours": lambda: _score("coco_instances", root)["map"],
        "torchmetrics, given pixels": _torchmetrics(root),
    }
    return _compare("mask AP (COCO), few images", contenders, SINGLE_TOLERANCE)


def _compare(
    name: str, contenders: Mapping[str, Callable[[], float]], tolerance: float = TOLERANCE
) -> list[Row]:
    """Time all and give a row for each of the others; their values must be ours."""
    values = {who: function() for who, function in contenders.items()}
    for who, value in values.items():
        if not math.isclose(value, values["ours"], rel_tol=0, abs_tol=tolerance):
            raise SystemExit(f"{name}: {who} gives {value}, ours is {values['ours']}")
    seconds = _time(contenders)
    return [
        Row(name=name, ours=seconds["ours"], other=seconds[who], unit="s", note=who)
        for who in contenders
        if who != "ours"
    ]


def _time(contenders: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    return time_all(contenders, NUM_ROUNDS, time.process_time)


def _has(package: str) -> bool:
    if find_spec(package) is not None:
        return True
    print(f"left out: {package} is not installed, see uv sync --group benchmarks")
    return False


def _score(benchmark: str, root: Path) -> Mapping[str, float]:
    case = open_case(OFFICIAL[benchmark], root / "gt", root / "pred", ScoreOptions())
    return case.score([case.compare(index) for index in range(len(case.names))]).values


def _trackeval_vis(root: Path) -> float:
    import trackeval

    with contextlib.redirect_stdout(io.StringIO()):
        dataset = trackeval.datasets.YouTubeVIS(
            {
                "GT_FOLDER": f"{root}/gt/",
                "TRACKERS_FOLDER": f"{root}/pred/",
                "SPLIT_TO_EVAL": "val",
                "PRINT_CONFIG": False,
            }
        )
        metric = trackeval.metrics.TrackMAP(
            {"USE_AREA_RANGES": False, "USE_TIME_RANGES": False, "MAX_DETECTIONS": 100, "PRINT_CONFIG": False}
        )
        found, _ = _evaluator().evaluate([dataset], [metric])
    combined = found["YouTubeVIS"]["t"]["COMBINED_SEQ"]["cls_comb_cls_av"]
    return float(100 * np.mean(combined["TrackMAP"]["AP_all"]))


def _trackeval_burst(root: Path) -> float:
    import trackeval

    with contextlib.redirect_stdout(io.StringIO()):
        dataset = trackeval.datasets.BURST(
            {
                "GT_FOLDER": f"{root}/gt/all_classes",
                "TRACKERS_FOLDER": f"{root}/pred/class_guided",
                "PRINT_CONFIG": False,
            }
        )
        metrics = [trackeval.metrics.HOTA(), trackeval.metrics.TrackMAP({"PRINT_CONFIG": False})]
        found, _ = _evaluator().evaluate([dataset], metrics)
    combined = found["BURST"]["t"]["COMBINED_SEQ"]["cls_comb_cls_av"]
    return float(100 * np.mean(combined["HOTA"]["HOTA"]))


def _evaluator() -> Any:
    import trackeval

    outputs = ("OUTPUT_SUMMARY", "OUTPUT_DETAILED", "OUTPUT_EMPTY_CLASSES", "PLOT_CURVES")
    silent = dict.fromkeys((*outputs, "PRINT_RESULTS", "PRINT_CONFIG", "TIME_PROGRESS"), False)
    return trackeval.Evaluator({**silent, "USE_PARALLEL": False, "LOG_ON_ERROR": None})


def _pycocotools(root: Path) -> float:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(root / "gt/instances.json"))
        evaluation = COCOeval(truth, truth.loadRes(str(root / "pred/results.json")), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(100 * evaluation.stats[0])


def _torchmetrics(root: Path) -> Callable[[], float]:
    import torch
    from torchmetrics.detection import MeanAveragePrecision

    body = json.loads((root / "gt/instances.json").read_text())
    items = []
    for image in body["images"]:
        sides = []
        for found in (json.loads((root / "pred/results.json").read_text()), body["annotations"]):
            mine = [row for row in found if row["image_id"] == image["id"]]
            size = (len(mine), image["height"], image["width"])
            masks = np.zeros(size, np.uint8)
            for n, row in enumerate(mine):
                masks[n] = coco_mask.decode(row["segmentation"])
            labels = torch.tensor([row["category_id"] for row in mine])
            sides.append({"masks": torch.from_numpy(masks).bool(), "labels": labels})
            if "score" in (mine or found)[0]:
                sides[-1]["scores"] = torch.tensor([row["score"] for row in mine], dtype=torch.float64)
        items.append(sides)

    def evaluate() -> float:
        metric = MeanAveragePrecision(iou_type="segm")
        for prediction, truth in items:
            metric.update([prediction], [truth])
        return float(100 * metric.compute()["map"])

    return evaluate


def _write_images(root: Path, gt: Mapping[str, Any], results: list[Any], num_images: int) -> None:
    """Take the frames of all videos, spread evenly, for images."""
    frames = [(video, t) for video in gt["videos"] for t in range(video["length"])]
    at = np.linspace(0, len(frames) - 1, min(num_images, len(frames))).astype(int).tolist()
    numbers = {(frames[k][0]["id"], frames[k][1]): number for number, k in enumerate(at, start=1)}
    images = [
        {
            "id": number,
            "height": frames[k][0]["height"],
            "width": frames[k][0]["width"],
            "file_name": f"{k}.jpg",
        }
        for number, k in enumerate(at, start=1)
    ]
    truths = _rows_of_images(gt["annotations"], numbers, images)
    for number, row in enumerate(truths, start=1):
        row |= {"id": number, "iscrowd": 0, "area": int(coco_mask.area(row["segmentation"]))}
    found = _rows_of_images(results, numbers, images)
    _dump(
        root / "gt/instances.json", {"images": images, "annotations": truths, "categories": gt["categories"]}
    )
    _dump(root / "pred/results.json", found)


def _rows_of_images(
    tracks: list[Any], numbers: Mapping[tuple[int, int], int], images: list[Any]
) -> list[dict[str, Any]]:
    rows = []
    for track in tracks:
        for t, mask in enumerate(track["segmentations"]):
            number = numbers.get((track["video_id"], t))
            if number is None or not mask:
                continue
            image = images[number - 1]
            row = {
                "image_id": number,
                "category_id": track["category_id"],
                "segmentation": _compress(mask, image),
            }
            rows.append({**row, **({"score": track["score"]} if "score" in track else {})})
    return rows


def _write_burst(root: Path, gt: Mapping[str, Any], results: list[Any]) -> None:
    """Take the best guess of every object as a track; classes get ids that TAO evaluates."""
    best: dict[tuple[int, int], Any] = {}
    for n, row in enumerate(results):
        best[row["video_id"], n // (len(results) // len(gt["annotations"]))] = row
    for sub, tracks in (
        ("gt/all_classes/all_classes.json", gt["annotations"]),
        ("pred", list(best.values())),
    ):
        body = {"split": "val", "sequences": [_sequence(video, tracks) for video in gt["videos"]]}
        categories = [{"id": row["id"] + 40, "name": row["name"]} for row in gt["categories"]]
        path = root / ("pred/class_guided/t/data/results.json" if sub == "pred" else sub)
        _dump(path, {**body, "categories": categories})


def _sequence(video: Mapping[str, Any], tracks: list[Any]) -> dict[str, Any]:
    mine = {str(n): track for n, track in enumerate(tracks, start=1) if track["video_id"] == video["id"]}
    frames = [f"frame{t:05d}.jpg" for t in range(video["length"])]
    return {
        "id": video["id"],
        "width": video["width"],
        "height": video["height"],
        "dataset": "made",
        "seq_name": f"{video['id']:05d}",
        "annotated_image_paths": frames,
        "neg_category_ids": [],
        "not_exhaustive_category_ids": [],
        "track_category_ids": {k: track["category_id"] + 40 for k, track in mine.items()},
        "segmentations": [
            {
                k: {
                    "rle": _compress(track["segmentations"][t], video)["counts"],
                    "score": track.get("score", 1.0),
                }
                for k, track in mine.items()
                if track["segmentations"][t]
            }
            for t in range(video["length"])
        ],
    }


def _compress(mask: Mapping[str, Any], image: Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(mask["counts"], str):
        return mask
    whole = coco_mask.frPyObjects(mask, image["height"], image["width"])
    return {"size": mask["size"], "counts": whole["counts"].decode()}


def _dump(path: Path, body: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(body))
