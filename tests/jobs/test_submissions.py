import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

from jobs.submissions import finish_submission, write_part
from preprocessing.miniature import MiniatureConfig, build
from univs.data.videos import iter_videos
from univs.evaluation.benchmarks import BENCHMARKS, truth_of

NAMES = ("coco_panoptic", "ytvis_2021", "vipseg", "vspw", "davis_2017", "refytvos")


@pytest.fixture(scope="module")
def releases(pack_official, tmp_path_factory):
    """A release of held-out worlds of every dataset here, by name."""
    out = tmp_path_factory.mktemp("releases")
    sizes = MiniatureConfig(train_images=1, val_images=2, train_videos=1, val_videos=2)
    roots = build(out / "raw", sizes, NAMES)
    return {name: pack_official(name, "val", roots[name], out / name) for name in NAMES}


@pytest.fixture(scope="module")
def submit(releases, tmp_path_factory):
    """Submit the truth of a benchmark as if it were the prediction; give videos, truths and the folder."""

    def run(name):
        release = releases[name]
        folder, labels = tmp_path_factory.mktemp("submission") / name, release.manifest.label_space
        videos = list(iter_videos(release))
        truths = [truth_of(BENCHMARKS[name], [video.record], labels) for video in videos]
        parts = [write_part(folder, truth, video) for truth, video in zip(truths, videos, strict=True)]
        path = finish_submission(folder, parts, release.manifest)
        assert path == folder.with_suffix(".zip")
        with zipfile.ZipFile(path) as archive:
            held = {info.filename: archive.read(info) for info in archive.infolist()}
        assert held == {
            file.relative_to(folder).as_posix(): file.read_bytes()
            for file in folder.rglob("*")
            if file.is_file()
        }
        return videos, truths, folder

    return run


def read_ids(path):
    return np.asarray(Image.open(path)).astype(np.int64) @ np.asarray((1, 256, 65536))


def test_coco_submission_holds_every_image(submit):
    videos, truths, folder = submit("coco_panoptic")
    rows = json.loads((folder / "panoptic.json").read_text())["annotations"]
    assert {str(row["image_id"]) for row in rows} == {video.item_id.lstrip("0") for video in videos}
    for row in rows:
        (truth,) = (truth for truth in truths if truth.video_id.lstrip("0") == str(row["image_id"]))
        assert np.array_equal(read_ids(folder / "panoptic" / row["file_name"]), truth.maps[0])


def test_ytvis_submission_holds_every_track_of_every_video(submit):
    _, truths, folder = submit("ytvis_2021")
    rows = json.loads((folder / "results.json").read_text())
    assert len(rows) == sum(len(truth.tracks) for truth in truths)
    assert {row["video_id"] for row in rows} == {int(truth.video_id) for truth in truths}
    for row in rows:
        (truth,) = (truth for truth in truths if truth.video_id == str(row["video_id"]))
        rles = [tuple(None if mask is None else mask["counts"] for mask in row["segmentations"])]
        assert rles[0] in [track.rles for track in truth.tracks]
        assert coco_mask.decode(next(mask for mask in row["segmentations"] if mask)).any()


def test_vipseg_submission_holds_every_frame(submit):
    videos, truths, folder = submit("vipseg")
    entries = json.loads((folder / "pred.json").read_text())["annotations"]
    assert {entry["video_id"] for entry in entries} == {video.item_id for video in videos}
    for truth, video in zip(truths, videos, strict=True):
        for frame, expected in zip(video.record.frames, truth.maps, strict=True):
            path = folder / "pan_pred" / video.item_id / f"{frame.stem}.png"
            assert np.array_equal(read_ids(path), expected)


def test_vspw_submission_holds_every_frame(submit):
    videos, truths, folder = submit("vspw")
    for truth, video in zip(truths, videos, strict=True):
        for frame, expected in zip(video.record.frames, truth.labels, strict=True):
            pixels = np.asarray(Image.open(folder / video.item_id / f"{frame.stem}.png"))
            assert np.array_equal(pixels[expected >= 0], expected[expected >= 0])


def test_davis_submission_holds_every_frame_and_no_expression(submit):
    videos, truths, folder = submit("davis_2017")
    for truth, video in zip(truths, videos, strict=True):
        numbers = np.asarray([int(name) for name in truth.object_ids])
        for t, frame in enumerate(video.record.frames):
            pixels = np.asarray(Image.open(folder / video.item_id / f"{frame.stem}.png"))
            assert np.array_equal(pixels, (truth.masks[:, t] * numbers[:, None, None]).max(0))


def test_refytvos_submission_holds_every_frame_of_every_expression(submit):
    videos, truths, folder = submit("refytvos")
    for truth, video in zip(truths, videos, strict=True):
        for n, expression in enumerate(truth.object_ids):
            for t, frame in enumerate(video.record.frames):
                path = folder / "Annotations" / video.item_id / expression / f"{frame.stem}.png"
                assert np.array_equal(np.asarray(Image.open(path)) > 0, truth.masks[n, t])


def test_panoptic_prediction_without_a_label_space_is_refused(releases, tmp_path):
    release = releases["vipseg"]
    video = next(iter_videos(release))
    truth = truth_of(BENCHMARKS["vipseg"], [video.record], release.manifest.label_space)
    bare = replace(video, release=replace(release, manifest=replace(release.manifest, label_space=None)))
    with pytest.raises(ValueError, match=f"^{video.item_id}: a prediction with classes needs"):
        write_part(tmp_path, truth, bare)
