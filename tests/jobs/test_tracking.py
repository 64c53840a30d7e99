import pickle
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from jobs.errors import UserError
from jobs.tracking import Tracking, flatten_config


@dataclass(frozen=True, kw_only=True, slots=True)
class Part:
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Config:
    steps: int = 5
    out: Path = Path("runs")
    betas: tuple[float, ...] = (0.9, 0.99)
    parts: tuple[Part, ...] = (Part(), Part(weight=2.0))


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracking")
    return Tracking(uri=f"sqlite:///{folder}/mlflow.db", experiment="test")


def read(tracking, run_id):
    return MlflowClient(tracking.uri).get_run(run_id)


def count_runs(tracking, query=""):
    client = MlflowClient(tracking.uri)
    experiment = client.get_experiment_by_name(tracking.experiment)
    return len(client.search_runs([experiment.experiment_id], query))


def test_run_with_known_key_is_continued(tracking):
    tracking.check_reachable()
    first = tracking.start_run("stage1", key="continued")
    tracking.finish(first, "FAILED")
    assert read(tracking, first).info.status == "FAILED"
    again = pickle.loads(pickle.dumps(tracking)).start_run("stage1", key="continued", tags={"attempt": "2"})
    assert again == first
    assert read(tracking, first).info.status == "RUNNING"
    assert read(tracking, first).data.tags["attempt"] == "2"
    assert count_runs(tracking, "tags.`univs.key` = 'continued'") == 1


def test_runs_with_other_keys_are_other_runs(tracking):
    assert tracking.start_run("same name", key="one") != tracking.start_run("same name", key="two")


def test_child_is_found_from_its_parent(tracking):
    parent = tracking.start_run("curriculum", key="parent")
    child = tracking.start_run("stage2", key="parent/stage2", parent_run_id=parent)
    assert read(tracking, child).data.tags["mlflow.parentRunId"] == parent
    assert count_runs(tracking, f"tags.mlflow.parentRunId = '{parent}'") == 1


def test_more_metrics_than_a_request_holds_are_all_written(tracking):
    run_id = tracking.start_run("metrics", key="metrics")
    tracking.log_metrics(run_id, {f"loss_{index}": index / 2 for index in range(1234)}, step=7)
    stored = read(tracking, run_id).data.metrics
    assert len(stored) == 1234
    assert stored["loss_1233"] == 616.5
    assert MlflowClient(tracking.uri).get_metric_history(run_id, "loss_3")[0].step == 7


def test_changed_parameter_of_a_resumed_run_keeps_the_first_and_tags_the_new(tracking):
    run_id = tracking.start_run("params", key="params")
    tracking.log_config(run_id, Config(steps=5))
    tracking.log_config(run_id, Config(steps=9))
    data = read(tracking, run_id).data
    assert data.params["steps"] == "5"
    assert data.params["parts.1.weight"] == "2.0"
    assert data.tags["univs.resumed.steps"] == "9"
    assert [tag for tag in data.tags if tag.startswith("univs.resumed.")] == ["univs.resumed.steps"]


def test_artifact_of_an_sqlite_run_lies_beside_the_database(tracking, tmp_path):
    run_id = tracking.start_run("artifact", key="artifact")
    (tmp_path / "report.json").write_text("{}")
    tracking.log_artifact(run_id, tmp_path / "report.json", folder="reports")
    root = Path(tracking.uri.removeprefix("sqlite:///")).parent
    assert [path.read_text() for path in root.rglob("reports/report.json")] == ["{}"]
    with pytest.raises(ValueError, match=r"nothing: no such file to log to MLflow"):
        tracking.log_artifact(run_id, tmp_path / "nothing")


def test_unknown_run_is_one_line(tracking):
    with pytest.raises(UserError, match=r"^MLflow at sqlite:///.* refused: .*no_such_run[^\n]*$"):
        tracking.log_metrics("no_such_run", {"a": 1.0}, step=0)


def test_config_flattens_to_dotted_scalars():
    assert flatten_config(Config()) == {
        "steps": "5",
        "out": "runs",
        "betas": "(0.9, 0.99)",
        "parts.0.weight": "1.0",
        "parts.1.weight": "2.0",
    }


def test_server_that_refuses_is_one_line():
    with pytest.raises(UserError) as error:
        Tracking(uri="http://127.0.0.1:1", experiment="x").check_reachable()
    assert str(error.value) == (
        "no MLflow server answers at MLFLOW_TRACKING_URI=http://127.0.0.1:1 ([Errno 111] Connection "
        "refused); start it with `mlflow server`, correct the address, or unset it to use an SQLite file"
    )


def test_server_that_never_answers_is_given_up_in_time(silent_server):
    started_s = time.monotonic()
    with pytest.raises(UserError, match=r"no MLflow server answers .*\(timed out\)"):
        Tracking(uri=f"http://{silent_server}", experiment="x").check_reachable(timeout_s=1)
    assert time.monotonic() - started_s < 5


def test_file_that_is_no_database_is_one_line(tmp_path):
    (tmp_path / "mlflow.db").write_text("not a database, whatever its name says" * 10)
    with pytest.raises(UserError, match="cannot be opened as MLflow's database .file is not a database"):
        Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="x").check_reachable()


def test_folder_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="^.*/file/runs/mlflow.db: cannot be opened as MLflow's database"):
        Tracking(uri=f"sqlite:///{tmp_path}/file/runs/mlflow.db", experiment="x").check_reachable()


def test_folder_is_no_tracking_uri():
    with pytest.raises(ValueError, match="MLflow tracking URI '/tmp/mlruns' is not one of sqlite"):
        Tracking(uri="/tmp/mlruns", experiment="x")
