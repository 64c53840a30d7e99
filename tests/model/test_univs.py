from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from univs.config import (
    BackboneConfig,
    DecoderConfig,
    ModelConfig,
    PixelDecoderConfig,
    PromptConfig,
    TextConfig,
)
from univs.draws import Draws
from univs.model.regions import mask_regions
from univs.model.types import Features, Predictions, Prompts, RegionTokens, TextFeatures, VisualRegions
from univs.model.univs import UniVS

CONFIG = ModelConfig(
    hidden_dim=64,
    backbone=BackboneConfig(name="test_convnext2"),
    pixel_decoder=PixelDecoderConfig(num_layers=2, num_heads=4, num_points=4, ffn_dim=128),
    decoder=DecoderConfig(num_queries=20, num_layers=3, num_heads=4, ffn_dim=128),
    prompts=PromptConfig(tokens_per_object=16),
    text=TextConfig(width=64, num_layers=2, num_heads=2, context_length=24, embed_dim=48, num_templates=1),
)
B, T, H, W, P = 2, 3, 96, 128, 3
TASKS = ["sot", "detection", "category", "grounding"]


@pytest.fixture(scope="module")
def model() -> UniVS:
    torch.manual_seed(0)
    model = UniVS(CONFIG).eval()
    # A shift of the mask logits makes some attention masks empty and some full, as in a trained model.
    torch.nn.init.normal_(model.pixel_decoder.mask_features.bias, std=1.0)
    for layer in model.pixel_decoder.layers:
        # Zero at first, and so long no gradient passes to what the offsets are computed from.
        torch.nn.init.normal_(layer.self_attn.sampling_offsets.weight, std=0.05)
    return model


@pytest.fixture(scope="module")
def features(model) -> Features:
    torch.manual_seed(1)
    with torch.no_grad():
        return model.encode(torch.randn(B, T, 3, H, W), torch.tensor([[0, 4, 9], [20, 21, 22]]))


def squares(num_prompts: int = P) -> VisualRegions:
    masks = torch.zeros(B, num_prompts, H, W, dtype=torch.bool)
    for prompt in range(num_prompts):
        masks[:, prompt, 8 * prompt : 8 * prompt + 40, 10 * prompt : 10 * prompt + 32] = True
    shape = (B, num_prompts)
    return VisualRegions(
        masks=masks,
        boxes=torch.tensor([0.1, 0.2, 0.5, 0.6]).expand(*shape, 4),
        points=torch.tensor([0.3, 0.7]).expand(*shape, 2),
        kinds=(torch.arange(num_prompts) % 3).expand(shape),
        key_frames=(torch.arange(num_prompts) % T).expand(shape),
        valid=torch.ones(shape, dtype=torch.bool),
    )


def build(model: UniVS, features: Features, task: str, num_prompts: int = P) -> Prompts:
    """Prompts of each of the four kinds, all valid."""
    valid = torch.ones(B, num_prompts, dtype=torch.bool)
    if task in ("sot", "detection"):
        tokens = model.region_tokens(features, squares(num_prompts), torch.Generator().manual_seed(0))
        return model.prompt(features, tokens, valid, task=task)
    text = model.text.encode(["one thing", "the second thing", "a third thing on the left", "another"])
    sentences = text.sentences[:num_prompts].expand(B, -1, -1)
    if task == "category":
        return model.prompt(features, sentences, valid)
    batched = TextFeatures(
        sentences=sentences,
        words=text.words[:num_prompts].expand(B, -1, -1, -1),
        word_valid=text.word_valid[:num_prompts].expand(B, -1, -1),
    )
    return model.prompt(features, batched, valid)


def reorder(prompts: Prompts, order: list[int], valid: torch.Tensor | None = None) -> Prompts:
    positions = prompts.token_positions
    return replace(
        prompts,
        queries=prompts.queries[:, order],
        query_positions=prompts.query_positions[:, order],
        tokens=prompts.tokens[:, order],
        token_positions=None if positions is None else positions[:, order],
        token_valid=prompts.token_valid[:, order],
        valid=prompts.valid[:, order] if valid is None else valid,
    )


