import logging
import shutil
import zipfile
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from jobs.curriculum import untrained_checkpoint
from jobs.errors import UserError
from jobs.evaluate import available, evaluator_pool, log_scores
from jobs.tracking import PARENT_TAG, Tracking
from pipelines.recipes import evaluate, stage1
from univs.evaluation.benchmarks import BENCHMARKS

CONFIG = replace(evaluate.miniature().evaluation, benchmarks="davis_2017,vspw", pictures_per_benchmark=1)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    return untrained_checkpoint(stage1.smoke(), tmp_path_factory.mktemp("untrained"))


@pytest.fixture(scope="module")
def scored(ray_local, smoke_releases, checkpoint, tmp_path_factory):
    """Two benchmarks scored by two actors, where an earlier evaluation has left a prediction."""
    submissions = tmp_path_factory.mktemp("submissions")
    (submissions / "vspw/old").mkdir(parents=True)
    (submissions / "vspw/old/00000.png").write_bytes(b"of another checkpoint")
    with evaluator_pool(CONFIG, ray_local) as pool:
        return pool.evaluate(checkpoint, smoke_releases, submissions), submissions


def test_every_item_of_every_benchmark_is_scored(scored):
    evaluation, _ = scored
    assert [benchmark.name for benchmark in evaluation.benchmarks] == ["vspw", "davis_2017"]
    for benchmark in evaluation.benchmarks:
        spec = BENCHMARKS[benchmark.name]
        assert spec.primary in benchmark.scores
        assert set(benchmark.scores) <= set(spec.metrics)
        assert all(0 <= value <= 100 for value in benchmark.per_item.values())
        assert (len(benchmark.per_item), benchmark.num_items, benchmark.num_frames) == (2, 2, 24)
        assert benchmark.actor_s > 0


def test_metric_that_the_data_cannot_measure_is_left_out(scored):
    evaluation, _ = scored
    # VC16 needs 16 frames; these videos have 12.
    assert set(evaluation.benchmarks[0].scores) == {"miou", "vc8", "fwiou", "macc", "pacc"}


def test_pictures_are_of_the_first_items_only(scored):
    evaluation, _ = scored
    assert sorted(picture.benchmark for picture in evaluation.pictures) == ["davis_2017", "vspw"]


def test_submission_holds_this_checkpoints_predictions_only(scored):
    _, submissions = scored
    assert sorted(path.name for path in submissions.glob("*.zip")) == ["davis_2017.zip", "vspw.zip"]
    for path in submissions.glob("*.zip"):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        assert len(names) == 24
        assert not any("old" in name for name in names)


def test_scores_do_not_depend_on_the_number_of_actors(ray_local, smoke_releases, checkpoint, scored):
    alone = replace(CONFIG, num_actors=1, benchmarks="davis_2017", pictures_per_benchmark=0)
    with evaluator_pool(alone, ray_local) as pool:
        evaluation = pool.evaluate(checkpoint, smoke_releases)
        with pytest.raises(UserError, match=r"nothing\.safetensors: no such file, expected a checkpoint$"):
            pool.evaluate(checkpoint.with_name("nothing.safetensors"), smoke_releases)
    (one,), two = evaluation.benchmarks, scored[0].benchmarks[1]
    assert (one.scores, one.per_item) == (two.scores, two.per_item)
    assert evaluation.pictures == ()


def test_more_actors_than_cpus_are_refused(ray_local):
    crowd = replace(CONFIG, num_actors=3)
    with (
        pytest.raises(
            UserError, match="^num_actors 3 x cpus_per_actor 1 is more than the 2 CPUs of this Ray"
        ),
        evaluator_pool(crowd, ray_local),
    ):
        pass


def test_all_benchmarks_are_those_that_have_a_release(smoke_releases, caplog):
    with caplog.at_level(logging.WARNING, "jobs.evaluate"):
        found = available(replace(CONFIG, benchmarks="all"), smoke_releases)
    built = {path.name for path in smoke_releases.iterdir()}
    assert {setting.name for setting in found} == set(BENCHMARKS) & built
    missing = ", ".join(name for name in BENCHMARKS if name not in built)
    assert [record.message for record in caplog.records] == [
        f"not evaluated, no release under {smoke_releases}: {missing}"
    ]


@pytest.mark.parametrize("benchmarks", ["all", "davis_2017,vspw", "vspw"])
def test_benchmark_without_a_release_is_named(smoke_releases, tmp_path, benchmarks):
    config = replace(CONFIG, benchmarks=benchmarks)
    if benchmarks != "all":
        shutil.copytree(smoke_releases / "davis_2017/val", tmp_path / "davis_2017/val")
    with pytest.raises(UserError, match="no whole release to score on; build it with pipelines/preprocess"):
        available(config, tmp_path)


def test_scores_are_a_run_under_their_curriculum(scored, tmp_path):
    tracking = Tracking(uri=f"sqlite:///{tmp_path}/mlflow.db", experiment="evaluation")
    for _ in range(2):
        log_scores(scored[0], "stage1", "curriculum7", tracking)
    client = MlflowClient(tracking.uri)
    runs = client.search_runs([client.get_experiment_by_name("evaluation").experiment_id])
    (child,), (parent,) = (
        [run for run in runs if (PARENT_TAG in run.data.tags) == is_child] for is_child in (True, False)
    )
    assert child.data.tags[PARENT_TAG] == parent.info.run_id
    assert child.info.run_name == "evaluate stage1"
    assert {run.info.status for run in runs} == {"FINISHED"}
    vspw, davis = scored[0].benchmarks
    assert child.data.metrics == {
        **{f"vspw/{name}": value for name, value in vspw.scores.items()},
        **{f"davis_2017/{name}": value for name, value in davis.scores.items()},
    }
