import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation, SwinConfig

from univs.model.foreign import read_foreign
from univs.model.hugging_face import read_model, rename
from univs.model.importing import ExportConfig, ImportConfig, assemble, export_weights
from univs.model.position import SinePosition
from univs.model.weights import save_checkpoint

TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def theirs():
    """A random Mask2Former in which every parameter counts, biases and sampling offsets, too."""
    swin = SwinConfig(
        embed_dim=96,
        depths=[2, 2, 6, 2],
        num_heads=[3, 6, 12, 24],
        window_size=7,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=swin,
        feature_size=64,
        mask_feature_size=64,
        hidden_dim=64,
        encoder_layers=2,
        decoder_layers=5,
        num_queries=15,
        encoder_feedforward_dim=96,
        dim_feedforward=128,
        num_labels=7,
        num_attention_heads=4,
    )
    torch.manual_seed(0)
    model = Mask2FormerForUniversalSegmentation(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(0.1 * torch.randn_like(parameter))
            elif "sampling_offsets" in name or "attention_weights" in name:
                parameter.copy_(0.3 * torch.randn_like(parameter))
    return model


@pytest.fixture(scope="module")
def folders(theirs, tmp_path_factory):
    """The model in the names of the released files, of transformers 5, in parts, and as a torch file."""
    root = tmp_path_factory.mktemp("hub")
    theirs.save_pretrained(root / "v4")
    released = load_file(root / "v4/model.safetensors")
    # transformers 4 had no norm behind the last stage of a backbone.
    released = {name: tensor for name, tensor in released.items() if ".swin.layernorm." not in name}
    save_file(released, root / "v4/model.safetensors")
    names = {
        "v5": lambda folder: save_file(theirs.state_dict(), folder / "model.safetensors"),
        "parts": lambda folder: _save_parts(folder, released),
        "bin": lambda folder: torch.save(released, folder / "pytorch_model.bin"),
    }
    for name, save in names.items():
        (root / name).mkdir()
        shutil.copy(root / "v4/config.json", root / name)
        save(root / name)
    return root


def _save_parts(folder, state):
    weight_map = {}
    for part in range(2):
        file = f"model-0000{part + 1}-of-00002.safetensors"
        names = sorted(state)[part::2]
        save_file({name: state[name] for name in names}, folder / file)
        weight_map |= dict.fromkeys(names, file)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


def imported(folder):
    job = ImportConfig(source=str(folder), out=folder / "out", position="2d", class_head="linear")
    return assemble(read_foreign(job.source, ema=False), job)


def test_released_files_are_in_the_names_of_transformers_4(folders):
    old, new = (load_file(folders / name / "model.safetensors") for name in ("v4", "v5"))
    encoder = "model.pixel_level_module.encoder"
    block = "encoder.layers.0.blocks.1"
    assert f"{encoder}.{block}.attention.self.query.weight" in old
    assert f"{encoder}.swin.{block}.attention.q_proj.weight" in new
    assert not any(name.startswith(f"{encoder}.swin.") for name in old)


@pytest.fixture(scope="module")
def ours(folders):
    return imported(folders / "v4")


def test_all_forms_hold_the_same_tensors(folders, ours):
    expected = read_model(folders / "v4")
    assert expected.num_heads == 4
    for name in ("v5", "parts", "bin"):
        found = read_model(folders / name)
        assert found.state.keys() == expected.state.keys()
        assert all(torch.equal(tensor, expected.state[key]) for key, tensor in found.state.items())


def test_architecture_and_leftovers_are_told(ours):
    model, summary = ours
    assert model.config.backbone.name == "swin_t"
    assert (model.config.hidden_dim, model.config.decoder.num_queries) == (64, 15)
    assert (model.config.decoder.num_layers, model.config.decoder.num_heads) == (4, 4)
    assert (model.config.pixel_decoder.num_layers, model.config.pixel_decoder.num_points) == (2, 4)
    assert (model.config.position, model.config.num_linear_classes) == ("2d", 7)
    assert summary.dropped == ("criterion.empty_weight",)


@pytest.mark.parametrize("size", [(64, 64), (96, 160)])
@torch.no_grad()
def test_outputs_equal_those_of_transformers(theirs, ours, size):
    model, _ = ours
    frames = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    expected = theirs(pixel_values=frames, output_auxiliary_logits=True)
    layers = [*expected.auxiliary_logits, expected]
    # An index other than zero: in 2d mode it must not matter. Each image is a clip of one frame.
    features = model.encode(frames[:, None], torch.full((2, 1), 5))
    predictions = model.decode(features)
    assert len(predictions.layers) == len(layers) == 5
    for index, layer in enumerate(layers):
        masks = predictions.mask_logits(index)[:, :, 0]
        assert layer["masks_queries_logits"].std() > 0.05
        assert (masks - layer["masks_queries_logits"]).abs().max() <= TOLERANCE
        classes = predictions.layers[index].class_logits
        assert (classes - layer["class_queries_logits"]).abs().max() <= TOLERANCE


@pytest.mark.parametrize("mode", ["arbitrary_t", "fixed_t"])
@torch.no_grad()
def test_images_come_out_alike_in_every_position_mode(theirs, ours, mode, monkeypatch):
    """The time term moves all cells of a frame alike, which attention within the frame does not notice."""
    model, _ = ours
    monkeypatch.setattr(model, "positions", SinePosition(64, mode))
    frames = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    assert model.positions.time(torch.full((1, 1), 5)).abs().max() > 0.5
    masks = model.decode(model.encode(frames[:, None], torch.full((1, 1), 5))).mask_logits()[:, :, 0]
    assert (masks - theirs(pixel_values=frames).masks_queries_logits).abs().max() <= TOLERANCE


def test_export_and_import_again_keep_every_tensor(ours, tmp_path):
    model, _ = ours
    save_checkpoint(tmp_path / "a.safetensors", model)
    export_weights(ExportConfig(source=tmp_path / "a.safetensors", out=tmp_path / "a.pth"))
    job = ImportConfig(source=str(tmp_path / "a.pth"), out=tmp_path / "b", class_head="linear")
    foreign = read_foreign(job.source, ema=False)
    assert foreign.kind == "UniVS"
    name = "sem_seg_head.predictor.class_embed.weight"
    assert torch.equal(foreign.state[name], model.decoder.heads.class_embed.weight)
    assert len([name for name in foreign.dropped if name.endswith("position_index")]) == 12


def test_split_projections_are_joined_in_the_order_query_key_value():
    prefix = "model.transformer_module.decoder.layers.3.self_attn"
    state = {f"{prefix}.{part}_proj.bias": torch.full((2,), float(i)) for i, part in enumerate("qkv")}
    reordered = dict(reversed(state.items()))
    name = "sem_seg_head.predictor.transformer_self_attention_layers.3.self_attn.in_proj_bias"
    assert rename(reordered)[name].tolist() == [0, 0, 1, 1, 2, 2]
    del state[f"{prefix}.k_proj.bias"]
    with pytest.raises(ValueError, match="in_proj_bias only 2 are there"):
        rename(state)
    with pytest.raises(ValueError, match=r"tensor model\.other is unknown"):
        rename({"model.other": torch.ones(1)})


def complaint(folder) -> str:
    with pytest.raises(ValueError, match=folder.name) as caught:
        read_foreign(str(folder), ema=False)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def broken(folders, tmp_path):
    """A folder like the released one, with another configuration, and no weights unless linked."""

    def make(**changes):
        folder = tmp_path / "model"
        folder.mkdir(exist_ok=True)
        config = json.loads((folders / "v4/config.json").read_text())
        (folder / "config.json").write_text(json.dumps(config | changes))
        return folder

    return make


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"model_type": "detr"}, "model_type is 'detr', expected 'mask2former'"),
        ({"num_attention_heads": 0}, "num_attention_heads is 0, expected something like 8"),
        ({"hidden_dim": "wide"}, "hidden_dim is 'wide', expected something like 256"),
        ({"backbone_config": None}, "backbone_config is None"),
        ({"pre_norm": True}, "pre_norm is True, expected False"),
        (
            {"mask_feature_size": 32},
            "feature_size 64, mask_feature_size 32, hidden_dim 64, expected one width",
        ),
        ({"backbone_config": {"model_type": "resnet"}}, "model_type is 'resnet', expected 'swin'"),
    ],
)
def test_model_of_another_kind_is_refused(broken, changes, line):
    assert line in complaint(broken(**changes))


def test_folder_that_is_not_whole_is_refused(broken, tmp_path):
    assert "holds no model.safetensors and no pytorch_model.bin" in complaint(broken())
    folder = broken()
    (folder / "model.safetensors").write_bytes(b"\x10")
    assert "not a safetensors file" in complaint(folder)
    (folder / "config.json").write_text("{")
    assert "config.json: not JSON" in complaint(folder)
    (folder / "config.json").unlink()
    assert "config.json: no such file" in complaint(folder)


def test_part_that_is_missing_is_named(folders, tmp_path):
    folder = shutil.copytree(folders / "parts", tmp_path / "parts")
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert "model-00002-of-00002.safetensors: no such file" in complaint(folder)


def test_missing_tensor_is_named_by_the_name_of_the_original(broken, folders):
    folder = broken()
    state = load_file(folders / "v4/model.safetensors")
    del state["model.transformer_module.decoder.layernorm.bias"]
    save_file(state, folder / "model.safetensors")
    with pytest.raises(ValueError, match=r"sem_seg_head\.predictor\.decoder_norm\.bias is missing"):
        imported(folder)
