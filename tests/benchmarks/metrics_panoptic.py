"""Speed of the panoptic and semantic metrics: VIPSeg, VSPW, and COCO panoptic made of VIPSeg's frames."""

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from table import Row, time_all

from jobs.scoring import keep_freed_memory
from univs.evaluation.official.case import Case, ScoreOptions
from univs.evaluation.official.catalog import OFFICIAL, open_case

NUM_IMAGES = 4
NUM_SEMANTIC_VIDEOS = 1
"""Images and videos that torchmetrics is given; it takes its time."""
NUM_ROUNDS = 1
TOLERANCE = 1e-7
"""Of percentages, against recorded values."""
SINGLE_TOLERANCE = 1e-3
"""Of percentages, against packages that count in single precision."""
RECORDED_YARDSTICK_S = 0.64


@dataclass(frozen=True, kw_only=True, slots=True)
class Recorded:
    """What an official script took and gave on the large case."""

    name: str
    benchmark: str
    num_videos: int
    """The first ones of the case."""
    cpu_s: float
    values: Mapping[str, float]


RECORDED = (
    Recorded(
        name="VPQ of 5 windows (VIPSeg), STQ beside it",
        benchmark="vipseg",
        num_videos=3,
        cpu_s=49.54,
        values={
            "vpq1": 87.5514019193323,
            "vpq2": 86.65391363739353,
            "vpq4": 86.12403968642863,
            "vpq6": 85.54340301183807,
            "vpq8": 85.01283842164207,
        },
    ),
    Recorded(
        name="STQ (VIPSeg), VPQ beside it",
        benchmark="vipseg",
        num_videos=5,
        cpu_s=8.9,
        values={"stq": 79.16825462451673, "aq": 68.40137839585065, "sq": 91.62991576018474},
    ),
    Recorded(
        name="mIoU, VC8 and VC16 in one pass (VSPW)",
        benchmark="vspw",
        num_videos=30,
        cpu_s=5.76 + 4.76 + 5.65,
        values={"miou": 92.60351442730805, "vc8": 97.57953627532996, "vc16": 97.45977150563496},
    ),
)


def rows(case: Path, yardstick_s: float) -> list[Row]:
    """Measure ours and others in turn; refuse to compare where the values differ."""
    keep_freed_memory()
    with TemporaryDirectory() as folder:
        root = Path(folder)
        _link_vipseg(case / "vipseg", root / "vipseg")
        folders = {"vipseg": root / "vipseg", "vspw": case / "vspw"}
        found = [_against_recorded(entry, folders[entry.benchmark], yardstick_s) for entry in RECORDED]
        _write_images(root / "vipseg", root / "coco")
        _link_vspw(case / "vspw", root / "vspw")
        return [row for row in found if row] + _against_torchmetrics(root / "coco", root / "vspw")


def _against_recorded(recorded: Recorded, folder: Path, yardstick_s: float) -> Row | None:
    """Compare where the case is the recorded one, which its values tell."""
    case = _open(recorded.benchmark, folder)
    if len(case.names) < recorded.num_videos:
        return None
    values = _score(case, recorded.num_videos)
    difference = max(abs(values[metric] - value) for metric, value in recorded.values.items())
    if difference > TOLERANCE:
        print(f"left out: {recorded.name}: not the case that was recorded, values differ by {difference:.3g}")
        return None
    seconds = _time({"ours": lambda: _score(_open(recorded.benchmark, folder), recorded.num_videos)})["ours"]
    note = (
        f"official, recorded {recorded.cpu_s:.1f} s scaled by the yardstick ({recorded.cpu_s / seconds:.1f} "
        f"unscaled); values differ by {difference:.0e}"
    )
    other = recorded.cpu_s * yardstick_s / RECORDED_YARDSTICK_S
    return Row(name=recorded.name, ours=seconds, other=other, unit="s", note=note)


def _against_torchmetrics(coco: Path, vspw: Path) -> list[Row]:
    if find_spec("torchmetrics") is None:
        print("left out: torchmetrics is not installed, see uv sync --group benchmarks")
        return []
    return [
        _against(
            "PQ (COCO panoptic)",
            lambda: _score(_open("coco_panoptic", coco))["pq"],
            lambda: _torchmetrics_pq(coco),
        ),
        _against(
            "mIoU, with VC (VSPW)",
            lambda: _score(_open("vspw", vspw))["miou"],
            lambda: _torchmetrics_iou(vspw),
        ),
    ]


def _against(name: str, ours: Callable[[], float], other: Callable[[], float]) -> Row:
    values = ours(), other()
    if not math.isclose(*values, rel_tol=0, abs_tol=SINGLE_TOLERANCE):
        raise SystemExit(f"{name}: torchmetrics gives {values[1]}, ours is {values[0]}")
    seconds = _time({"ours": ours, "other": other})
    return Row(
        name=name, ours=seconds["ours"], other=seconds["other"], unit="s", note="torchmetrics, PNGs by PIL"
    )


