from dataclasses import replace

import pytest

from jobs.quickstart import QuickstartConfig, run_quickstart
from jobs.session import ClusterConfig
from pipelines.recipes import evaluate, quickstart, stage2


def test_curriculum_without_worlds_is_refused():
    with pytest.raises(ValueError, match="^the quickstart runs on generated worlds: choose a recipe"):
        QuickstartConfig(last_stage=stage2.resnet50(), evaluation=evaluate.miniature().evaluation)


def test_stages_run_from_first_to_last():
    config = quickstart.smoke()
    assert [stage.stage for stage in config.stages] == ["stage1", "stage2", "stage3"]
    shorter = replace(config, last_stage=stage2.smoke())
    assert [stage.stage for stage in shorter.stages] == ["stage1", "stage2"]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"tracking_uri": "http://127.0.0.1:9"}, "^no MLflow server answers at"),
        (
            {"tracking_uri": "sqlite:////proc/mlflow.db"},
            "^/proc/mlflow.db: cannot be opened as MLflow's database",
        ),
    ],
)
def test_mlflow_that_cannot_be_written_is_found_before_anything_is_made(ray_local, tmp_path, given, line):
    session = replace(ray_local, cluster=ClusterConfig(run_root=tmp_path / "runs", **given))
    with pytest.raises(ValueError, match=line):
        run_quickstart(quickstart.smoke(), session)
    assert not (tmp_path / "runs").exists()
