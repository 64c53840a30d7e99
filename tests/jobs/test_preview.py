import base64
import re
from dataclasses import replace

import cv2
import numpy as np
import pytest
from mlflow import MlflowClient

from jobs.preprocess import PreprocessConfig, preprocess
from jobs.preview import PREVIEW_EXPERIMENT, PREVIEW_NAME, write_preview
from preprocessing.index import read_manifest
from preprocessing.miniature import MiniatureConfig, build
from preprocessing.tables import read_index

NUM_VIDEOS = 3


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    sizes = MiniatureConfig(train_images=1, val_images=1, train_videos=NUM_VIDEOS, val_videos=1)
    return build(tmp_path_factory.mktemp("official"), sizes, ["refytvos"])["refytvos"]


@pytest.fixture(scope="module")
def job(official, ray_local, tmp_path_factory):
    """A release that was built with a preview."""
    out = tmp_path_factory.mktemp("out")
    config = PreprocessConfig(dataset="refytvos", split="train", source=official, out=out, preview=2)
    preprocess(config, ray_local)
    return config


def sources_of(page):
    return re.findall(r'(?:src|href)="([^"]*)"', page)


def test_preview_holds_everything_it_shows(job):
    page = (job.release_dir / PREVIEW_NAME).read_text()
    sources = sources_of(page)
    assert sources
    assert all(source.startswith("data:image/") for source in sources)
    assert "<script" not in page
    assert "@import" not in page


def test_preview_draws_samples_spread_over_the_release(job):
    page = (job.release_dir / PREVIEW_NAME).read_text()
    keys = [row.key for row in read_index(job.release_dir)]
    assert [key in page for key in keys] == [True, False, True]
    photographs = [source for source in sources_of(page) if source.startswith("data:image/jpeg")]
    # Per sample the first frame as stored, and four with masks.
    assert len(photographs) == 2 * 5
    encoded = np.frombuffer(base64.b64decode(photographs[0].partition(",")[2]), np.uint8)
    row = read_index(job.release_dir)[0]
    assert cv2.imdecode(encoded, cv2.IMREAD_COLOR).shape == (row.height, row.width, 3)


def test_preview_shows_expressions_states_and_counts(job):
    manifest = read_manifest(job.release_dir)
    page = (job.release_dir / PREVIEW_NAME).read_text()
    assert f"{manifest.num_items} items, {manifest.num_samples} samples" in page
    assert f"{manifest.num_expressions} expressions" in page
    assert page.count("<th>expression</th>") == 2
    assert re.search(r'class="state-V" title="V x \d+"', page)
    for caption in ("objects per item", "frames per item", "mask area", "words per expression", "sizes"):
        assert caption in page


def test_preview_is_the_same_every_time_and_leaves_the_release_alone(job):
    before = {path: path.stat().st_mtime_ns for path in job.release_dir.iterdir()}
    first = (job.release_dir / PREVIEW_NAME).read_bytes()
    write_preview(job.release_dir, 2)
    assert (job.release_dir / PREVIEW_NAME).read_bytes() == first
    after = {path: path.stat().st_mtime_ns for path in job.release_dir.iterdir()}
    assert {path for path in before if before[path] != after[path]} == {job.release_dir / PREVIEW_NAME}


def test_preview_is_logged_once_with_configuration_and_counts(job, ray_local):
    preprocess(job, ray_local)
    client = MlflowClient(ray_local.cluster.mlflow_uri)
    experiment = client.get_experiment_by_name(PREVIEW_EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id], "params.dataset = 'refytvos'")
    assert (run.info.run_name, run.info.status) == ("refytvos/train", "FINISHED")
    assert run.data.params["preview"] == "2"
    assert run.data.metrics["num_items"] == NUM_VIDEOS
    assert run.data.metrics["frames_per_item/median"] > 1
    (artifact,) = client.list_artifacts(run.info.run_id)
    assert artifact.path == PREVIEW_NAME
    assert artifact.file_size == (job.release_dir / PREVIEW_NAME).stat().st_size


def test_release_built_anew_without_preview_has_none(job, official, ray_local, tmp_path):
    again = replace(job, out=tmp_path)
    preprocess(again, ray_local)
    assert (again.release_dir / PREVIEW_NAME).exists()
    preprocess(replace(again, frames_per_shard=5, overwrite=True, preview=0), ray_local)
    assert not (again.release_dir / PREVIEW_NAME).exists()


def test_preview_flag_draws_a_release_that_is_there(run_here, job):
    (job.release_dir / PREVIEW_NAME).unlink()
    ended = run_here("preprocess", "--release", job.release_dir, "--preview", "1")
    assert (ended.code, ended.out) == (0, f"{job.release_dir / PREVIEW_NAME}\n")
    assert (job.release_dir / PREVIEW_NAME).read_text().count("<h3>") == 1


def test_preview_of_no_release_is_one_line(run_here, tmp_path):
    ended = run_here("preprocess", "--release", tmp_path)
    assert (ended.code, ended.err.count("\n")) == (1, 1)
    assert str(tmp_path) in ended.err


def test_negative_preview_is_refused():
    with pytest.raises(ValueError, match="^preview must be at least 0, got -1$"):
        PreprocessConfig(dataset="vipseg", split="train", source="a", out="b", preview=-1)
