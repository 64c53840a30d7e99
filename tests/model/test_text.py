import pytest
import torch
import torch.nn.functional as F

from univs.config import TextConfig
from univs.model.text import TextEncoder, prompt_templates, tokenizer

SMALL = TextConfig(width=64, num_layers=2, num_heads=2, context_length=24, embed_dim=48, num_templates=1)


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    torch.manual_seed(0)
    return TextEncoder(SMALL)


def test_templates_start_plain_and_are_81():
    assert len(set(prompt_templates())) == 81
    assert prompt_templates()[:3] == ("{}.", "a photo of a {}.", "a bad photo of a {}.")
    assert prompt_templates()[-1] == "a tattoo of the {}."
    assert all(template.count("{}") == 1 for template in prompt_templates())


def test_encode_gives_same_string_same_feature_whatever_its_company(encoder):
    together = encoder.encode(["a red circle", "dog", "a red circle", "a big person riding a small horse"])
    alone = TextEncoder(SMALL)
    alone.load_state_dict(encoder.state_dict())
    separate = alone.encode(["a red circle"])
    assert torch.equal(together.sentences[0], together.sentences[2])
    torch.testing.assert_close(together.sentences[0], separate.sentences[0], atol=1e-5, rtol=1e-5)
    num_words = int(separate.word_valid.sum())
    torch.testing.assert_close(together.words[0, :num_words], separate.words[0], atol=1e-5, rtol=1e-5)


def test_untrained_tower_tells_strings_apart(encoder):
    names = ["person", "car", "red circle", "blue circle", "green square", "sky", "grass", "dog"]
    unit = F.normalize(encoder.bank(names), dim=-1)
    similarity = unit @ unit.T - torch.eye(len(names))
    assert similarity.max() < 0.99


def test_word_valid_counts_the_tokens_of_each_string(encoder):
    features = encoder.encode(["dog", "a dog on the left"])
    # start, the words, the template's period, end
    assert features.word_valid.sum(-1).tolist() == [4, 8]
    assert features.words.shape == (2, 8, 48)
    assert features.words[0, 4:].abs().max() == 0


