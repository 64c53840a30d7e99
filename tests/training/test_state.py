import pytest
import torch
from torch import nn

from univs.training.config import OptimizerConfig
from univs.training.ema import Ema
from univs.training.optimizer import build_optimizer
from univs.training.state import load_training_state, save_training_state


def _model(bias: bool = True) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 2, bias=bias), nn.LayerNorm(2))


def _trained(model: nn.Module):
    optimizer = build_optimizer(model, OptimizerConfig())
    model(torch.ones(4, 3)).square().sum().backward()
    optimizer.step()
    return optimizer


def test_training_state_round_trips(tmp_path):
    model = _model()
    optimizer, ema = _trained(model), Ema(model, 0.5)
    save_training_state(tmp_path / "state.pt", 7, optimizer, ema)
    other = _model()
    loaded, averages = build_optimizer(other, OptimizerConfig()), Ema(other, 0.5)
    assert load_training_state(tmp_path / "state.pt", loaded, averages) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
    for old, new in zip(optimizer.state.values(), loaded.state.values(), strict=True):
        assert all(torch.equal(old[key], new[key]) for key in ("step", "exp_avg", "exp_avg_sq"))
    assert all(torch.equal(value, averages.state_dict()[name]) for name, value in ema.state_dict().items())


def test_load_training_state_refuses_another_model(tmp_path):
    save_training_state(tmp_path / "state.pt", 1, _trained(_model()), None)
    optimizer = build_optimizer(_model(bias=False), OptimizerConfig())
    with pytest.raises(ValueError, match=r"state.pt: .*first difference '0.bias'"):
        load_training_state(tmp_path / "state.pt", optimizer, None)


def test_load_training_state_refuses_another_use_of_averages(tmp_path):
    model = _model()
    optimizer = _trained(model)
    save_training_state(tmp_path / "state.pt", 1, optimizer, None)
    with pytest.raises(ValueError, match="off in the file, on in the run"):
        load_training_state(tmp_path / "state.pt", optimizer, Ema(model, 0.5))


def test_load_training_state_refuses_other_files(tmp_path):
    model = _model()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    with pytest.raises(ValueError, match=r"model.pt: not a training state"):
        load_training_state(tmp_path / "model.pt", _trained(model), None)
