"""Image backbones: timm's feature extractors and the Swin transformers of the released weights.

timm's Swin shifts windows before it pads, transformers' after; only the latter equals the original.
"""

from typing import Any

import timm
import torch
from timm.layers.norm_act import FrozenBatchNormAct2d, freeze_batch_norm_2d
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from univs.config import BackboneConfig
from univs.model.frozen_norm import fold_norms

STRIDES = [4, 8, 16, 32]
SWIN_SETTINGS: dict[str, dict[str, Any]] = {
    "swin_t": {"embed_dim": 96, "depths": [2, 2, 6, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
    "swin_s": {"embed_dim": 96, "depths": [2, 2, 18, 2], "num_heads": [3, 6, 12, 24], "window_size": 7},
    "swin_b": {"embed_dim": 128, "depths": [2, 2, 18, 2], "num_heads": [4, 8, 16, 32], "window_size": 12},
    "swin_l": {"embed_dim": 192, "depths": [2, 2, 18, 2], "num_heads": [6, 12, 24, 48], "window_size": 12},
}
NUM_FREEZABLE = 5
"""The stem and four stages."""
TRIAL_SIZE = (64, 96)
"""Height and width of the image that a timm model has to take; not square, so that axes stay apart."""


class Backbone(nn.Module):
    """Map images to four feature maps; frozen parts get no gradient and stay in evaluation mode."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        if not 0 <= config.frozen_stages <= NUM_FREEZABLE:
            raise ValueError(f"frozen_stages is {config.frozen_stages}, expected 0 to {NUM_FREEZABLE}")
        self.is_swin = config.name in SWIN_SETTINGS
        self.body: Any = _build_swin(config) if self.is_swin else _build_timm(config)
        self.num_channels: tuple[int, ...] = tuple(
            self.body.channels if self.is_swin else self.body.feature_info.channels()
        )
        self._frozen = self._parts_to_freeze(config.frozen_stages)
        for module in self._frozen:
            module.requires_grad_(requires_grad=False)
        self.train()

    def _parts_to_freeze(self, num_parts: int) -> list[nn.Module]:
        if num_parts == 0:
            return []
        if self.is_swin:
            parts = _swin_parts(self.body)
        else:
            parts = [[self.body]] if num_parts == NUM_FREEZABLE else _timm_parts(self.body)
        return [module for part in parts[:num_parts] for module in part]

    def train(self, mode: bool = True) -> "Backbone":
        """Set the mode of everything that is not frozen."""
        super().train(mode)
        for module in self._frozen:
            module.eval()
        return self

    def forward(self, images: Tensor) -> list[Tensor]:
        """Encode [N, 3, H, W] -> four maps [N, C_i, H / s, W / s], s = 4, 8, 16, 32."""
        if self.is_swin:
            return list(self.body(images).feature_maps)
        # Convolutions are fastest with the channels last, on CPUs and GPUs alike.
        return list(self.body(images.contiguous(memory_format=torch.channels_last)))


def _build_swin(config: BackboneConfig) -> Any:
    # Imported here: it takes seconds, and only Swin needs it.
    from transformers import SwinBackbone, SwinConfig

    stages = ["stage1", "stage2", "stage3", "stage4"]
    settings = {**SWIN_SETTINGS[config.name], "drop_path_rate": config.drop_path, "out_features": stages}
    body: Any = SwinBackbone(SwinConfig(**settings))
    # The classifier's final norm sees no feature map that is used.
    body.swin.layernorm = nn.Identity()
    return body


def _build_timm(config: BackboneConfig) -> Any:
    options: dict[str, Any] = {"drop_path_rate": config.drop_path} if config.drop_path else {}
    try:
        body: Any = timm.create_model(
            config.name, pretrained=False, features_only=True, out_indices=(-4, -3, -2, -1), **options
        )
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"backbone {config.name} gives no four feature maps through timm: {error}"
        ) from error
    strides = body.feature_info.reduction()
    if strides != STRIDES:
        raise ValueError(f"backbone {config.name} has feature strides {strides}, expected {STRIDES}")
    _try_out(config.name, body)
    frozen: Any = freeze_batch_norm_2d(body)
    for module in frozen.modules():
        # timm starts the last norm of a residual branch at zero, where a frozen norm would stay for good.
        if isinstance(module, FrozenBatchNorm2d | FrozenBatchNormAct2d):
            scale: Any = module.weight
            scale.fill_(1)
    fold_norms(frozen)
    return frozen


@torch.no_grad()
def _try_out(name: str, body: Any) -> None:
    """Refuse a model that takes images of one size only or puts the channels of its maps last."""
    device = next(body.parameters()).device
    try:
        maps = body.eval()(torch.zeros(1, 3, *TRIAL_SIZE, device=device))
    except (AssertionError, RuntimeError) as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(f"backbone {name} does not take an image of {TRIAL_SIZE}: {reason}") from error
    shapes = [tuple(feature_map.shape[1:]) for feature_map in maps]
    sizes = [(TRIAL_SIZE[0] // stride, TRIAL_SIZE[1] // stride) for stride in STRIDES]
    expected = [(channels, *size) for channels, size in zip(body.feature_info.channels(), sizes, strict=True)]
    if shapes != expected:
        raise ValueError(f"backbone {name} gives maps of {shapes}, expected channels first as in {expected}")


def _swin_parts(body: Any) -> list[list[nn.Module]]:
    """List the stem and the four stages; the output norms belong to none, so they are never frozen."""
    return [[body.swin.embeddings], *([stage] for stage in body.swin.encoder.layers)]


def _timm_parts(body: Any) -> list[list[nn.Module]]:
    """Cut the extractor's children before each returned layer; what comes before the first is the stem."""
    returned = getattr(body, "return_layers", None)
    if returned is None:
        raise ValueError(f"stages of {type(body).__name__} cannot be told apart, set frozen_stages to 0 or 5")
    parts: list[list[nn.Module]] = [[]]
    for name, module in body.named_children():
        if name in returned:
            parts.append([module])
        else:
            parts[-1].append(module)
    return parts
