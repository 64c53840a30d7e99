import json
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from univs.config import BackboneConfig, DecoderConfig, ModelConfig, PixelDecoderConfig, TextConfig
from univs.model.foreign import read_foreign
from univs.model.importing import ExportConfig, ImportConfig, assemble, export_weights, import_weights
from univs.model.univs import UniVS
from univs.model.weights import load_checkpoint, save_checkpoint

PREDICTOR, PIXEL_DECODER = "sem_seg_head.predictor", "sem_seg_head.pixel_decoder"


def write(path: Path, state) -> Path:
    torch.save({"model": OrderedDict(state), "iteration": 5}, path)
    return path


def imported(path: Path, **settings):
    job = ImportConfig(source=str(path), out=path.with_suffix(".out"), **settings)
    return assemble(read_foreign(job.source, ema=job.ema), job)


@pytest.fixture(scope="module")
def univs(original, tmp_path_factory):
    """A UniVS file, its tensors, the checkpoint made of it, and the summary."""
    folder, state = tmp_path_factory.mktemp("univs"), original()
    state[f"{PREDICTOR}.cls_temp.weight"] = state[f"{PREDICTOR}.reid_temp.weight"].clone()
    settings = ImportConfig(source=str(write(folder / "a.pth", state)), out=folder / "a.safetensors")
    summary = import_weights(settings)
    return settings, state, load_checkpoint(settings.out), summary


def test_univs_checkpoint_becomes_ours(univs):
    _, state, model, summary = univs
    assert model.config == ModelConfig(
        hidden_dim=32,
        backbone=BackboneConfig(name="resnet18"),
        pixel_decoder=PixelDecoderConfig(num_layers=1, ffn_dim=40),
        decoder=DecoderConfig(num_queries=6, num_layers=2, ffn_dim=48),
        text=TextConfig(width=64, embed_dim=64, num_heads=1),
        reference_compat=True,
    )
    layer = model.decoder.layers[1]
    pairs = {
        "transformer_prompt_self_attention_layers.1.multihead_attn.in_proj_weight": (
            layer.prompt_attention.attention.in_proj_weight
        ),
        "transformer_cross_attention_layers.1.multihead_attn.in_proj_bias": (
            layer.image_attention.attention.in_proj_bias
        ),
        "transformer_self_attention_layers.1.self_attn.out_proj.weight": (
            layer.self_attention.attention.out_proj.weight
        ),
        "query_feat.weight": model.decoder.query_features.weight,
        "query_embed.weight": model.decoder.query_positions.weight,
        "vis2text_projection.weight": model.decoder.heads.vision_to_text.weight,
        "prompt_sot.weight": model.prompt_encoder.sot_vector.weight,
    }
    for name, tensor in pairs.items():
        assert torch.equal(tensor, state[f"{PREDICTOR}.{name}"]), name
    assert torch.equal(model.pixel_decoder.lateral.weight, state[f"{PIXEL_DECODER}.adapter_1.weight"])
    assert torch.equal(model.backbone.body.bn1.running_var, state["backbone.stem.conv1.norm.running_var"])
    assert (summary.kind, summary.new, summary.dropped, summary.notes) == ("UniVS", (), (), ())
    assert summary.num_tensors == len(state)


def test_record_says_that_the_text_tower_is_untrained(univs):
    with safe_open(univs[0].out, framework="pt") as file:
        origin = json.loads(file.metadata()["origin"])
    assert origin == {"kind": "UniVS", "new": "", "source": "a.pth", "text": "untrained"}


def test_export_gives_the_same_file_back(univs, tmp_path):
    settings, state, _, _ = univs
    target = tmp_path / "back.pth"
    assert export_weights(ExportConfig(source=settings.out, out=target)) == len(state)
    exported = torch.load(target, weights_only=True)
    assert list(exported) == ["model"]
    assert exported["model"].keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in exported["model"].items())