def _time(contenders: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    return time_all(contenders, NUM_ROUNDS, time.process_time)


def _open(benchmark: str, folder: Path) -> Case:
    return open_case(OFFICIAL[benchmark], folder / "gt", folder / "pred", ScoreOptions())


def _score(case: Case, num_items: int | None = None) -> Mapping[str, float]:
    return case.score([case.compare(index) for index in range(num_items or len(case.names))]).values


def _link_vipseg(source: Path, target: Path) -> None:
    """Give the index its official name."""
    (target / "gt").mkdir(parents=True)
    for name, official in (
        ("gt/panoptic_gt.json", "gt/panoptic_gt_VIPSeg_val.json"),
        ("gt/panomasksRGB", "gt/panomasksRGB"),
        ("pred", "pred"),
    ):
        (target / official).symlink_to((source / name).resolve())


def _link_vspw(source: Path, target: Path) -> None:
    """Take the first videos."""
    names = (source / "gt/val.txt").read_text().split()[:NUM_SEMANTIC_VIDEOS]
    (target / "gt/data").mkdir(parents=True)
    (target / "gt/val.txt").write_text("".join(f"{name}\n" for name in names))
    for name in names:
        (target / "gt/data" / name).symlink_to((source / "gt/data" / name).resolve())
    (target / "pred").symlink_to((source / "pred").resolve())


def _write_images(vipseg: Path, target: Path) -> None:
    """Take frames of all videos, evenly spread, for images."""
    sides = {
        "gt/panoptic_val": (vipseg / "gt/panoptic_gt_VIPSeg_val.json", vipseg / "gt/panomasksRGB"),
        "pred/result": (vipseg / "pred/pred.json", vipseg / "pred/pan_pred"),
    }
    for stem, (index, pngs) in sides.items():
        body = json.loads(index.read_text())
        frames = [
            (video["video_id"], frame) for video in body["annotations"] for frame in video["annotations"]
        ]
        chosen = np.linspace(0, len(frames) - 1, min(NUM_IMAGES, len(frames))).astype(int).tolist()
        (target / stem).mkdir(parents=True)
        annotations = []
        for number, place in enumerate(chosen):
            video, frame = frames[place]
            (target / stem / f"{number}.png").symlink_to((pngs / video / frame["file_name"]).resolve())
            annotations.append({**frame, "image_id": number, "file_name": f"{number}.png"})
        whole = {"annotations": annotations, "categories": body.get("categories", [])}
        (target / f"{stem}.json").write_text(json.dumps(whole))


def _torchmetrics_pq(root: Path) -> float:
    import torch
    from torchmetrics.detection import PanopticQuality

    truth, ours = (
        json.loads((root / f"{stem}.json").read_text()) for stem in ("gt/panoptic_val", "pred/result")
    )
    things = {row["id"] for row in truth["categories"] if row["isthing"]}
    stuff = {row["id"] for row in truth["categories"]} - things
    metric = PanopticQuality(things=things, stuffs=stuff, allow_unknown_preds_category=True)
    unknown = max(things | stuff) + 1
    for rows_of_image in zip(truth["annotations"], ours["annotations"], strict=True):
        stems = ("gt/panoptic_val", "pred/result")
        true, predicted = (
            torch.from_numpy(_as_pairs(root / stem / row["file_name"], row["segments_info"], unknown))[None]
            for stem, row in zip(stems, rows_of_image, strict=True)
        )
        metric.update(predicted, true)
    return 100 * float(metric.compute())


def _as_pairs(path: Path, infos: Sequence[Mapping[str, int]], unknown: int) -> np.ndarray:
    """Give [H, W, 2] category and id, as torchmetrics takes them."""
    colors = np.asarray(Image.open(path), np.int64)
    ids = colors[..., 0] + 256 * colors[..., 1] + 65536 * colors[..., 2]
    listed = np.asarray(sorted((info["id"], info["category_id"]) for info in infos)).reshape(-1, 2)
    place = np.searchsorted(listed[:, 0], ids).clip(max=len(listed) - 1)
    categories = np.where(listed[place, 0] == ids, listed[place, 1], unknown)
    return np.stack((categories, ids), axis=-1)


def _torchmetrics_iou(root: Path) -> float:
    import torch
    from torchmetrics.classification import MulticlassConfusionMatrix

    metric = MulticlassConfusionMatrix(num_classes=124, ignore_index=255)
    for mask in sorted(mask for video in (root / "gt/data").iterdir() for mask in video.glob("mask/*.png")):
        true = np.asarray(Image.open(mask), np.int64)
        true = np.where((true == 0) | (true == 255), 255, true - 1)
        predicted = np.asarray(Image.open(root / "pred" / mask.parent.parent.name / mask.name), np.int64)
        metric.update(torch.from_numpy(predicted), torch.from_numpy(true))
    matrix = metric.compute().double()
    hits, rows_sum = matrix.diagonal(), matrix.sum(dim=1)
    ious = hits / (rows_sum + matrix.sum(dim=0) - hits)
    return 100 * float(ious[rows_sum > 0].mean())