def assert_same(
    got: Predictions, expected: Predictions, got_rows: slice | list, expected_rows: slice | list
) -> None:
    for layer in range(len(expected.layers)):
        ours, theirs = got.layers[layer], expected.layers[layer]
        for name in ("embeddings", "mask_embeddings", "class_logits"):
            left, right = getattr(ours, name)[:, got_rows], getattr(theirs, name)[:, expected_rows]
            torch.testing.assert_close(
                left, right, atol=2e-5, rtol=2e-5, msg=f"{name} of layer {layer} differ"
            )


@pytest.mark.parametrize("task", TASKS)
def test_decode_gives_every_layer_the_promised_shapes(model, features, task):
    prompts = build(model, features, task)
    with torch.no_grad():
        predictions = model.decode(features, prompts, model.text.bank(["cat", "dog", "sky", "car"]))
    assert len(predictions.layers) == CONFIG.decoder.num_layers + 1
    assert predictions.num_learnable == 20
    for layer in predictions.layers:
        assert layer.embeddings.shape == layer.mask_embeddings.shape == (B, 20 + P, T, 64)
        assert layer.class_logits.shape == (B, 20 + P, 4)
    assert predictions.mask_logits().shape == (B, 20 + P, T, H // 4, W // 4)


def test_decode_without_a_bank_gives_no_categories(model, features):
    with torch.no_grad():
        assert model.decode(features, None, None).final.class_logits.shape == (B, 20, 0)


@pytest.mark.parametrize("size", [(32, 32), (96, 128), (64, 160)])
def test_encode_gives_four_strides_at_any_multiple_of_32(model, size):
    with torch.no_grad():
        features = model.encode(torch.randn(1, 1, 3, *size), torch.zeros(1, 1, dtype=torch.long))
    for level, stride in zip((*features.levels, features.mask), (32, 16, 8, 4), strict=True):
        assert level.shape == (1, 1, 64, size[0] // stride, size[1] // stride)


def test_encode_refuses_unpadded_frames(model):
    with pytest.raises(ValueError, match=r"frames are \(90, 128\), expected multiples of 32"):
        model.encode(torch.randn(1, 1, 3, 90, 128), torch.zeros(1, 1, dtype=torch.long))


@pytest.mark.parametrize("task", TASKS)
def test_learnable_queries_do_not_notice_prompts(model, features, task):
    bank = model.text.bank(["cat", "dog"])
    with torch.no_grad():
        alone = model.decode(features, None, bank)
        prompted = model.decode(features, build(model, features, task), bank)
    assert_same(prompted, alone, slice(0, 20), slice(0, 20))


@pytest.mark.parametrize("task", TASKS)
def test_padding_prompts_do_not_change_the_others(model, features, task):
    """Rows that are not valid may hold anything."""
    prompts = build(model, features, task, num_prompts=4)
    padded = reorder(prompts, [0, 1, 2, 3], torch.tensor([[True, True, True, False]] * B))
    changed = replace(padded, queries=padded.queries.clone(), tokens=padded.tokens.clone())
    changed.queries[:, 3] = 5 * torch.randn_like(changed.queries[:, 3])
    changed.tokens[:, 3] = 5 * torch.randn_like(changed.tokens[:, 3])
    with torch.no_grad():
        expected = model.decode(features, reorder(prompts, [0, 1, 2]))
        assert_same(model.decode(features, changed), expected, slice(0, 23), slice(0, 23))


def test_clip_of_only_padding_prompts_stays_finite(model, features):
    prompts = build(model, features, "sot")
    nothing = replace(
        prompts, valid=torch.zeros_like(prompts.valid), token_valid=torch.zeros_like(prompts.token_valid)
    )
    with torch.no_grad():
        predictions = model.decode(features, nothing)
    assert predictions.final.embeddings.isfinite().all()


@pytest.mark.parametrize("task", TASKS)
def test_prompts_in_another_order_give_the_same_in_that_order(model, features, task):
    prompts = build(model, features, task)
    with torch.no_grad():
        expected = model.decode(features, prompts)
        got = model.decode(features, reorder(prompts, [2, 0, 1]))
    assert_same(got, expected, slice(20, 23), [22, 20, 21])


def test_grounding_prompts_do_not_notice_each_other_but_others_do(model, features):
    with torch.no_grad():
        for task, isolated in (("grounding", True), ("sot", False)):
            prompts = build(model, features, task)
            together = model.decode(features, prompts).final.embeddings[:, 20]
            alone = model.decode(features, reorder(prompts, [0])).final.embeddings[:, 20]
            assert torch.allclose(together, alone, atol=2e-5) == isolated


@pytest.mark.parametrize("task", ["sot", "grounding"])
def test_tokens_that_are_not_valid_are_not_looked_at(model, features, task):
    prompts = build(model, features, task)
    keep = prompts.token_valid.clone()
    keep[..., 5:] = False
    noise = torch.randn_like(prompts.tokens)
    tokens = torch.where(keep[:, :, None, :, None], prompts.tokens, noise)
    with torch.no_grad():
        got = model.decode(features, replace(prompts, tokens=tokens, token_valid=keep))
        expected = model.decode(features, replace(prompts, token_valid=keep))
        unmasked = model.decode(features, prompts)
    assert_same(got, expected, slice(None), slice(None))
    assert not torch.allclose(unmasked.final.embeddings[:, 20:], expected.final.embeddings[:, 20:], atol=1e-4)


def test_clips_of_a_batch_do_not_mix(model, features):
    second = Features(
        levels=tuple(level[1:] for level in features.levels),
        mask=features.mask[1:],
        frame_indices=features.frame_indices[1:],
    )
    with torch.no_grad():
        both, alone = model.decode(features), model.decode(second)
    torch.testing.assert_close(both.final.embeddings[1:], alone.final.embeddings, atol=2e-5, rtol=2e-5)


def test_frames_of_a_clip_inform_each_other(model, features):
    changed = replace(features, levels=tuple(level.clone() for level in features.levels))
    for level in changed.levels:
        level[:, 2] += 1.0
    with torch.no_grad():
        difference = model.decode(features).final.embeddings - model.decode(changed).final.embeddings
    assert difference[:, :, 0].abs().max() > 1e-4


def test_visual_prompt_starts_at_the_mean_of_its_valid_tokens(model, features):
    valid_tokens = torch.zeros(B, 1, T, 4, dtype=torch.bool)
    valid_tokens[..., :3] = True
    valid_tokens[:, :, 2] = False
    slots = RegionTokens(
        features=torch.randn(B, 1, T, 4, 64), positions=torch.randn(B, 1, T, 4, 64), valid=valid_tokens
    )
    prompts = model.prompt(features, slots, torch.ones(B, 1, dtype=torch.bool), memory=slots)
    vector = model.prompt_encoder.sot_vector.weight[0]
    expected = slots.features[:, :, :2, :3].mean(3) + vector
    torch.testing.assert_close(prompts.queries[:, :, :2], expected)
    torch.testing.assert_close(prompts.queries[:, :, 2], vector.expand(B, 1, -1))
    torch.testing.assert_close(prompts.query_positions[:, :, :2], slots.positions[:, :, :2, :3].mean(3))
    assert prompts.tokens.shape == (B, 1, 1, 2 * T * 4, 64)


def test_shared_tokens_equal_tokens_repeated_per_frame(model, features):
    prompts = build(model, features, "sot")
    repeated = replace(
        prompts,
        tokens=prompts.tokens.expand(-1, -1, T, -1, -1),
        token_positions=prompts.token_positions.expand(-1, -1, T, -1, -1),
    )
    with torch.no_grad():
        assert_same(
            model.decode(features, repeated), model.decode(features, prompts), slice(None), slice(None)
        )


def test_expression_memory_is_looked_at(model, features):
    text = model.text.encode(["a dog"])
    batched = TextFeatures(
        sentences=text.sentences.expand(B, 1, -1),
        words=text.words.expand(B, 1, -1, -1),
        word_valid=text.word_valid.expand(B, 1, -1),
    )
    memory = model.region_tokens(features, squares(1), torch.Generator().manual_seed(0))
    valid = torch.ones(B, 1, dtype=torch.bool)
    with torch.no_grad():
        prompts = model.prompt(features, batched, valid, memory=memory)
        remembered = model.decode(features, prompts).final.embeddings[:, 20]
        fresh = model.decode(features, model.prompt(features, batched, valid)).final.embeddings[:, 20]
    assert prompts.tokens.shape == (B, 1, T, 16 + 1 + text.words.shape[1], 64)
    assert not torch.allclose(remembered, fresh, atol=1e-4)


def test_grounding_shares_the_mask_of_the_most_similar_learnable_query(model, features):
    prompts = build(model, features, "grounding")
    with torch.no_grad():
        final = model.decode(features, prompts).final
        own = model.decoder.heads.mask_embeddings(final.embeddings)
    unit = F.normalize(final.embeddings, dim=-1)
    for clip in range(B):
        for prompt in range(20, 20 + P):
            similarity = (unit[clip, prompt] * unit[clip, :20]).sum(-1).mean(-1)
            best = int(similarity.argmax())
            expected = (own[clip, prompt] + own[clip, best]) / 2
            torch.testing.assert_close(final.mask_embeddings[clip, prompt], expected, atol=1e-5, rtol=1e-5)


def test_class_logits_are_scaled_cosines_averaged_over_frames(model, features):
    bank = model.text.bank(["cat", "dog"])
    with torch.no_grad():
        final = model.decode(features, None, bank).final
        text = model.decoder.heads.vision_to_text(final.embeddings)
        cosine = F.cosine_similarity(text[:, :, :, None], bank, dim=-1).mean(2)
    torch.testing.assert_close(final.class_logits, cosine / 0.07, atol=1e-4, rtol=1e-4)


def test_training_moves_mask_embeddings_between_frames_together(model):
    torch.manual_seed(3)
    heads, x = model.decoder.heads, torch.randn(B, T, 5, 64)
    expected = heads(x, None, 0)
    heads.train()
    try:
        predictions = [heads(x, None, 0) for _ in range(8)]
    finally:
        heads.eval()
    orders = set()
    for prediction in predictions:
        got = prediction.mask_embeddings
        order = [
            int((expected.mask_embeddings[0, 0] - got[0, 0, t]).abs().sum(-1).argmin()) for t in range(T)
        ]
        orders.add(tuple(order))
        torch.testing.assert_close(got, expected.mask_embeddings[:, :, order], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(prediction.embeddings, expected.embeddings)
    assert len(orders) > 1
    assert all(sorted(order) == list(range(T)) for order in orders)


def gradients(model: UniVS, task: str) -> set[str]:
    """Names of the parameters that a loss on every output reaches with something other than zero."""
    model.zero_grad(set_to_none=True)
    torch.manual_seed(2)
    features = model.encode(torch.randn(B, T, 3, H, W), torch.tensor([[0, 4, 9]] * B))
    predictions = model.decode(features, build(model, features, task), model.text.bank(["cat", "dog"]))
    total = predictions.mask_logits().square().mean()
    for layer in predictions.layers:
        total = total + layer.mask_embeddings.square().mean() + layer.class_logits.square().mean()
    total.backward()
    return {
        name for name, parameter in model.named_parameters()
        if parameter.grad is not None and parameter.grad.abs().max() > 0
    }  # fmt: skip


def test_gradient_reaches_what_each_task_trains_and_never_the_text_tower(model):
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    reached = {task: gradients(model, task) for task in TASKS}
    model.zero_grad(set_to_none=True)
    assert set().union(*reached.values()) == trainable
    assert "prompt_encoder.sot_vector.weight" in reached["sot"] & reached["detection"]
    assert "prompt_encoder.detection_vector.weight" in reached["category"]
    assert "prompt_encoder.grounding_vector.weight" in reached["grounding"]
    assert not any(name.startswith("text.") for name in trainable)


def test_bfloat16_autocast_trains_with_float32_predictions(model):
    with torch.autocast("cpu", torch.bfloat16):
        features = model.encode(torch.randn(1, 1, 3, 64, 64), torch.zeros(1, 1, dtype=torch.long))
        final = model.decode(features, None, model.text.bank(["cat"])).final
        loss = final.class_logits.sum() + final.mask_embeddings.square().sum()
    loss.backward()
    assert final.class_logits.dtype == final.mask_embeddings.dtype == torch.float32
    assert model.backbone.body.stem_0.weight.grad.isfinite().all()
    model.zero_grad(set_to_none=True)


@pytest.fixture(scope="module")
def original(model) -> UniVS:
    """The same weights in a model that does as the original does."""
    twin = UniVS(replace(CONFIG, reference_compat=True)).eval()
    twin.load_state_dict(model.state_dict())
    return twin


def hidden_mask_tokens(model: UniVS, features: Features) -> RegionTokens:
    """Tokens of a large mask and of one that no cell's first pixel lies in."""
    masks = torch.zeros(B, 2, H, W, dtype=torch.bool)
    masks[:, 0, :40, :40] = True
    masks[:, 1, 49:55, 49:55] = True
    regions = mask_regions(masks, torch.zeros(B, 2, dtype=torch.long))
    return model.region_tokens(features, regions, torch.Generator().manual_seed(0))


def test_hidden_mask_is_blank_only_as_in_the_original(model, original, features):
    assert hidden_mask_tokens(model, features).features.abs().amax((0, 2, 3, 4)).min() > 0
    blank = hidden_mask_tokens(original, features)
    assert blank.features[:, 0].abs().max() > 0
    assert blank.features[:, 1].abs().max() == 0


def test_blank_tokens_are_attended_to_only_as_in_the_original(model, original, features):
    valid = torch.ones(B, 1, dtype=torch.bool)
    shape = (B, 1, 1, 4, 64)
    tokens = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    tokens[:, :, :, 2:] = 0
    slots = RegionTokens(features=tokens, positions=tokens.clone(), valid=(tokens != 0).all(-1))
    short = RegionTokens(
        features=tokens[..., :2, :], positions=tokens[..., :2, :], valid=slots.valid[..., :2]
    )

    def embed(which: UniVS, current: RegionTokens) -> torch.Tensor:
        with torch.no_grad():
            prompts = which.prompt(features, current, valid)
            return which.decode(features, prompts).final.embeddings[:, 20:]

    torch.testing.assert_close(embed(model, slots), embed(model, short), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(embed(original, slots), embed(original, short), atol=1e-3)


def test_original_lays_out_a_slot_per_frame_and_one_more(original, features):
    tokens = original.region_tokens(features, squares(), torch.Generator().manual_seed(0))
    valid = torch.ones(B, P, dtype=torch.bool)
    first = original.prompt(features, tokens, valid)
    assert first.tokens.shape[3] == (T + 1) * CONFIG.prompts.tokens_per_object
    later = original.prompt(features, tokens, valid, memory=tokens)
    assert later.tokens.shape[3] == 2 * CONFIG.prompts.tokens_per_object


class Replayed(Draws):
    """Answer what it was told to."""

    def __init__(self, coin: float, order: list[int]) -> None:
        self.coin, self.order = coin, order

    def rand(self, *shape, device=None):
        return torch.full(shape, self.coin, device=device)

    def randperm(self, num_items, *, device=None):
        return torch.tensor(self.order, device=device)


def test_training_draws_can_be_replayed(model, features):
    tokens = model.region_tokens(features, squares(), torch.Generator().manual_seed(0))
    valid = torch.ones(B, P, dtype=torch.bool)
    model.prompt_encoder.train()
    model.decoder.train()
    try:
        from_places, from_content = (
            model.prompt(features, tokens, valid, draws=Replayed(coin, [])).query_positions
            for coin in (0.9, 0.1)
        )
        with torch.no_grad():
            still = model.decode(features, None, None, Replayed(0.0, [0, 1, 2])).final
            turned = model.decode(features, None, None, Replayed(0.0, [2, 0, 1])).layers[0]
    finally:
        model.eval()
    torch.testing.assert_close(from_places[:, :, 0], tokens.positions[:, :, 0].mean(2))
    torch.testing.assert_close(from_content[:, :, 0], tokens.features[:, :, 0].mean(2))
    with torch.no_grad():
        plain = model.decode(features)
    torch.testing.assert_close(still.mask_embeddings, plain.final.mask_embeddings)
    torch.testing.assert_close(turned.mask_embeddings, plain.layers[0].mask_embeddings[:, :, [2, 0, 1]])


def test_same_generator_gives_the_same_prompts(model, features):
    first, second = build(model, features, "sot"), build(model, features, "sot")
    assert torch.equal(first.tokens, second.tokens)
