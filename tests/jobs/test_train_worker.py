from dataclasses import replace

import pytest
import torch

from jobs.train_worker import build_model
from pipelines.recipes import stage1
from univs.model.univs import UniVS
from univs.model.weights import save_checkpoint

CONFIG = stage1.smoke()


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    torch.manual_seed(5)
    path = tmp_path_factory.mktemp("start") / "start.safetensors"
    save_checkpoint(path, UniVS(CONFIG.model))
    return path


def test_stage_takes_the_weights_and_keeps_its_own_frozen_parts(start):
    frozen = replace(CONFIG.model.backbone, frozen_stages=5)
    config = replace(CONFIG, model=replace(CONFIG.model, backbone=frozen))
    free, model = build_model(CONFIG, start), build_model(config, start)
    for (name, one), other in zip(free.state_dict().items(), model.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    assert not any(parameter.requires_grad for parameter in model.backbone.parameters())
    assert any(parameter.requires_grad for parameter in free.backbone.parameters())


def test_weights_of_another_architecture_are_named(start):
    config = replace(CONFIG, model=replace(CONFIG.model, hidden_dim=32))
    with pytest.raises(ValueError, match="its weights do not fit the recipe's model") as error:
        build_model(config, start)
    line = str(error.value)
    assert line.startswith(f"{start}: ")
    assert "size mismatch for" in line
    assert "\n" not in line
