import pytest

from univs.config import TextConfig
from univs.model.architecture import recognize

FEAT = "sem_seg_head.predictor.query_feat.weight"


@pytest.mark.parametrize(
    "backbone", ["resnet18", "resnet50", "resnet101", "swin_t", "swin_s", "swin_b", "swin_l"]
)
def test_backbone_is_recognized(original, backbone):
    assert recognize(original(backbone, hollow=True)).backbone.name == backbone


def test_sizes_are_recognized(original):
    state = original(
        dim=48, num_queries=7, num_layers=4, pixel_layers=3, ffn_dim=96, pixel_ffn_dim=64, text_dim=512
    )
    config = recognize(state)
    assert config.hidden_dim == 48
    assert (config.decoder.num_queries, config.decoder.num_layers, config.decoder.ffn_dim) == (7, 4, 96)
    pixels = config.pixel_decoder
    assert (pixels.num_layers, pixels.ffn_dim, pixels.num_heads, pixels.num_points) == (3, 64, 8, 4)
    assert config.text == TextConfig(width=512, embed_dim=512, num_heads=8)
    assert recognize(original(classes=5, hollow=True)).text == TextConfig()


def test_layers_beyond_ten_are_counted_by_number(original):
    assert recognize(original(num_layers=12, hollow=True)).decoder.num_layers == 12


def refusal(state) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        recognize(state)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_cannot_be_recognized_is_named(original):
    state = original(hollow=True)
    assert f"{FEAT} is missing, is this" in refusal({})
    assert f"{FEAT} has shape (6,)" in refusal({**state, FEAT: state[FEAT][:, 0]})
    headless = {name: tensor for name, tensor in state.items() if not name.startswith("backbone.")}
    assert "no tensor of a backbone" in refusal(headless)
    assert "backbone.conv1.weight, expected a ResNet" in refusal(
        {**headless, "backbone.conv1.weight": state[FEAT]}
    )
    name = "sem_seg_head.pixel_decoder.transformer.encoder.layers.0.self_attn.attention_weights.weight"
    assert "has 95 rows, expected a multiple of 8" in refusal({**state, name: state[name][:95]})


def test_backbone_of_other_sizes_is_refused(original):
    resnet = original("resnet50", hollow=True)
    short = {name: tensor for name, tensor in resnet.items() if "res4.5." not in name}
    assert "3-4-5-3 blocks of 3 convolutions, expected one of resnet18" in refusal(short)
    swin = original("swin_t", hollow=True)
    table = "backbone.layers.0.blocks.0.attn.relative_position_bias_table"
    assert "window_size 6, expected one of swin_t" in refusal({**swin, table: swin[table][:121]})


def test_gap_in_the_layers_is_named(original):
    state = original(num_layers=4, hollow=True)
    gap = {name: tensor for name, tensor in state.items() if "cross_attention_layers.2." not in name}
    assert "transformer_cross_attention_layers.2 are missing" in refusal(gap)
