import pytest
import torch
from torch import nn

from univs.training.ema import Ema


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    net[2].requires_grad_(False)
    return net


def _shift(model: nn.Module, by: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by


def test_ema_follows_the_formula(model):
    start = model[0].weight.detach().clone()
    ema = Ema(model, decay=0.9)
    _shift(model, 1.0)
    ema.update()
    _shift(model, 1.0)
    ema.update()
    expected = 0.9 * (0.9 * start + 0.1 * (start + 1)) + 0.1 * (start + 2)
    torch.testing.assert_close(ema.state_dict()["0.weight"], expected)


def test_ema_holds_trainable_parameters_only(model):
    assert set(Ema(model, 0.9).state_dict()) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_ema_swap_shows_averages_and_restores_weights_after_an_error(model):
    ema = Ema(model, decay=0.5)
    averages = {name: value.clone() for name, value in ema.state_dict().items()}
    _shift(model, 1.0)
    live = {name: value.clone() for name, value in model.state_dict().items()}

    def fail_with_averages() -> None:
        with ema.swap():
            assert all(torch.equal(model.state_dict()[name], value) for name, value in averages.items())
            assert torch.equal(model[2].weight, live["2.weight"])
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail_with_averages()
    assert all(torch.equal(model.state_dict()[name], value) for name, value in live.items())
    assert all(torch.equal(ema.state_dict()[name], value) for name, value in averages.items())


def test_ema_load_refuses_another_model(model):
    with pytest.raises(ValueError, match="4 names differ"):
        Ema(model, 0.9).load_state_dict({})
