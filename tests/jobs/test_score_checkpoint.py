from dataclasses import replace

import pytest

from jobs.config import EvaluateJob
from jobs.curriculum import untrained_checkpoint
from jobs.errors import UserError
from jobs.score_checkpoint import score_checkpoint
from jobs.session import ClusterConfig
from pipelines.recipes import evaluate, stage1

# What a finished evaluation leaves is tested where the script is run: tests/pipelines/test_evaluate.py.


@pytest.fixture
def job(smoke_releases, tmp_path) -> EvaluateJob:
    return replace(
        evaluate.miniature(),
        checkpoint=untrained_checkpoint(stage1.smoke(), tmp_path),
        data=smoke_releases,
        out=tmp_path / "out",
    )


@pytest.fixture
def session(ray_local, tmp_path):
    return replace(ray_local, cluster=ClusterConfig(run_root=tmp_path / "runs"))


def test_missing_checkpoint_is_found_before_mlflow_is_asked(job, session, tmp_path):
    with pytest.raises(ValueError, match="nothing: no such file, expected a checkpoint"):
        score_checkpoint(replace(job, checkpoint=tmp_path / "nothing"), session)
    assert not (tmp_path / "runs").exists()
    assert not job.out.exists()


def test_missing_release_leaves_no_report(job, session):
    evaluation = replace(job.evaluation, benchmarks="vspw,davis_2016")
    with pytest.raises(UserError, match="davis_2016/val: no whole release to score on"):
        score_checkpoint(replace(job, evaluation=evaluation), session)
    assert not job.out.exists()


def test_unreachable_mlflow_leaves_no_report(job, ray_local):
    cluster = ClusterConfig(tracking_uri="http://127.0.0.1:9")
    with pytest.raises(UserError, match="^no MLflow server answers"):
        score_checkpoint(job, replace(ray_local, cluster=cluster))
    assert not job.out.exists()
