import os
import pickle

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from univs.config import TextConfig
from univs.model.keys import text_to_reference
from univs.model.text import TextEncoder
from univs.model.text_weights import load_text_weights

SMALL = TextConfig(width=64, num_layers=2, num_heads=2, context_length=24, embed_dim=48, num_templates=1)
TEXTS = ["a small brown dog", "zebra"]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    torch.manual_seed(0)
    made = TextEncoder(SMALL)
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.1)
    return made


@pytest.fixture
def original(encoder) -> dict[str, torch.Tensor]:
    """The tower under CLIP's names."""
    named = text_to_reference({f"text.{name}": tensor for name, tensor in encoder.state_dict().items()})
    return {name.removeprefix("lang_encoder."): tensor for name, tensor in named.items()}


def prefixed(prefix, state):
    return {prefix + name: tensor for name, tensor in state.items()}


def assert_is_tower(path, encoder):
    weights = load_text_weights(path, SMALL)
    assert weights.keys() == encoder.state_dict().keys()
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(weights[name], tensor), name


class Scripted(nn.Module):
    """A module tree with the given parameters."""

    def __init__(self, state):
        super().__init__()
        for child in dict.fromkeys(name.partition(".")[0] for name in state if "." in name):
            inner = {n.removeprefix(f"{child}."): t for n, t in state.items() if n.startswith(f"{child}.")}
            self.add_module(child, Scripted(inner))
        for name, tensor in state.items():
            if "." not in name:
                self.register_parameter(name, nn.Parameter(tensor, requires_grad=False))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def save_torchscript(path, state):
    with torch.jit.optimized_execution(False):
        torch.jit.save(torch.jit.trace(Scripted(state), torch.zeros(1)), path)


OTHERS = {
    "backbone.conv.weight": torch.zeros(2, 2),
    "visual.proj": torch.zeros(3),
    "logit_scale": torch.ones(()),
}


@pytest.mark.parametrize("prefix", ["lang_encoder.", "", "module.lang_encoder.", "text."])
@pytest.mark.parametrize("wrapper", ["model", "state_dict", None])
def test_tower_is_found_under_its_prefix_beside_other_weights(tmp_path, encoder, original, prefix, wrapper):
    state = {**OTHERS, **prefixed(prefix, original)}
    torch.save(state if wrapper is None else {wrapper: state, "iteration": 7}, tmp_path / "clip.pth")
    assert_is_tower(tmp_path / "clip.pth", encoder)


def test_pickle_of_arrays_is_read(tmp_path, encoder, original):
    arrays = {name: tensor.numpy() for name, tensor in prefixed("lang_encoder.", original).items()}
    (tmp_path / "clip.pkl").write_bytes(pickle.dumps({"model": arrays, "__author__": "third party"}))
    assert_is_tower(tmp_path / "clip.pkl", encoder)


def test_safetensors_are_read(tmp_path, encoder, original):
    save_file({name: tensor.contiguous() for name, tensor in original.items()}, tmp_path / "clip.safetensors")
    assert_is_tower(tmp_path / "clip.safetensors", encoder)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_torchscript_archive_is_read_without_running_it(tmp_path, encoder, original, dtype):
    state = {**OTHERS, **{name: tensor.to(dtype) for name, tensor in original.items()}}
    save_torchscript(tmp_path / "RN50x4.pt", state)
    weights = load_text_weights(tmp_path / "RN50x4.pt", SMALL)
    assert weights.keys() == encoder.state_dict().keys()
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(weights[name], tensor.to(dtype).float()), name


def test_tower_of_transformers_gives_its_features(tmp_path):
    torch.manual_seed(3)
    config = CLIPTextConfig(
        vocab_size=49408, hidden_size=64, intermediate_size=256, projection_dim=48, num_hidden_layers=2,
        num_attention_heads=2, max_position_embeddings=24, hidden_act="quick_gelu", eos_token_id=49407,
    )  # fmt: skip
    clip = CLIPTextModelWithProjection(config).eval()
    clip.save_pretrained(tmp_path)
    ours = TextEncoder(SMALL)
    ours.load_state_dict(load_text_weights(tmp_path / "model.safetensors", SMALL))
    tokens = ours.tokenize(TEXTS)
    with torch.no_grad():
        expected = clip(input_ids=tokens).text_embeds
    actual = ours(tokens)[torch.arange(2), tokens.argmax(-1)]
    torch.testing.assert_close(actual, expected, atol=1e-4, rtol=1e-4)