def test_reid_temperature_wins_as_in_the_original(tmp_path, original):
    state = original(hollow=True)
    state[f"{PREDICTOR}.cls_temp.weight"] = torch.tensor([[1.0]])
    state[f"{PREDICTOR}.reid_temp.weight"] = torch.tensor([[2.0]])
    model, _ = imported(write(tmp_path / "a.pth", state))
    assert model.decoder.heads.class_temperature.weight.item() == 2.0


def test_r50_of_full_size_has_the_originals_parameters(tmp_path, original):
    state = original(
        "resnet50",
        dim=256,
        num_queries=200,
        num_layers=9,
        pixel_layers=6,
        ffn_dim=2048,
        pixel_ffn_dim=1024,
        text_dim=640,
        hollow=True,
    )
    model, summary = imported(write(tmp_path / "r50.pth", state))
    ours = sum(tensor.numel() for name, tensor in model.named_parameters() if not name.startswith("text."))
    # The original counts its temperature twice, under two names.
    assert ours == 46_968_066 - 1
    assert summary.num_tensors == 626
    assert model.config == ModelConfig(reference_compat=True)


def test_averages_are_taken_on_request(tmp_path, original):
    state = original(hollow=True)
    averages = {name.replace(".", "_t.", 1): tensor + 1 for name, tensor in state.items()}
    path = write(tmp_path / "a.pth", {f"module.{n}": t for n, t in {**state, **averages}.items()})
    name = f"{PREDICTOR}.query_feat.weight"
    plain, average = read_foreign(str(path), ema=False), read_foreign(str(path), ema=True)
    assert plain.state.keys() == average.state.keys() == state.keys()
    assert torch.equal(plain.state[name], state[name])
    assert torch.equal(average.state[name], state[name] + 1)
    assert plain.notes == ("running averages left out, --ema takes them",)
    with pytest.raises(ValueError, match="no running averages"):
        read_foreign(str(write(tmp_path / "b.pth", state)), ema=True)


def write_pickle(path: Path, state) -> Path:
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "third_party"}))
    return path


@pytest.fixture(scope="module")
def mask2former(original, tmp_path_factory):
    state = original(classes=5, num_queries=6)
    old = {name.replace("query_feat", "static_query"): tensor for name, tensor in state.items()}
    old = {name.replace("pixel_decoder.", "pixel_decoder.pixel_decoder."): t for name, t in old.items()}
    path = write_pickle(tmp_path_factory.mktemp("m2f") / "model.pkl", old)
    return path, state, *imported(path, seed=3)


def test_mask2former_starts_univs_with_its_queries_and_nudged_copies(mask2former):
    _, state, model, summary = mask2former
    assert model.config.decoder.num_queries == 200
    for name, tensor in (
        ("query_feat", model.decoder.query_features.weight),
        ("query_embed", model.decoder.query_positions.weight),
    ):
        trained = state[f"{PREDICTOR}.{name}.weight"]
        assert torch.equal(tensor[:6], trained)
        noise = (tensor[6:] - trained[torch.arange(6, 200) % 6]) / trained.std(0, correction=0)
        assert noise.abs().min() > 0
        assert 0.09 < noise.std() < 0.11
    assert summary.new[0] == "queries 6 to 199: nudged copies of the trained 6"


def test_mask2former_lends_prompts_its_attention_to_the_image(mask2former):
    _, state, model, _ = mask2former
    for index, layer in enumerate(model.decoder.layers):
        prefix = f"{PREDICTOR}.transformer_cross_attention_layers.{index}"
        block = layer.prompt_attention
        assert torch.equal(block.attention.in_proj_weight, state[f"{prefix}.multihead_attn.in_proj_weight"])
        assert torch.equal(block.attention.out_proj.bias, state[f"{prefix}.multihead_attn.out_proj.bias"])
        assert torch.equal(block.norm.weight, state[f"{prefix}.norm.weight"])
        assert block.norm.weight is not layer.image_attention.norm.weight


