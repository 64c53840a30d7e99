from dataclasses import replace

import torch
import torch.nn.functional as F

from univs.config import DecoderConfig, ModelConfig, TextConfig
from univs.model.attention import Attention, PromptAttentionBlock
from univs.model.decoder import Decoder, ImageKeys, initialize
from univs.model.position import SinePosition
from univs.model.types import Features, LayerPrediction

CONFIG = ModelConfig(
    hidden_dim=32,
    decoder=DecoderConfig(num_queries=6, num_layers=1, num_heads=4, ffn_dim=64),
    text=TextConfig(embed_dim=16),
)


def random_features() -> Features:
    torch.manual_seed(0)
    levels = tuple(torch.randn(2, 2, 32, 3 * 2**i, 4 * 2**i) for i in range(3))
    return Features(
        levels=levels, mask=torch.randn(2, 2, 32, 24, 32), frame_indices=torch.tensor([[0, 1], [5, 9]])
    )


def test_attention_equals_torch_multihead_attention():
    torch.manual_seed(0)
    ours, theirs = Attention(32, 4), torch.nn.MultiheadAttention(32, 4, batch_first=True)
    theirs.load_state_dict(ours.state_dict())
    query, key, value = torch.randn(2, 5, 32), torch.randn(2, 7, 32), torch.randn(2, 7, 32)
    keep = torch.rand(2, 1, 5, 7) > 0.3
    keep[..., 0] = True
    expected, _ = theirs(query, key, value, attn_mask=(~keep).expand(-1, 4, -1, -1).flatten(0, 1))
    torch.testing.assert_close(ours(query, key, value, keep), expected, atol=1e-5, rtol=1e-5)


def test_prompt_attention_equals_one_attention_per_prompt_and_frame():
    torch.manual_seed(0)
    block = PromptAttentionBlock(32, 4)
    queries, positions = torch.randn(2, 3, 2, 32), torch.randn(2, 3, 2, 32)
    tokens, token_positions = torch.randn(2, 3, 1, 5, 32), torch.randn(2, 3, 1, 5, 32)
    valid = torch.rand(2, 3, 5) > 0.4
    got = block(queries, positions, tokens, token_positions, valid)
    for clip in range(2):
        for prompt in range(3):
            for frame in range(2):
                kept = valid[clip, prompt]
                own, place = queries[clip, prompt, frame], positions[clip, prompt, frame]
                value = torch.cat([own[None], tokens[clip, prompt, 0, kept]])
                key = value + torch.cat([place[None], token_positions[clip, prompt, 0, kept]])
                attended = block.attention((own + place)[None, None], key[None], value[None])[0, 0]
                expected = block.norm(own + attended)
                torch.testing.assert_close(got[clip, prompt, frame], expected, atol=1e-5, rtol=1e-5)


def test_attention_masks_equal_dense_masks_resized():
    features = random_features()
    embeddings = torch.randn(2, 6, 2, 32)
    embeddings[:, 5] = 0
    prediction = LayerPrediction(
        embeddings=embeddings, mask_embeddings=embeddings, class_logits=torch.zeros(2, 6, 0)
    )
    image = ImageKeys(features, SinePosition(32, "arbitrary_t"))
    dense = torch.einsum("bqtc,btchw->btqhw", embeddings, features.mask).flatten(0, 1)
    for level, source in enumerate(features.levels):
        resized = F.interpolate(dense, source.shape[-2:], mode="bilinear", align_corners=False).flatten(2)
        kept = image.keep_mask(prediction, level)[:, 0]
        certain = resized.abs() > 1e-4
        assert torch.equal(kept[certain], (resized > 0)[certain])
        assert kept[:, 5].all()


def test_empty_mask_looks_everywhere():
    features = random_features()
    positive = replace(features, mask=features.mask.abs() + 0.1)
    image = ImageKeys(positive, SinePosition(32, "arbitrary_t"))
    embeddings = torch.full((2, 6, 2, 32), -1.0)
    prediction = LayerPrediction(
        embeddings=embeddings, mask_embeddings=embeddings, class_logits=torch.zeros(2, 6, 0)
    )
    assert image.keep_mask(prediction, 2).all()


def test_masked_cross_attention_sees_only_its_mask():
    """A query whose mask covers one half of the frame does not notice a change in the other half."""
    torch.manual_seed(0)
    layer = next(Decoder(CONFIG).layers.children())
    x, positions = torch.randn(1, 1, 1, 32), torch.randn(1, 1, 1, 32)
    value, key = torch.randn(1, 12, 32), torch.randn(1, 12, 32)
    keep = torch.zeros(1, 1, 1, 12, dtype=torch.bool)
    keep[..., :6] = True
    before = layer.look_at_image(x, positions, key, value, keep)
    value[:, 6:], key[:, 6:] = 9.0, -9.0
    torch.testing.assert_close(layer.look_at_image(x, positions, key, value, keep), before)


def test_initial_weights_have_the_original_width_at_256_channels():
    torch.manual_seed(0)
    for hidden_dim, std in ((256, 0.02), (64, 0.04)):
        linear = torch.nn.Linear(hidden_dim, 2048)
        initialize([torch.nn.Sequential(linear)], hidden_dim)
        assert abs(float(linear.weight.detach().std()) - std) < 0.02 * std
        assert float(linear.bias.detach().abs().max()) == 0
