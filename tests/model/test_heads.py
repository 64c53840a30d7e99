from dataclasses import replace

import pytest
import torch

from univs.config import DecoderConfig, ModelConfig, PixelDecoderConfig, TextConfig
from univs.model.heads import Heads

CONFIG = ModelConfig(
    hidden_dim=16,
    pixel_decoder=PixelDecoderConfig(num_heads=2),
    decoder=DecoderConfig(num_heads=2),
    text=TextConfig(width=8, num_heads=2, embed_dim=8),
    class_head="linear",
    num_linear_classes=3,
)


def test_linear_head_averages_its_logits_over_frames():
    torch.manual_seed(0)
    heads = Heads(CONFIG).eval()
    queries = torch.randn(2, 3, 5, 16)
    logits = heads(queries, None, 0).class_logits
    assert logits.shape == (2, 5, 4)
    weight, bias = heads.class_embed.weight, heads.class_embed.bias
    expected = sum(heads.norm(queries[:, frame]) @ weight.T + bias for frame in range(3)) / 3
    torch.testing.assert_close(logits, expected)


def test_linear_head_refuses_a_text_bank():
    with pytest.raises(ValueError, match="linear class head"):
        Heads(CONFIG)(torch.randn(1, 1, 2, 16), torch.randn(7, 8), 0)


def test_text_head_has_no_linear_layer():
    heads = Heads(replace(CONFIG, class_head="text", num_linear_classes=0))
    assert not [name for name in heads.state_dict() if "class_embed" in name]


@pytest.mark.parametrize(("head", "num_classes"), [("text", 3), ("linear", 0)])
def test_class_head_and_number_of_classes_must_go_together(head, num_classes):
    with pytest.raises(
        ValueError, match=f"class_head {head} does not go with num_linear_classes {num_classes}"
    ):
        replace(CONFIG, class_head=head, num_linear_classes=num_classes)