def test_tower_of_open_clip_gives_its_features(tmp_path):
    torch.manual_seed(4)
    vision = open_clip.CLIPVisionCfg(layers=1, width=32, head_width=16, image_size=32, patch_size=16)
    text = open_clip.CLIPTextCfg(context_length=24, vocab_size=49408, width=64, heads=2, layers=2)
    clip = open_clip.CLIP(48, vision, text, quick_gelu=True).eval()
    torch.save(clip.state_dict(), tmp_path / "open_clip.pt")
    ours = TextEncoder(SMALL)
    ours.load_state_dict(load_text_weights(tmp_path / "open_clip.pt", SMALL))
    with torch.no_grad():
        expected = clip.encode_text(open_clip.tokenize(TEXTS, 24))
    tokens = ours.tokenize(TEXTS)
    torch.testing.assert_close(
        ours(tokens)[torch.arange(2), tokens.argmax(-1)], expected, atol=1e-4, rtol=1e-4
    )


def refusal(path, config=SMALL):
    with pytest.raises(ValueError, match=path.name) as caught:
        load_text_weights(path, config)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message


def test_missing_and_misshapen_tensors_are_named(tmp_path, original):
    path = tmp_path / "clip.pth"
    torch.save({name: tensor for name, tensor in original.items() if name != "ln_final.bias"}, path)
    assert "lang_encoder.ln_final.bias is missing" in refusal(path)
    torch.save(original | {"text_projection": torch.zeros(64, 47)}, path)
    assert "lang_encoder.text_projection has shape (64, 47), expected (64, 48)" in refusal(path)


def test_tower_of_another_size_is_refused(tmp_path, original):
    path = tmp_path / "clip.pth"
    torch.save(original, path)
    assert "lang_encoder.positional_embedding has shape (24, 64), expected (77, 640)" in refusal(path, None)
    deeper = {name.replace("resblocks.1", "resblocks.2"): t for name, t in original.items()}
    torch.save(original | deeper, path)
    assert "transformer.resblocks.2" in refusal(path)


def test_files_without_a_tower_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"backbone.weight": torch.zeros(2)}, path)
    assert "none of its 1 tensors is a token_embedding.weight" in refusal(path)
    torch.save([1, 2], path)
    assert "holds list, expected tensors by name" in refusal(path)
    assert "no such file" in refusal(tmp_path / "absent.pth")


@pytest.mark.parametrize("name", ["clip.pth", "clip.safetensors"])
def test_cut_files_are_refused(tmp_path, original, name):
    path = tmp_path / name
    if name.endswith("pth"):
        torch.save(original, path)
    else:
        save_file({key: tensor.contiguous() for key, tensor in original.items()}, path)
    path.write_bytes(path.read_bytes()[:5000])
    refusal(path)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile",)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_hostile_files_are_refused_and_not_run(tmp_path, monkeypatch, original):
    import zipfile

    monkeypatch.chdir(tmp_path)
    torch.save({"model": original, "extra": Hostile()}, tmp_path / "clip.pth")
    assert "system" in refusal(tmp_path / "clip.pth")
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("clip/constants.pkl", pickle.dumps(()))
        archive.writestr("clip/data.pkl", pickle.dumps(Hostile(), protocol=2))
    assert "system, expected modules and tensors only" in refusal(tmp_path / "script.pt")
    assert not (tmp_path / "hostile").exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_cut_torchscript_archive_is_refused(tmp_path, original):
    import zipfile

    save_torchscript(tmp_path / "whole.pt", original)
    with zipfile.ZipFile(tmp_path / "whole.pt") as whole, zipfile.ZipFile(tmp_path / "cut.pt", "w") as cut:
        for name in whole.namelist():
            if "/data/" not in name:
                cut.writestr(name, whole.read(name))
    assert "not weights that can be read" in refusal(tmp_path / "cut.pt")
