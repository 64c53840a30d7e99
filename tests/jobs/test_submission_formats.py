"""What is predicted of a release of each dataset goes into the format that the dataset's server takes."""

import numpy as np
import pytest

from jobs.submissions import finish_submission, write_part
from preprocessing.miniature import MiniatureConfig, build
from univs.data.masks import decode_rle
from univs.data.videos import iter_videos
from univs.evaluation.submission_checks.catalog import FORMATS, check_zip
from univs.evaluation.submission_checks.inputs import Inputs
from univs.evaluation.truth import instance_truth, panoptic_truth, semantic_truth
from univs.inference.benchmarks import frame_stems
from univs.predictions import ObjectVideo

GT = {
    "ytvos_2018": "valid",
    "ytvos_2019": "valid",
    "mose": "valid",
    "viposeg": "valid",
    "burst": "annotations/val",
    "ytvis_2019": "valid.json",
    "ovis": "annotations_valid.json",
    "coco_instances": ".",
    "ade20k": ".",
    "coco_panoptic": ".",
}


def predicted(record, labels):
    """Predict the truth, in the type that the dataset's task gives."""
    if record.dataset in ("ytvis_2019", "ovis", "coco_instances"):
        return instance_truth((record,), labels)
    if record.dataset == "coco_panoptic":
        return panoptic_truth((record,), labels)
    if record.dataset == "ade20k":
        return semantic_truth((record,), labels)
    masks = np.zeros((len(record.objects), record.num_frames, record.height, record.width), bool)
    for n, track in enumerate(record.objects):
        for t, counts in enumerate(track.rles):
            if counts is not None:
                masks[n, t] = decode_rle(counts, record.height, record.width)
    names = tuple(track.source_id for track in record.objects)
    return ObjectVideo(
        video_id=record.item_id, object_ids=names, masks=masks, frame_names=frame_stems(record)
    )


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    sizes = MiniatureConfig(train_images=1, val_images=3, train_videos=1, val_videos=2)
    return build(tmp_path_factory.mktemp("official"), sizes, list(GT))


@pytest.mark.parametrize("name", list(GT))
def test_submission_fits(official, pack_official, tmp_path, name):
    release = pack_official(name, "val", official[name], tmp_path / "release")
    folder, labels = tmp_path / name, release.manifest.label_space
    parts = [write_part(folder, predicted(video.record, labels), video) for video in iter_videos(release)]
    path = finish_submission(folder, parts, release.manifest)
    line = check_zip(path, FORMATS[name], Inputs(root=official[name] / GT[name]))
    assert f"fits {name}: {len(parts)} " in line
