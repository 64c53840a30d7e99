"""Splits whose truth is withheld: predicted by batch evaluation, packed, and accepted by our checks."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from jobs.curriculum import untrained_checkpoint
from jobs.evaluate import evaluator_pool
from jobs.evaluator import Evaluator, WorkItem
from jobs.report import Report, score_table, write_report
from jobs.report_parts import score_columns
from jobs.submissions import finish_submission
from pipelines.recipes import evaluate, stage1
from preprocessing.miniature import MiniatureConfig, build
from univs.data.release import Release
from univs.data.videos import iter_videos
from univs.evaluation.benchmarks import BENCHMARKS
from univs.evaluation.submission_checks.catalog import FORMATS, check_zip
from univs.evaluation.submission_checks.inputs import Inputs

SPLITS = {"davis_2017": "test-dev", "vspw": "test", "vipseg": "test"}
"""Other than val."""
GT = {
    "ytvis_2021": "valid",
    "refytvos": "meta_expressions/valid",
    "mose": "valid",
    "ytvos_2019": "valid",
    "viposeg": "valid",
}


def withhold_davis(root):
    (root / "ImageSets/2017/val.txt").rename(root / "ImageSets/2017/test-dev.txt")
    for sequence in (root / "ImageSets/2017/test-dev.txt").read_text().split():
        for path in sorted((root / "Annotations/480p" / sequence).iterdir())[1:]:
            path.unlink()


def withhold_vspw(root):
    (root / "val.txt").rename(root / "test.txt")
    for name in (root / "test.txt").read_text().split():
        shutil.rmtree(root / "data" / name / "mask")


def withhold_vipseg(root):
    (root / "val.txt").rename(root / "test.txt")
    for name in (root / "test.txt").read_text().split():
        shutil.rmtree(root / "panomasks" / name)


def withhold_ytvis(root):
    path = root / "valid/instances.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "annotations": None}))


def withhold_refytvos(root):
    path = root / "meta_expressions/valid/meta_expressions.json"
    body = json.loads(path.read_text())
    for video in body["videos"].values():
        for expression in video["expressions"].values():
            del expression["obj_id"]
    path.write_text(json.dumps(body))
    shutil.rmtree(root / "valid/Annotations")


def withhold_mose(root):
    for video in (root / "valid/Annotations").iterdir():
        for path in sorted(video.iterdir())[1:]:
            path.unlink()


def withhold_ytvos(root):
    """Leave each object's mask in the first frame that shows it."""
    for video in (root / "valid/Annotations").iterdir():
        given = {0}
        for path in sorted(video.iterdir()):
            with Image.open(path) as image:
                colors, pixels = image.getpalette(), np.asarray(image)
            new = set(np.unique(pixels).tolist()) - given
            given |= new
            path.unlink()
            if new:
                left = Image.fromarray(np.where(np.isin(pixels, list(new)), pixels, 0).astype(np.uint8))
                left.putpalette(colors)
                left.save(path)


def withhold_viposeg(root):
    shutil.rmtree(root / "valid/Annotations_gt")


WITHHOLD = {
    "davis_2017": withhold_davis,
    "vspw": withhold_vspw,
    "vipseg": withhold_vipseg,
    "ytvis_2021": withhold_ytvis,
    "refytvos": withhold_refytvos,
    "mose": withhold_mose,
    "ytvos_2019": withhold_ytvos,
    "viposeg": withhold_viposeg,
}
NAMES = [name for name in WITHHOLD if name in BENCHMARKS]


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Official files of splits as their owners publish them."""
    sizes = MiniatureConfig(train_images=1, val_images=1, train_videos=1, val_videos=2)
    roots = build(tmp_path_factory.mktemp("official"), sizes, NAMES)
    for name in NAMES:
        WITHHOLD[name](roots[name])
    return roots


@pytest.fixture(scope="module")
def releases(official, pack_official, tmp_path_factory):
    """Folder of the releases of these splits."""
    out = tmp_path_factory.mktemp("releases")
    for name in NAMES:
        split = SPLITS.get(name, "val")
        pack_official(name, split, official[name], out / name / split)
    return out


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return untrained_checkpoint(stage1.smoke(), tmp_path_factory.mktemp("untrained"))


@pytest.mark.parametrize("name", NAMES)
def test_submission_fits_what_the_organizers_publish(releases, official, checkpoint, tmp_path, name):
    evaluator = Evaluator(1)
    evaluator.load(checkpoint)
    release = Release.open(releases / name / SPLITS.get(name, "val"))
    settings = {setting.name: setting for setting in evaluate.miniature().evaluation.settings}
    results = [
        evaluator.evaluate(
            WorkItem(
                benchmark=name,
                video=video,
                num_frames=video.num_frames,
                inference=settings[name].inference,
                seed=0,
                is_drawn=True,
                submissions=tmp_path / name,
            )
        )
        for video in iter_videos(release)
    ]
    assert [(result.partial, result.pictures) for result in results] == [(None, ())] * 2
    path = finish_submission(tmp_path / name, [result.submission for result in results], release.manifest)
    line = check_zip(path, FORMATS[name], Inputs(root=official[name] / GT.get(name, "")))
    assert f"fits {name}: 2 videos" in line


def test_batch_evaluation_reports_no_score_and_leaves_the_zips(releases, checkpoint, ray_local, tmp_path):
    config = replace(evaluate.miniature().evaluation, benchmarks="vspw", split="test", num_actors=1)
    with evaluator_pool(config, ray_local) as pool:
        evaluation = pool.evaluate(checkpoint, releases, tmp_path / "submissions")
    for result in evaluation.benchmarks:
        assert (result.num_items, result.scores, result.per_item) == (2, {}, {})
    assert evaluation.pictures == ()
    assert sorted(path.name for path in tmp_path.glob("submissions/*.zip")) == ["vspw.zip"]
    report = Report(
        title="x",
        columns=("model",),
        scores=score_columns({"model": evaluation}),
        primary={},
        facts={},
        seconds=1.0,
        peak_rss_bytes=1,
        mlflow_uri="",
    )
    write_report(tmp_path, report)
    assert "vspw" not in score_table(report)
