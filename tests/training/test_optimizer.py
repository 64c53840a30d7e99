import pytest
import torch
from torch import nn

from univs.training.config import OptimizerConfig, TrainConfig
from univs.training.optimizer import (
    build_optimizer,
    learning_rate,
    parameter_groups,
    set_learning_rate,
)


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(3))
        self.proj = nn.Linear(2, 2)


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.ModuleDict({"attn": _Attention(), "bn": nn.BatchNorm2d(2)})
        self.head = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2), nn.GroupNorm(1, 2), nn.Embedding(2, 2))
        self.level_embed = nn.Parameter(torch.zeros(2))
        self.tied = self.head[0]
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_parameter_groups_split_by_decay_and_multiplier():
    groups = parameter_groups(_Model(), OptimizerConfig(learning_rate=2.0))
    found = {
        (group["weight_decay"], round(group["lr"], 6)): {name for name, _ in group["params"]}
        for group in groups
    }
    backbone = "backbone.attn"
    assert found == {
        (0.05, 0.2): {f"{backbone}.proj.weight", f"{backbone}.proj.bias"},
        (0.0, 0.2): {
            f"{backbone}.relative_position_bias_table",
            "backbone.bn.weight",
            "backbone.bn.bias",
        },
        (0.05, 2.0): {"head.0.weight", "head.0.bias", "level_embed"},
        (0.0, 2.0): {"head.1.weight", "head.1.bias", "head.2.weight", "head.2.bias", "head.3.weight"},
    }


def test_parameter_groups_of_the_model_hold_each_trainable_parameter_once(make_model):
    model = make_model()
    names = [name for group in parameter_groups(model, OptimizerConfig()) for name, _ in group["params"]]
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(names) == len(set(names))
    assert set(names) == trainable
    assert not any(name.startswith("text.") for name in names)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.2), (3, 0.8), (4, 1.0), (5, 1.0), (59, 1.0), (60, 0.1), (89, 0.1), (90, 0.01), (99, 0.01)],
)
def test_learning_rate_warms_up_and_decays_at_milestones(step, expected):
    optimizer = OptimizerConfig(learning_rate=1.0, warmup_steps=5, milestones=(0.6, 0.9))
    assert learning_rate(TrainConfig(num_steps=100, optimizer=optimizer), step) == pytest.approx(expected)


def test_learning_rate_without_warmup_starts_in_full():
    assert learning_rate(TrainConfig(optimizer=OptimizerConfig(learning_rate=0.5)), 0) == 0.5


def test_set_learning_rate_respects_multipliers(make_model):
    optimizer = build_optimizer(make_model(), OptimizerConfig(backbone_multiplier=0.25))
    set_learning_rate(optimizer, 0.8)
    assert {group["lr"] for group in optimizer.param_groups} == {0.8, 0.2}