def test_mask2former_says_what_is_dropped_new_and_renamed(mask2former):
    _, state, model, summary = mask2former
    assert summary.kind == "Mask2Former"
    assert not model.config.reference_compat
    assert summary.dropped == (
        "criterion.empty_weight",
        f"{PREDICTOR}.class_embed.bias",
        f"{PREDICTOR}.class_embed.weight",
    )
    assert summary.num_tensors == len(state) - 3
    assert summary.new[1] == "attention to prompts: a copy of attention to the image"
    assert any(line.startswith("prompt_encoder, ") for line in summary.new)
    assert [note.split("*")[0] for note in summary.notes] == [
        f"{PREDICTOR}.static_query.",
        f"{PIXEL_DECODER}.pixel_decoder.",
    ]


def test_mask2former_import_is_repeatable_and_seeded(mask2former):
    path, _, model, _ = mask2former
    torch.manual_seed(99)
    expected, again = model.state_dict(), imported(path, seed=3)[0].state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in again.items())
    other = imported(path, seed=4)[0]
    assert not torch.equal(other.decoder.query_features.weight, model.decoder.query_features.weight)


def test_mask2former_keeps_its_classes_on_request(mask2former):
    path, state, _, _ = mask2former
    model, summary = imported(path, class_head="linear", position="2d")
    assert (model.config.num_linear_classes, model.config.decoder.num_queries) == (5, 6)
    assert torch.equal(model.decoder.heads.class_embed.weight, state[f"{PREDICTOR}.class_embed.weight"])
    assert summary.dropped == ("criterion.empty_weight",)
    features = model.encode(torch.zeros(1, 2, 3, 32, 32), torch.tensor([[0, 1]]))
    predictions = model.decode(features)
    embeddings = predictions.final.embeddings
    one_by_one = [model.decoder.heads.class_embed(embeddings[:, :, frame]) for frame in range(2)]
    torch.testing.assert_close(predictions.final.class_logits, (one_by_one[0] + one_by_one[1]) / 2)
    with pytest.raises(ValueError, match="linear class head"):
        model.decode(features, bank=torch.zeros(4, 640))


def test_text_weights_fill_the_tower(tmp_path, original, caplog):
    layer = {
        "attn.in_proj_weight": (192, 64),
        "attn.in_proj_bias": (192,),
        "attn.out_proj.weight": (64, 64),
        "attn.out_proj.bias": (64,),
        "mlp.c_fc.weight": (256, 64),
        "mlp.c_fc.bias": (256,),
        "mlp.c_proj.weight": (64, 256),
        "mlp.c_proj.bias": (64,),
        **{f"ln_{index}.{part}": (64,) for index in (1, 2) for part in ("weight", "bias")},
    }
    tower = {f"transformer.resblocks.{i}.{name}": shape for i in range(12) for name, shape in layer.items()}
    tower |= {"token_embedding.weight": (49408, 64), "positional_embedding": (77, 64)}
    tower |= {"ln_final.weight": (64,), "ln_final.bias": (64,), "text_projection": (64, 64)}
    text = tmp_path / "text.pth"
    torch.save({name: torch.tensor([0.25]).expand(shape) for name, shape in tower.items()}, text)
    source, out = write(tmp_path / "a.pth", original(hollow=True)), tmp_path / "a.safetensors"
    import_weights(ImportConfig(source=str(source), out=out, text=text))
    with safe_open(out, framework="pt") as file:
        assert json.loads(file.metadata()["origin"])["text"] == "text.pth"
        names = [name for name in file.keys() if name.startswith("text.")]  # noqa: SIM118
        assert all(bool((file.get_tensor(name) == 0.25).all()) for name in names)
    assert len(names) == len(tower)
    assert "untrained" not in caplog.text


