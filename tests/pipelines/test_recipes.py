import json
import pickle
from dataclasses import fields, is_dataclass
from typing import get_args

import pytest
import torch

from jobs.artifacts import to_plain
from jobs.config import StageConfig, StageName
from jobs.curriculum import describe_plan
from pipelines.cli import parse_config
from pipelines.recipes import evaluate, quickstart, stage1, stage2, stage3
from preprocessing.sources.catalog import SOURCES
from univs.evaluation.benchmarks import BENCHMARKS
from univs.model.univs import UniVS

STAGES = {"stage1": stage1.RECIPES, "stage2": stage2.RECIPES, "stage3": stage3.RECIPES}
ALL = {**STAGES, "evaluate": evaluate.RECIPES, "quickstart": quickstart.RECIPES}
EVERY = [(script, name) for script, recipes in ALL.items() for name in recipes]
EVERY_STAGE = [(script, name) for script, recipes in STAGES.items() for name in recipes]
FULL_SIZE = ("resnet50", "swin_tiny", "swin_base", "swin_large")


def chain(config: StageConfig) -> list[StageConfig]:
    """List the stage and those it starts from, last to first."""
    return [config] if config.previous is None else [config, *chain(config.previous)]


@pytest.mark.parametrize(("script", "name"), EVERY)
def test_recipe_is_a_value_that_pickles_and_has_a_json_form(script, name):
    config = ALL[script][name]()
    assert config == ALL[script][name]()
    assert pickle.loads(pickle.dumps(config)) == config
    plain = to_plain(config)
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert_same_shape(config, plain)


def assert_same_shape(value, plain):
    """Every field of every dataclass is in the JSON form, by its name."""
    if is_dataclass(value):
        assert list(plain) == [field.name for field in fields(value)]
        for field in fields(value):
            assert_same_shape(getattr(value, field.name), plain[field.name])
    elif isinstance(value, tuple):
        for part, plain_part in zip(value, plain, strict=True):
            assert_same_shape(part, plain_part)


@pytest.mark.parametrize(("script", "name"), EVERY)
def test_recipe_says_what_it_is_for_and_takes_no_override_as_itself(script, name):
    recipe = ALL[script][name]
    assert recipe.__doc__
    assert parse_config(ALL[script], default=name, argv=[]) == (recipe(), False)


# Weights of the released configurations; the three RefCOCO sets are one there.
RELEASED_WEIGHTS = {
    "stage1": {"lvis": 0.5, "coco_panoptic": 1, "refcoco": 1, "entityseg": 1, "sa_1b": 1},
    "stage2": {
        "lvis": 0.15, "ovis": 0.35, "ytvis_2021": 0.25, "entityseg": 0.5, "coco_panoptic": 0.25,
        "vipseg": 0.5, "refcoco": 0.5, "refytvos": 0.35, "sa_1b": 0.25,
        "ytvos_2018": 0.25, "mose": 0.15, "burst": 0.15,
    },
}  # fmt: skip
RELEASED_WEIGHTS["stage3"] = RELEASED_WEIGHTS["stage2"] | {"refcoco": 0.35, "refytvos": 0.5}


def _weights(config):
    weights = {}
    for source in config.sources:
        name = "refcoco" if source.dataset.startswith("refcoco") else source.dataset
        weights[name] = weights.get(name, 0) + source.weight
    return weights


@pytest.mark.parametrize("script", STAGES)
def test_full_size_mixture_is_the_original_one(script):
    assert _weights(STAGES[script]["resnet50"]()) == pytest.approx(RELEASED_WEIGHTS[script])


def test_swin_base_ends_on_more_referring_images_and_closer_frames():
    config = stage3.RECIPES["swin_base"]()
    assert _weights(config) == pytest.approx(RELEASED_WEIGHTS["stage3"] | {"refcoco": 0.75})
    ranges = {source.dataset: source.frame_range_frames for source in config.sources}
    assert [ranges[name] for name in ("vipseg", "ytvis_2021", "refytvos", "mose", "ovis")] == [20] * 4 + [10]


@pytest.mark.parametrize("name", FULL_SIZE)
@pytest.mark.parametrize("script", STAGES)
def test_full_size_recipe_is_offered_by_every_stage(script, name):
    config = STAGES[script][name]()
    assert config.workers.use_gpu
    assert config.miniature is None
    assert config.train.num_steps > 10_000


@pytest.mark.parametrize(("script", "name"), EVERY_STAGE)
def test_stages_of_a_curriculum_fit_each_other(script, name):
    config = STAGES[script][name]()
    stages = chain(config)
    assert config.stage == script
    # A curriculum may start late, but leaves out no stage in between.
    order = get_args(StageName)
    assert [order.index(stage.stage) for stage in stages] == [
        order.index(script) - before for before in range(len(stages))
    ]
    assert len({stage.name for stage in stages}) == 1
    for stage in stages:
        assert {source.dataset for source in stage.sources} <= set(SOURCES)
        # A later stage loads the weights of the one before: only what it freezes or drops may differ.
        now, before = to_plain(stage.model), to_plain(stages[-1].model)
        for model in (now, before):
            del model["backbone"]["frozen_stages"], model["backbone"]["drop_path"]
        assert now == before


@pytest.mark.parametrize("name", FULL_SIZE)
def test_full_size_model_can_be_built(name):
    with torch.device("meta"):
        model = UniVS(stage3.RECIPES[name]().model)
    assert sum(parameter.numel() for parameter in model.parameters()) > 100_000_000


@pytest.mark.parametrize(("script", "name"), EVERY_STAGE)
def test_plan_of_every_recipe_can_be_shown_without_its_data(script, name, tmp_path):
    plan = describe_plan(STAGES[script][name](), tmp_path / "runs")
    assert f"{script} of " in plan
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", evaluate.RECIPES)
def test_settings_are_of_known_benchmarks(name):
    settings = evaluate.RECIPES[name]().evaluation.settings
    assert {setting.name for setting in settings} <= set(BENCHMARKS)
    assert len({setting.name for setting in settings}) == len(settings)


def test_published_settings_cover_every_benchmark():
    names = {setting.name for setting in evaluate.released().evaluation.settings}
    assert names == set(BENCHMARKS)


@pytest.mark.parametrize("name", quickstart.RECIPES)
def test_quickstart_trains_and_scores_on_worlds_it_can_draw(name):
    from preprocessing.miniature import DATASETS

    config = quickstart.RECIPES[name]()
    trained = {source.dataset for stage in config.stages for source in stage.sources}
    assert [stage.stage for stage in config.stages] == list(get_args(StageName))
    assert {*trained, *config.evaluation.names} <= set(DATASETS)
    assert len(config.evaluation.names) == 6