def test_words_do_not_depend_on_what_follows(encoder):
    short, long = encoder.encode(["a dog"]), encoder.encode(["a dog on the left"])
    torch.testing.assert_close(short.words[0, :3], long.words[0, :3], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(short.words[0, 3], long.words[0, 3])


def test_truncated_string_keeps_its_end_token(encoder):
    tokens = encoder.tokenize(["dog " * 60, "dog"])
    assert tokens.shape == (2, 24)
    assert tokens[0, -1] == tokenizer().eot_token_id
    assert tokens[1, 3:].abs().sum() == 0
    assert encoder.encode(["dog " * 60]).word_valid.sum() == 24


def test_sentence_is_the_mean_of_the_end_tokens_over_templates():
    torch.manual_seed(1)
    encoder = TextEncoder(TextConfig(width=64, num_layers=1, num_heads=2, embed_dim=32, num_templates=3))
    ends = []
    for template in prompt_templates()[:3]:
        tokens = tokenizer()([template.format("sea lion")], 77)
        ends.append(encoder(tokens)[0, int(tokens.argmax())])
    expected = torch.stack(ends).mean(0)
    torch.testing.assert_close(encoder.bank(["sea lion"])[0], expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(encoder.encode(["sea lion"]).sentences[0], expected, atol=1e-5, rtol=1e-5)


def test_bank_equals_one_sentence_at_a_time():
    """Beginnings that templates share and lengths that differ must not show."""
    torch.manual_seed(2)
    encoder = TextEncoder(TextConfig(width=64, num_layers=3, num_heads=2, embed_dim=32, num_templates=81))
    names = ["dog", "dog house", "a rather long name of some seven words", "zebra", "dog", "", "dog " * 90]
    ends = []
    for name in names:
        tokens = [tokenizer()([template.format(name)], 77) for template in prompt_templates()]
        ends.append(torch.stack([encoder(each)[0, int(each.argmax())] for each in tokens]).mean(0))
    torch.testing.assert_close(encoder.bank(names), torch.stack(ends), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(encoder.bank(names[:1])[0], ends[0], atol=1e-5, rtol=1e-4)


def test_bank_in_many_small_batches_is_the_same(monkeypatch):
    torch.manual_seed(3)
    encoder = TextEncoder(TextConfig(width=64, num_layers=2, num_heads=2, embed_dim=32, num_templates=5))
    names = ["dog", "a red circle", "zebra", "sea lion", "person riding a horse"]
    expected = encoder.bank(names)
    encoder.load_state_dict(encoder.state_dict())
    monkeypatch.setattr("univs.model.text.TOKENS_AT_ONCE", 7)
    monkeypatch.setattr("univs.model.text.STRINGS_AT_ONCE", 2)
    torch.testing.assert_close(encoder.bank(names), expected, atol=1e-5, rtol=1e-5)


def test_reference_compat_cuts_long_strings_without_an_end_token():
    torch.manual_seed(0)
    ours, theirs = TextEncoder(SMALL), TextEncoder(SMALL, reference_compat=True)
    theirs.load_state_dict(ours.state_dict())
    tokens = theirs.tokenize(["dog " * 60])
    assert tokens.shape == (1, 24)
    assert not (tokens == tokenizer().eot_token_id).any()
    # The highest id is then that of the start token, which is the same for all such strings.
    long = theirs.encode(["dog " * 60, "cat " * 60]).sentences
    assert torch.equal(long[0], long[1])
    torch.testing.assert_close(long[0], theirs(tokens)[0, 0], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(*ours.encode(["dog " * 60, "cat " * 60]).sentences)
    torch.testing.assert_close(theirs.bank(["dog"]), ours.bank(["dog"]))


def test_reference_compat_counts_padding_as_words():
    torch.manual_seed(0)
    ours, theirs = TextEncoder(SMALL), TextEncoder(SMALL, reference_compat=True)
    theirs.load_state_dict(ours.state_dict())
    features, expected = theirs.encode(["a dog"]), ours.encode(["a dog"])
    assert features.words.shape == (1, 24, 48)
    assert features.word_valid.all()
    num_words = int(expected.word_valid.sum())
    torch.testing.assert_close(features.words[0, :num_words], expected.words[0], atol=1e-5, rtol=1e-5)
    assert features.words[0, num_words:].abs().amax(-1).min() > 0


def test_new_weights_replace_remembered_features():
    torch.manual_seed(0)
    first, second = TextEncoder(SMALL), TextEncoder(SMALL)
    before = first.bank(["dog"])
    first.encode(["dog"])
    first.load_state_dict(second.state_dict())
    assert torch.equal(first.bank(["dog"]), second.bank(["dog"]))
    assert torch.equal(first.encode(["dog"]).sentences, second.encode(["dog"]).sentences)
    assert not torch.equal(first.bank(["dog"]), before)


def test_tower_equals_hugging_face_clip(encoder):
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=64, intermediate_size=256, projection_dim=48, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=24, hidden_act="quick_gelu",
    )  # fmt: skip
    clip = CLIPTextModelWithProjection(config).eval()
    ours = encoder.state_dict()
    theirs = {
        "text_model.embeddings.token_embedding.weight": ours["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": ours["positional_embedding"],
        "text_model.final_layer_norm.weight": ours["ln_final.weight"],
        "text_model.final_layer_norm.bias": ours["ln_final.bias"],
        "text_projection.weight": ours["text_projection"].T,
    }
    for layer in range(2):
        source, target = f"layers.{layer}.", f"text_model.encoder.layers.{layer}."
        for kind in ("weight", "bias"):
            parts = ours[f"{source}attn.in_proj_{kind}"].chunk(3)
            for name, part in zip("qkv", parts, strict=True):
                theirs[f"{target}self_attn.{name}_proj.{kind}"] = part
            theirs[f"{target}self_attn.out_proj.{kind}"] = ours[f"{source}attn.out_proj.{kind}"]
            theirs[f"{target}mlp.fc1.{kind}"] = ours[f"{source}c_fc.{kind}"]
            theirs[f"{target}mlp.fc2.{kind}"] = ours[f"{source}c_proj.{kind}"]
            theirs[f"{target}layer_norm1.{kind}"] = ours[f"{source}ln_1.{kind}"]
            theirs[f"{target}layer_norm2.{kind}"] = ours[f"{source}ln_2.{kind}"]
    missing = clip.load_state_dict(theirs, strict=False).missing_keys
    assert not [name for name in missing if "position_ids" not in name]
    tokens = encoder.tokenize(["a small brown dog"])
    with torch.no_grad():
        hidden = clip(input_ids=tokens, attention_mask=torch.ones_like(tokens)).last_hidden_state
        expected = hidden @ ours["text_projection"]
    torch.testing.assert_close(encoder(tokens), expected, atol=1e-4, rtol=1e-4)


def test_num_templates_out_of_range_is_refused():
    with pytest.raises(ValueError, match="num_templates is 82, expected 1 to 81"):
        TextEncoder(TextConfig(num_templates=82))