@pytest.fixture
def refused(tmp_path):
    """Import what is no good: the line, after the name of the file."""

    def refuse(body, **settings) -> str:
        source, out = tmp_path / "bad.pth", tmp_path / "out" / "a.safetensors"
        torch.save(body, source)
        with pytest.raises(ValueError, match=r"bad\.pth: ") as caught:
            import_weights(ImportConfig(source=str(source), out=out, **settings))
        assert "\n" not in str(caught.value)
        assert [path.name for path in tmp_path.iterdir()] == ["bad.pth"]
        return str(caught.value).partition(": ")[2]

    return refuse


def test_missing_misshapen_and_unknown_tensors_are_named(refused, original):
    state, name = original(hollow=True), f"{PREDICTOR}.transformer_ffn_layers.1.linear2.bias"
    missing = {key: tensor for key, tensor in state.items() if key != name}
    assert refused(missing) == f"tensor {name} is missing"
    assert refused({**state, name: state[name][:3]}) == f"tensor {name} has shape (3,), expected (32,)"
    assert refused({**state, "extra.weight": state[name]}).startswith("tensor extra.weight is unknown")


def test_tensors_that_are_no_weights_are_named(refused, original):
    state, name = original(hollow=True), f"{PREDICTOR}.decoder_norm.bias"
    assert f"{name} is of type torch.int64" in refused({**state, name: torch.ones(32, dtype=torch.long)})
    assert f"{name} holds values that are no finite" in refused({**state, name: torch.full((32,), torch.nan)})
    assert f"{name} is no tensor but of type list" in refused({"model": {**state, name: [1.0]}})


def test_files_of_something_else_are_refused(refused, original):
    assert "holds a list, expected tensors by name" in refused([torch.ones(1)])
    assert "holds a dict, expected tensors by name" in refused({})
    assert "epoch is no tensor but of type int" in refused({"epoch": 3, "state_dict": {}})
    assert "query_feat.weight is missing" in refused({"backbone.conv1.weight": torch.ones(1)})
    twice = original(classes=2, hollow=True)
    twice[f"{PREDICTOR}.static_query.weight"] = twice[f"{PREDICTOR}.query_feat.weight"]
    assert "are names of one tensor" in refused(twice)


def test_settings_that_do_not_fit_the_file_are_refused(refused, original):
    state = original(hollow=True)
    assert "has 6 queries, --queries 5" in refused(state, num_queries=5)
    assert "has no linear class head" in refused(state, class_head="linear")


def test_object_array_is_refused(tmp_path):
    path = tmp_path / "a.pkl"
    path.write_bytes(pickle.dumps({"model": {"a": np.array([None, 1], dtype=object)}}))
    with pytest.raises(ValueError, match="a is no tensor but of type array of object"):
        read_foreign(str(path), ema=False)


def test_source_is_never_written_over(tmp_path, original):
    path = write(tmp_path / "a.pth", original(hollow=True))
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is the file to read, too"):
        import_weights(ImportConfig(source=str(path), out=path))
    with pytest.raises(ValueError, match="is a folder"):
        import_weights(ImportConfig(source=str(path), out=tmp_path))
    assert path.read_bytes() == before


def test_export_of_a_backbone_the_original_lacks_is_refused(tmp_path):
    config = ModelConfig(
        hidden_dim=32,
        backbone=BackboneConfig(name="test_convnext2"),
        pixel_decoder=PixelDecoderConfig(num_layers=1, num_heads=2, ffn_dim=32),
        decoder=DecoderConfig(num_queries=5, num_layers=1, num_heads=2, ffn_dim=32),
        text=TextConfig(width=16, num_layers=1, num_heads=2, context_length=12, embed_dim=16),
    )
    save_checkpoint(tmp_path / "a.safetensors", UniVS(config))
    with pytest.raises(ValueError, match=r"a\.safetensors: backbone\.body\.\S+ has no counterpart"):
        export_weights(ExportConfig(source=tmp_path / "a.safetensors", out=tmp_path / "a.pth"))
    assert not (tmp_path / "a.pth").exists()
