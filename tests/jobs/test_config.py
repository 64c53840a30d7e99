from dataclasses import replace

import pytest

from jobs.config import BenchmarkConfig, EvaluateConfig
from pipelines.recipes import stage2
from univs.inference.config import InferenceConfig

STAGE = stage2.miniature()


def make_evaluation(**changes) -> EvaluateConfig:
    settings = tuple(
        BenchmarkConfig(name=name, inference=InferenceConfig()) for name in ("vipseg", "davis_2017")
    )
    return EvaluateConfig(settings=settings, **changes)


def test_stage_without_sources_is_refused():
    with pytest.raises(
        ValueError, match=r"^stage2 of 'miniature' has no sources: name at least one dataset$"
    ):
        replace(STAGE, sources=())


def test_checkpoint_between_two_reports_is_refused():
    with pytest.raises(ValueError, match="checkpoint_every_steps 15 must be a multiple of .* 10$"):
        replace(STAGE, checkpoint_every_steps=15)


def test_clip_longer_than_what_is_loaded_is_refused():
    with pytest.raises(ValueError, match=r"train\.frames_per_clip 3 is more than the 2 frames"):
        replace(STAGE, loader=replace(STAGE.loader, frames_per_clip=2))


@pytest.mark.parametrize(
    ("benchmarks", "names"),
    [
        ("all", ("vipseg", "davis_2017")),
        ("davis_2017", ("davis_2017",)),
        ("davis_2017, vipseg", ("davis_2017", "vipseg")),
    ],
)
def test_benchmarks_are_named_by_commas(benchmarks, names):
    assert make_evaluation(benchmarks=benchmarks).names == names


@pytest.mark.parametrize("benchmarks", ["davis", "", "vipseg,davis"])
def test_unknown_benchmark_is_named_with_those_known(benchmarks):
    with pytest.raises(ValueError, match="^--benchmarks") as error:
        make_evaluation(benchmarks=benchmarks)
    unknown = benchmarks.rpartition(",")[2]
    assert str(error.value) == (
        f"--benchmarks {benchmarks}: no benchmark {unknown!r}, expected some of vipseg, davis_2017"
    )


@pytest.mark.parametrize("changes", [{"num_actors": 0}, {"cpus_per_actor": 0}])
def test_evaluation_without_actors_is_refused(changes):
    with pytest.raises(ValueError, match="num_actors . and cpus_per_actor . must be at least 1"):
        make_evaluation(**changes)
