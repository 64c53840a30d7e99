"""Frozen batch norms folded into the convolutions before them.

``norm(conv(x))`` is one convolution with other weights; scaling the weights instead of the feature map spares
two passes over it, and their gradients. Parameters keep their names and values.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from timm.models import FeatureListNet
from timm.models.resnet import BasicBlock, Bottleneck
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

from univs.model.recompute import recomputed


class FoldedNorm(FrozenBatchNorm2d):
    """A frozen norm that the convolution before it applies."""

    def forward(self, x: Tensor) -> Tensor:
        """Give [N, C, H, W] as it is."""
        return x

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """Give the factor and the summand [C] of each channel."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        return scale, self.bias - self.running_mean * scale


class NormedConv2d(nn.Conv2d):
    """A convolution that also applies the frozen norm after it."""

    def __init__(self, convolution: nn.Conv2d, norm: FoldedNorm) -> None:
        options: dict[str, Any] = {
            name: getattr(convolution, name) for name in ("stride", "padding", "dilation", "groups")
        }
        kernel_size: Any = convolution.kernel_size
        super().__init__(
            convolution.in_channels, convolution.out_channels, kernel_size, bias=False, **options
        )
        self.weight = convolution.weight
        # In a tuple, so that its tensors are listed only once, under the norm's own name.
        self._norm = (norm,)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve and normalize [N, C, H, W].

        The scaled weights are not kept for the backward pass: of all layers they are as large as the model.
        """
        return recomputed(self._convolve, x) if self.weight.requires_grad else self._convolve(x)

    def _convolve(self, x: Tensor) -> Tensor:
        scale, shift = self._norm[0].scale_and_shift()
        return self._conv_forward(x, self.weight * scale[:, None, None, None], shift)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Pair:
    """A convolution directly followed by a frozen norm, with their names in the parent."""

    conv_name: str
    conv: nn.Conv2d
    norm_name: str
    norm: FrozenBatchNorm2d


def fold_norms(body: nn.Module) -> None:
    """Fold, in place, the norms inside ResNet blocks and chains of layers; leave others as they are."""
    for parent in list(body.modules()):
        if isinstance(parent, nn.Sequential | FeatureListNet | BasicBlock | Bottleneck):
            for pair in list(_pairs(parent)):
                folded = FoldedNorm(pair.norm.weight.shape[0], eps=pair.norm.eps)
                folded.load_state_dict(pair.norm.state_dict())
                setattr(parent, pair.conv_name, NormedConv2d(pair.conv, folded))
                setattr(parent, pair.norm_name, folded)


def _pairs(parent: nn.Module) -> Iterator[_Pair]:
    """Find the pairs whose convolution has no bias of its own."""
    for (conv_name, conv), (norm_name, norm) in pairwise(parent.named_children()):
        # Only these very types: what derives from them may do more.
        if type(conv) is not nn.Conv2d or type(norm) is not FrozenBatchNorm2d:
            continue
        if conv.bias is None and conv.padding_mode == "zeros":
            yield _Pair(conv_name=conv_name, conv=conv, norm_name=norm_name, norm=norm)
