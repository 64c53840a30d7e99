import json
from dataclasses import replace

import pytest
import torch

from jobs.artifacts import digest_file, to_plain, write_record
from jobs.curriculum import (
    curriculum_id,
    describe_plan,
    is_trained,
    places_of,
    run_digest,
    stage_identity,
    untrained_checkpoint,
)
from jobs.errors import UserError
from pipelines.recipes import stage1, stage2
from univs.model.weights import load_checkpoint

FIRST, SECOND = stage1.smoke(), stage2.smoke()


def pretend_trained(config, run_root):
    """Leave the record a trained stage leaves."""
    folder = places_of(config, run_root).stage
    folder.mkdir(parents=True)
    write_record(folder, kind="checkpoint", config=stage_identity(config), inputs={}, outputs={})


def reseed(config, seed):
    return replace(config, train=replace(config.train, seed=seed))


def test_stage_is_trained_once_its_record_is_there(tmp_path):
    assert not is_trained(FIRST, tmp_path)
    pretend_trained(FIRST, tmp_path)
    assert is_trained(FIRST, tmp_path)
    assert not is_trained(SECOND, tmp_path)


def test_stage_trained_from_another_configuration_is_refused(tmp_path):
    pretend_trained(FIRST, tmp_path)
    with pytest.raises(UserError) as error:
        is_trained(reseed(FIRST, 1), tmp_path)
    assert str(error.value) == (
        f"{tmp_path}/smoke/stage1: holds a checkpoint of another configuration of stage1; give this one "
        "another --name, or remove the folder to train it again"
    )


def test_identity_of_a_stage_leaves_out_the_stage_before():
    other = replace(SECOND, previous=reseed(FIRST, 1))
    assert stage_identity(other) == stage_identity(SECOND) != stage_identity(reseed(SECOND, 1))
    assert json.loads(json.dumps(stage_identity(SECOND))) == stage_identity(SECOND)


def test_run_digest_follows_configuration_and_inputs():
    inputs = {"start": "a"}
    digests = {
        run_digest(FIRST, inputs),
        run_digest(reseed(FIRST, 1), inputs),
        run_digest(FIRST, {"start": "b"}),
    }
    assert len(digests) == 3
    assert run_digest(FIRST, {"start": "a"}) in digests


def test_untrained_checkpoint_is_a_function_of_model_and_seed(tmp_path):
    torch.manual_seed(1234)
    first = digest_file(untrained_checkpoint(FIRST, tmp_path / "a"))
    torch.rand(7)
    assert digest_file(untrained_checkpoint(FIRST, tmp_path / "b")) == first
    assert digest_file(untrained_checkpoint(reseed(FIRST, 1), tmp_path / "c")) != first
    assert to_plain(
        load_checkpoint(tmp_path / "a/smoke/untrained/checkpoint.safetensors").config
    ) == to_plain(FIRST.model)


def test_untrained_checkpoint_is_kept_until_another_model_is_asked_for(tmp_path):
    path = untrained_checkpoint(FIRST, tmp_path)
    written_ns = path.stat().st_mtime_ns
    assert untrained_checkpoint(FIRST, tmp_path).stat().st_mtime_ns == written_ns
    wider = replace(FIRST, model=replace(FIRST.model, hidden_dim=32))
    assert load_checkpoint(untrained_checkpoint(wider, tmp_path)).config == wider.model


def test_curriculum_keeps_its_id_and_shares_it_with_no_other(tmp_path):
    first = curriculum_id(tmp_path / "a")
    assert curriculum_id(tmp_path / "a") == first != curriculum_id(tmp_path / "b")


def test_plan_says_what_there_is_and_what_is_generated(tmp_path):
    pretend_trained(FIRST, tmp_path)
    manifest = tmp_path / "releases/vipseg/train/manifest.json"
    manifest.parent.mkdir(parents=True)
    manifest.write_text("{}")
    assert describe_plan(SECOND, tmp_path).splitlines() == [
        "stage2 of 'smoke': to be trained",
        "  needs      stage1: already trained",
        "  data       coco_panoptic/train: 11.1% of steps, to be generated",
        "  data       vipseg/train: 22.2% of steps, there",
        "  data       ytvis_2021/train: 22.2% of steps, to be generated",
        "  data       davis_2017/train: 16.7% of steps, to be generated",
        "  data       refytvos/train: 22.2% of steps, to be generated",
        "  data       sa_1b/train: 5.6% of steps, to be generated",
        "  start      the checkpoint of stage1",
        "  train      6 steps x 4 clips x 3 frames",
        "  workers    1 x 2 CPU, fp32",
        f"  checkpoint {tmp_path}/smoke/stage2/checkpoint.safetensors",
    ]


def test_plan_without_worlds_names_what_is_missing_and_given_start(tmp_path):
    plan = describe_plan(replace(stage2.resnet50(), init_from="given.safetensors"), tmp_path)
    assert "needs" not in plan
    assert "  start      given.safetensors\n" in plan
    assert plan.count("MISSING, build it with pipelines/preprocess.py") == 14
    assert "  workers    8 x 1 GPU, bf16\n" in plan


def test_plan_writes_nothing(tmp_path):
    describe_plan(SECOND, tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
