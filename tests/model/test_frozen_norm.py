import timm
import torch
from timm.layers.norm_act import freeze_batch_norm_2d
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from univs.model.frozen_norm import FoldedNorm, NormedConv2d, fold_norms


def with_statistics(module: nn.Module) -> nn.Module:
    """Give every frozen norm statistics and scales of its own."""
    torch.manual_seed(0)
    for norm in module.modules():
        if isinstance(norm, FrozenBatchNorm2d):
            norm.weight.uniform_(0.5, 1.5)
            norm.bias.normal_()
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    return module.eval()


def resnet(name: str = "resnet18") -> nn.Module:
    torch.manual_seed(0)
    body = timm.create_model(name, features_only=True, pretrained=False)
    return with_statistics(freeze_batch_norm_2d(body))


def test_folded_resnet_gives_the_same_maps_and_gradients():
    for name in ("resnet18", "resnet50"):
        plain, folded = resnet(name), resnet(name)
        fold_norms(folded)
        images = torch.randn(2, 3, 64, 96)
        for expected, got in zip(plain(images), folded(images), strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
        for body in (plain, folded):
            body(images)[-1].mean().backward()
        for (key, expected), (_, got) in zip(
            plain.named_parameters(), folded.named_parameters(), strict=True
        ):
            scale = expected.grad.abs().max().item()
            torch.testing.assert_close(got.grad, expected.grad, rtol=1e-3, atol=1e-3 * scale, msg=key)


def test_folding_leaves_no_norm_of_a_resnet_and_keeps_every_name():
    plain, folded = resnet("resnet50"), resnet("resnet50")
    fold_norms(folded)
    assert not [norm for norm in folded.modules() if type(norm) is FrozenBatchNorm2d]
    assert sum(isinstance(norm, FoldedNorm) for norm in folded.modules()) == 53
    assert list(folded.state_dict()) == list(plain.state_dict())


def test_statistics_loaded_after_folding_count():
    folded = resnet()
    fold_norms(folded)
    fresh = resnet()
    for norm in (module for module in fresh.modules() if isinstance(module, FrozenBatchNorm2d)):
        norm.bias.add_(1)
    folded.load_state_dict(fresh.state_dict())
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(folded(images)[0], fresh(images)[0], rtol=1e-4, atol=1e-4)


def test_only_a_plain_convolution_right_before_a_norm_is_folded():
    class Doubled(nn.Conv2d):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    chain = nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ReLU(), FrozenBatchNorm2d(4), Doubled(4, 4, 1), FrozenBatchNorm2d(4)
    )
    fold_norms(with_statistics(chain))
    assert not [layer for layer in chain if isinstance(layer, NormedConv2d | FoldedNorm)]
