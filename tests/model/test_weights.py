import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from univs.config import BackboneConfig, DecoderConfig, ModelConfig, PixelDecoderConfig, TextConfig
from univs.model.univs import UniVS
from univs.model.weights import load_checkpoint, save_checkpoint

CONFIG = ModelConfig(
    hidden_dim=32,
    backbone=BackboneConfig(name="test_convnext2", frozen_stages=1, drop_path=0.1),
    pixel_decoder=PixelDecoderConfig(num_layers=1, num_heads=2, num_points=2, ffn_dim=32),
    decoder=DecoderConfig(num_queries=5, num_layers=1, num_heads=2, ffn_dim=32),
    text=TextConfig(width=16, num_layers=1, num_heads=2, context_length=12, embed_dim=16, num_templates=2),
    position="fixed_t",
)


@pytest.fixture(scope="module")
def model() -> UniVS:
    torch.manual_seed(0)
    return UniVS(CONFIG).eval()


@pytest.fixture
def path(tmp_path: Path, model: UniVS) -> Path:
    target = tmp_path / "model.safetensors"
    save_checkpoint(target, model)
    return target


def read(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        return load_file(path), file.metadata()


def complaint(path: Path) -> str:
    with pytest.raises(ValueError, match=path.name) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_checkpoint_round_trip_is_exact(path, model):
    loaded = load_checkpoint(path)
    assert loaded.config == CONFIG
    assert not loaded.training
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.state_dict().items())
    frames, indices = torch.randn(1, 2, 3, 64, 64), torch.tensor([[0, 1]])
    with torch.no_grad():
        bank = model.text.bank(["cat", "dog"])
        before = model.decode(model.encode(frames, indices), None, bank).final
        after = loaded.decode(loaded.encode(frames, indices), None, loaded.text.bank(["cat", "dog"])).final
    assert torch.equal(before.mask_embeddings, after.mask_embeddings)
    assert torch.equal(before.class_logits, after.class_logits)


def test_checkpoint_says_what_it_is_and_leaves_nothing_else(path):
    _, metadata = read(path)
    assert metadata["format"] == "univs-checkpoint/1"
    assert json.loads(metadata["config"])["backbone"]["name"] == "test_convnext2"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_save_that_fails_leaves_nothing_behind(tmp_path, model):
    folder = tmp_path / "taken"
    folder.mkdir()
    with pytest.raises(OSError, match="taken"):
        save_checkpoint(folder, model)
    assert list(tmp_path.rglob("*")) == [folder]


def test_save_makes_its_folder(tmp_path, model):
    target = tmp_path / "new" / "model.safetensors"
    save_checkpoint(target, model)
    assert target.is_file()


def test_load_missing_file_is_refused(tmp_path):
    assert "no such file" in complaint(tmp_path / "nothing.safetensors")


def test_load_folder_is_refused(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    assert "no such file" in complaint(folder)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 a torch file", b"\xff" * 64])
def test_load_file_that_is_not_safetensors_is_refused(tmp_path, content):
    other = tmp_path / "model.pth"
    other.write_bytes(content)
    assert "not a safetensors file" in complaint(other)


def test_load_foreign_safetensors_is_refused(path):
    tensors, metadata = read(path)
    save_file(tensors, path)
    assert "no format" in complaint(path)
    save_file(tensors, path, {**metadata, "format": "univs-checkpoint/9"})
    assert "univs-checkpoint/9, expected univs-checkpoint/1" in complaint(path)


@pytest.mark.parametrize(
    ("config", "word"),
    [("{", "configuration cannot be read"), ("[]", "expected an object"), ('{"hidden": 3}', "hidden")],
)
def test_load_unreadable_configuration_is_refused(path, config, word):
    tensors, metadata = read(path)
    save_file(tensors, path, {**metadata, "config": config})
    assert word in complaint(path)


def test_load_of_a_configuration_from_before_a_field_gives_it_its_default(path):
    tensors, metadata = read(path)
    config = json.loads(metadata["config"])
    del config["reference_compat"], config["prompts"]["tokens_per_object"]
    save_file(tensors, path, {**metadata, "config": json.dumps(config)})
    assert load_checkpoint(path).config == CONFIG


def test_checkpoint_keeps_where_its_weights_come_from(tmp_path, model):
    target = tmp_path / "model.safetensors"
    save_checkpoint(target, model, {"source": "a.pth", "text": "untrained"})
    _, metadata = read(target)
    assert json.loads(metadata["origin"]) == {"source": "a.pth", "text": "untrained"}
    assert load_checkpoint(target).config == CONFIG


def test_load_missing_misshapen_and_unknown_tensors_are_named(path):
    tensors, metadata = read(path)
    name = "decoder.query_features.weight"
    save_file({key: value for key, value in tensors.items() if key != name}, path, metadata)
    assert complaint(path).endswith(f"tensor {name} is missing")
    save_file({**tensors, name: tensors[name][:3].contiguous()}, path, metadata)
    assert complaint(path).endswith(f"tensor {name} has shape (3, 32), expected (5, 32)")
    save_file({**tensors, "extra": torch.zeros(1)}, path, metadata)
    assert complaint(path).endswith("tensor extra is unknown")


def test_checkpoint_of_the_same_model_is_the_same_file(tmp_path, model):
    contents = set()
    for attempt in range(8):
        save_checkpoint(tmp_path / f"{attempt}.safetensors", model)
        contents.add((tmp_path / f"{attempt}.safetensors").read_bytes())
    assert len(contents) == 1
