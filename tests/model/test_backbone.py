import pytest
import torch

from pipelines.recipes.models import released
from univs.config import BackboneConfig, ModelConfig
from univs.model.backbone import Backbone
from univs.model.decoder import Decoder
from univs.model.pixel_decoder import PixelDecoder
from univs.model.prompts import PromptEncoder
from univs.model.univs import UniVS


def trainable(backbone: Backbone) -> set[str]:
    return {name for name, parameter in backbone.named_parameters() if parameter.requires_grad}


@pytest.mark.parametrize("name", ["test_convnext2", "test_resnet", "swin_t"])
def test_backbone_gives_strides_4_to_32(name):
    backbone = Backbone(BackboneConfig(name=name)).eval()
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 64, 96))
    assert [feature_map.shape[-2:] for feature_map in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert [feature_map.shape[1] for feature_map in maps] == list(backbone.num_channels)


def test_convnext_of_timm_runs_by_name():
    backbone = Backbone(BackboneConfig(name="convnext_tiny")).eval()
    assert backbone.num_channels == (96, 192, 384, 768)
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 64, 96))
    assert [tuple(feature_map.shape) for feature_map in maps] == [
        (1, 96, 16, 24), (1, 192, 8, 12), (1, 384, 4, 6), (1, 768, 2, 3)
    ]  # fmt: skip


def swin_parameters(width: int, depths: list[int], heads: list[int], window: int) -> int:
    """Count a Swin's parameters from the paper's sizes, with a norm on each of the four outputs."""
    total = 3 * 16 * width + 3 * width
    for stage, (depth, num_heads) in enumerate(zip(depths, heads, strict=True)):
        channels = width * 2**stage
        attention = 4 * channels**2 + 4 * channels + (2 * window - 1) ** 2 * num_heads
        total += depth * (attention + 8 * channels**2 + 5 * channels + 4 * channels) + 2 * channels
        if stage < 3:
            total += 8 * channels**2 + 8 * channels
    return total


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("swin_t", (96, [2, 2, 6, 2], [3, 6, 12, 24], 7)),
        ("swin_b", (128, [2, 2, 18, 2], [4, 8, 16, 32], 12)),
        ("swin_l", (192, [2, 2, 18, 2], [6, 12, 24, 48], 12)),
    ],
)
def test_released_swin_sizes_have_the_papers_parameters(name, settings):
    with torch.device("meta"):
        model = UniVS(released(name))
    assert sum(p.numel() for p in model.backbone.parameters()) == swin_parameters(*settings)
    with torch.device("meta"):
        reference = UniVS(released("resnet50"))
    predictor = ("decoder.", "prompt_encoder.", "level_embed.")
    sizes = [
        sum(p.numel() for key, p in each.named_parameters() if key.startswith(predictor))
        for each in (model, reference)
    ]
    assert sizes[0] == sizes[1]


def test_batch_norm_is_frozen_at_a_useful_scale():
    backbone = Backbone(BackboneConfig(name="test_resnet")).train()
    image = torch.randn(2, 3, 64, 64)
    together, alone = backbone(image)[3][:1], backbone(image[:1])[3]
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)
    together.square().mean().backward()
    last_convolution = backbone.body.layer4[0].conv2.weight.grad
    assert last_convolution is not None
    assert last_convolution.abs().max() > 0
    assert not any("bn" in name for name, _ in backbone.named_parameters())


@pytest.mark.parametrize(
    ("stages", "frozen"),
    [
        (0, set()),
        (1, {"stem_0", "stem_1"}),
        (3, {"stem_0", "stem_1", "stages_0", "stages_1"}),
        (5, {"stem_0", "stem_1", "stages_0", "stages_1", "stages_2", "stages_3"}),
    ],
)
def test_frozen_stages_count_from_the_stem(stages, frozen):
    backbone = Backbone(BackboneConfig(name="test_convnext2", frozen_stages=stages))
    all_names = {name for name, _ in backbone.named_parameters()}
    expected = {name for name in all_names if name.split(".")[1] in frozen}
    assert all_names - trainable(backbone) == expected


def test_frozen_resnet_stage_includes_its_blocks():
    backbone = Backbone(BackboneConfig(name="test_resnet", frozen_stages=2))
    assert {name.split(".")[1] for name in trainable(backbone)} == {"layer2", "layer3", "layer4"}


@pytest.mark.parametrize(("stages", "last_frozen"), [(1, -1), (4, 2), (5, 3)])
def test_frozen_swin_keeps_training_its_output_norms(stages, last_frozen):
    backbone = Backbone(BackboneConfig(name="swin_t", frozen_stages=stages, drop_path=0.3))
    names = trainable(backbone)
    assert {name.split(".")[2] for name in names if "hidden_states_norms" in name} == {
        "stage1", "stage2", "stage3", "stage4"
    }  # fmt: skip
    assert not any("embeddings" in name for name in names)
    layers = {int(name.split(".")[4]) for name in names if ".encoder.layers." in name}
    assert layers == set(range(last_frozen + 1, 4))


def test_frozen_parts_stay_in_evaluation_mode():
    backbone = Backbone(BackboneConfig(name="swin_t", frozen_stages=5, drop_path=0.9)).train()
    image = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(backbone(image)[3], backbone(image)[3])


def test_unfit_backbones_are_refused_by_name():
    with pytest.raises(ValueError, match=r"backbone test_vit has feature strides"):
        Backbone(BackboneConfig(name="test_vit"))
    with pytest.raises(
        ValueError, match=r"backbone levit_128s gives no four feature maps through timm: .*range"
    ):
        Backbone(BackboneConfig(name="levit_128s"))
    with pytest.raises(ValueError, match=r"backbone no_such_net gives no four feature maps .*Unknown model"):
        Backbone(BackboneConfig(name="no_such_net"))
    with pytest.raises(ValueError, match="frozen_stages is 6, expected 0 to 5"):
        Backbone(BackboneConfig(name="test_resnet", frozen_stages=6))
    with pytest.raises(ValueError, match="set frozen_stages to 0 or 5"):
        Backbone(BackboneConfig(name="test_efficientnet", frozen_stages=2))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (
            "mambaout_femto",
            r"gives maps of \[\(16, 24, 48\), .*expected channels first as in \[\(48, 16, 24\)",
        ),
        ("coat_tiny", r"does not take an image of \(64, 96\): .*Input height"),
    ],
)
def test_timm_models_with_other_maps_are_refused_at_construction(name, reason):
    with torch.device("meta"), pytest.raises(ValueError, match=f"^backbone {name} {reason}[^\n]*$"):
        Backbone(BackboneConfig(name=name))


def test_r50_model_has_the_released_parameter_counts():
    config = ModelConfig()
    with torch.device("meta"):
        backbone = Backbone(config.backbone)
        pixel_decoder = PixelDecoder(backbone.num_channels, config.hidden_dim, config.pixel_decoder)
        predictor = [Decoder(config), PromptEncoder(config), torch.nn.Embedding(3, config.hidden_dim)]
    assert sum(p.numel() for p in backbone.parameters()) == 23_454_912
    assert sum(p.numel() for p in pixel_decoder.parameters()) == 6_035_904
    # The original's second temperature was never used.
    assert sum(p.numel() for part in predictor for p in part.parameters()) == 17_477_250 - 1
