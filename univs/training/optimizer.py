"""AdamW with its parameter groups, and the learning rate as a function of the step."""

from collections import defaultdict
from collections.abc import Iterator

from torch import nn
from torch.optim import AdamW, Optimizer

from univs.training.config import OptimizerConfig, TrainConfig

_UNDECAYED_MODULES = (
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
    nn.modules.batchnorm._NormBase,
    nn.Embedding,
)
_UNDECAYED_NAMES = frozenset({"relative_position_bias_table", "absolute_pos_embed"})


def parameter_groups(model: nn.Module, config: OptimizerConfig) -> list[dict[str, object]]:
    """Split trainable parameters by weight decay and learning-rate multiplier.

    Norms, embeddings and relative position biases do not decay; biases do, as in the original. A module named
    ``backbone`` learns more slowly. Each group keeps its parameters' names and its multiplier.
    """
    groups: dict[tuple[float, float], list[tuple[str, nn.Parameter]]] = defaultdict(list)
    for name, parameter, undecayed in _trainable(model):
        multiplier = config.backbone_multiplier if "backbone" in name.split(".") else 1.0
        groups[0.0 if undecayed else config.weight_decay, multiplier].append((name, parameter))
    return [
        {
            "params": parameters,
            "weight_decay": decay,
            "lr": config.learning_rate * multiplier,
            "lr_multiplier": multiplier,
        }
        for (decay, multiplier), parameters in groups.items()
    ]


def build_optimizer(model: nn.Module, config: OptimizerConfig) -> AdamW:
    """Build AdamW over the trainable parameters of a model, fused where the device can."""
    devices = {parameter.device.type for parameter in model.parameters() if parameter.requires_grad}
    return AdamW(parameter_groups(model, config), lr=config.learning_rate, fused=devices <= {"cuda", "cpu"})


def learning_rate(config: TrainConfig, step: int) -> float:
    """Give the learning rate of a step (from 0): linear warm-up, then a decay at each milestone."""
    optimizer = config.optimizer
    passed = sum(step >= milestone * config.num_steps for milestone in optimizer.milestones)
    warmup = min(1.0, (step + 1) / max(optimizer.warmup_steps, 1))
    return optimizer.learning_rate * warmup * optimizer.decay**passed


def set_learning_rate(optimizer: Optimizer, value: float) -> None:
    """Give every group its share of a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = value * group["lr_multiplier"]


def _trainable(model: nn.Module) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """List name, parameter and whether it must not decay, once per parameter."""
    seen: set[nn.Parameter] = set()
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or parameter in seen:
                continue
            seen.add(parameter)
            undecayed = isinstance(module, _UNDECAYED_MODULES) or name in _UNDECAYED_NAMES
            yield f"{path}.{name}" if path else name, parameter, undecayed
