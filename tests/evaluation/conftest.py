"""Files of benchmarks of tracks, small, to be scored or spoiled."""

import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from univs.evaluation.official.case import ScoreOptions
from univs.evaluation.official.catalog import OFFICIAL, open_case

HEIGHT, WIDTH, NUM_FRAMES = 20, 40, 4
BENCHMARKS = ("ytvis_2021", "ovis", "coco_instances", "burst", "burst_exemplar")


def run_lengths(left, right):
    mask = np.zeros((HEIGHT, WIDTH), np.uint8, order="F")
    mask[:, left:right] = 1
    return {"size": [HEIGHT, WIDTH], "counts": coco_mask.encode(mask)["counts"].decode()}


def write_json(path, body):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body if isinstance(body, str) else json.dumps(body))


class TrackFiles:
    """Two videos (7 and 3) of two true tracks each, and predictions of the same; both to be changed."""

    def __init__(self, benchmark, root):
        self.benchmark, self.root = benchmark, root
        self.gt, self.pred = getattr(self, f"_{benchmark.split('_')[0]}")()

    def _ytvis(self):
        return self._vis({})

    def _ovis(self):
        return self._vis({"occlusion": ["no_occlusion", None, "severe_occlusion", "no_occlusion"]})

    def _vis(self, extra):
        videos = [
            {
                "id": v,
                "height": HEIGHT,
                "width": WIDTH,
                "file_names": [f"{v}/{t}.jpg" for t in range(NUM_FRAMES)],
            }
            for v in (7, 3)
        ]
        tracks = [
            {
                "video_id": v,
                "category_id": c,
                "segmentations": [run_lengths(4 * c + t, 4 * c + t + 8) for t in range(NUM_FRAMES)],
            }
            for v in (7, 3)
            for c in (2, 5)
        ]
        rows = [
            {**row, "id": n, "iscrowd": 0, "areas": [160] * NUM_FRAMES, **extra}
            for n, row in enumerate(tracks, 1)
        ]
        categories = [{"id": c, "name": f"c{c}"} for c in (5, 2)]
        found = [{**row, "score": 1 - n / 10} for n, row in enumerate(tracks)]
        return {"videos": videos, "annotations": rows, "categories": categories}, found

    def _coco(self):
        body, found = self._vis({})
        images = [{"id": v, "height": HEIGHT, "width": WIDTH, "file_name": f"{v}.jpg"} for v in (7, 3)]
        for row in (*body["annotations"], *found):
            row |= {"image_id": row.pop("video_id"), "segmentation": row.pop("segmentations")[0]}
        for row in body["annotations"]:
            row["area"] = 160.0
        return {"images": images, "annotations": body["annotations"], "categories": body["categories"]}, found

    def _burst(self):
        sequences = [
            {
                "id": n,
                "dataset": "D",
                "seq_name": name,
                "height": HEIGHT,
                "width": WIDTH,
                "annotated_image_paths": [f"frame{t}.jpg" for t in range(NUM_FRAMES)],
                "neg_category_ids": [],
                "not_exhaustive_category_ids": [],
                "track_category_ids": {"1": 4, "2": 41},
                "segmentations": [
                    {str(k): {"rle": run_lengths(4 * k + t, 4 * k + t + 8)["counts"]} for k in (1, 2)}
                    for t in range(NUM_FRAMES)
                ],
            }
            for n, name in enumerate(("a", "b"))
        ]
        body = {"split": "val", "sequences": sequences}
        found = json.loads(json.dumps(body))
        return {**body, "categories": [{"id": 4, "name": "airplane"}, {"id": 41, "name": "ball"}]}, found

    def open(self, *mends, missing="refuse"):
        is_burst = self.benchmark.startswith("burst")
        write_json(self.root / "gt" / ("all_classes.json" if is_burst else "instances.json"), self.gt)
        write_json(self.root / "pred/results.json", self.pred)
        options = ScoreOptions(missing=missing, mends=mends)
        return open_case(OFFICIAL[self.benchmark], self.root / "gt", self.root / "pred", options)

    def score(self, *mends, missing="refuse"):
        case = self.open(*mends, missing=missing)
        return case.score([case.compare(index) for index in range(len(case.names))])


@pytest.fixture(scope="session")
def track_files():
    """Give the class; it takes a benchmark and a folder."""
    return TrackFiles


@pytest.fixture(params=BENCHMARKS)
def files(request, tmp_path):
    return TrackFiles(request.param, tmp_path)


@pytest.fixture
def vis(tmp_path):
    return TrackFiles("ytvis_2021", tmp_path)


@pytest.fixture
def burst(tmp_path):
    return TrackFiles("burst", tmp_path)
