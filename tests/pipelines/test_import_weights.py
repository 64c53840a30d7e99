import os
import pickle
import sys
from pathlib import Path

import pytest
import torch

from pipelines.cli import run_main
from pipelines.import_weights import main
from univs.config import BackboneConfig, DecoderConfig, ModelConfig, PixelDecoderConfig, TextConfig
from univs.model.keys import derived_entries, to_reference
from univs.model.univs import UniVS
from univs.model.weights import load_checkpoint, save_checkpoint

CONFIG = ModelConfig(
    hidden_dim=32,
    backbone=BackboneConfig(name="resnet18"),
    pixel_decoder=PixelDecoderConfig(num_layers=1, ffn_dim=32),
    decoder=DecoderConfig(num_queries=5, num_layers=1, ffn_dim=32),
    text=TextConfig(width=64, embed_dim=64, num_heads=1),
    reference_compat=True,
)


@pytest.fixture(scope="module")
def model() -> UniVS:
    torch.manual_seed(0)
    return UniVS(CONFIG)


@pytest.fixture(scope="module")
def univs(model, tmp_path_factory) -> Path:
    """A file as UniVS saves it."""
    state = to_reference(model.state_dict())
    path = tmp_path_factory.mktemp("original") / "univs.pth"
    torch.save({"model": {**state, **derived_entries(state)}, "iteration": 7}, path)
    return path


def run(run_script, *flags):
    return run_script("pipelines/import_weights.py", *flags, HF_HUB_OFFLINE="1")


@pytest.fixture
def refusal(monkeypatch, capfd):
    """Run the script in this process: the line and the code it ends with."""

    def refuse(*flags, code: int = 1) -> str:
        monkeypatch.setattr(sys, "argv", ["import_weights.py", *map(str, flags)])
        with pytest.raises(SystemExit) as caught:
            run_main(main)
        said = capfd.readouterr()
        assert (caught.value.code, said.out) == (code, "")
        assert said.err.startswith("error: ")
        assert said.err.count("\n") == 1
        return said.err

    return refuse


def test_univs_file_goes_in_and_comes_out_again(run_script, univs, model, tmp_path):
    ours, back = tmp_path / "new/a.safetensors", tmp_path / "a.pth"
    done = run(run_script, "--from", univs, "--out", ours)
    assert done.returncode == 0, done.stderr
    taken = to_reference(model.state_dict())
    num_taken = sum(tensor.numel() for tensor in taken.values()) + 1
    assert done.stdout.splitlines() == [
        "architecture resnet18, 32 channels, 5 queries, 1 pixel decoder layers, 1 decoder layers, "
        "text class head",
        f"taken        {num_taken:,} parameters in {len(taken) + 1} tensors of UniVS",
        "dropped      nothing",
        f"checkpoint   {ours}",
    ]
    assert done.stderr.count("\n") == 1
    assert "the text tower is untrained" in done.stderr
    found = load_checkpoint(ours)
    assert found.config == CONFIG
    expected = model.state_dict()
    same = [
        torch.equal(tensor, expected[name])
        for name, tensor in found.state_dict().items()
        if "text." not in name
    ]
    assert all(same)
    done = run(run_script, "--export", f"--from={ours}", "--out", back)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"weights      {back}"
    original, exported = (torch.load(path, weights_only=True)["model"] for path in (univs, back))
    assert exported.keys() == original.keys()
    assert all(torch.equal(tensor, original[name]) for name, tensor in exported.items())


def test_mask2former_file_gets_the_queries_asked_for(run_script, model, tmp_path):
    only_univs = (
        "prompt_",
        "transformer_prompt",
        "vis2text",
        "text2vis",
        "text_norm",
        "lang2vision",
        "cls_temp",
    )
    prefix = "sem_seg_head.predictor."
    state = {
        name: tensor.numpy()
        for name, tensor in to_reference(model.state_dict()).items()
        if not name.removeprefix(prefix).startswith(only_univs)
    }
    state[f"{prefix}class_embed.weight"] = torch.ones(4, 32).numpy()
    state[f"{prefix}class_embed.bias"] = torch.ones(4).numpy()
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": state, "__author__": "third_party"}))
    out = tmp_path / "a.safetensors"
    done = run(
        run_script, "--from", tmp_path / "a.pkl", "--out", out, "--queries", 9, "--class-head", "linear"
    )
    assert done.returncode == 0, done.stderr
    assert "new          queries 5 to 8: nudged copies of the trained 5\n" in done.stdout
    assert "new          attention to prompts: a copy of attention to the image\n" in done.stdout
    config = load_checkpoint(out).config
    assert (config.decoder.num_queries, config.num_linear_classes) == (9, 3)
    assert not config.reference_compat


class Hostile:
    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


def test_hostile_and_truncated_files_are_one_line_and_leave_nothing(refusal, univs, tmp_path):
    proof, out = tmp_path / "proof", tmp_path / "out/a.safetensors"
    bad, cut = tmp_path / "bad.pkl", tmp_path / "cut.pth"
    bad.write_bytes(pickle.dumps({"model": Hostile(proof)}))
    cut.write_bytes(univs.read_bytes()[:100_000])
    assert f"{bad}: it wants to call posix.system" in refusal("--from", bad, "--out", out)
    assert f"{cut}: cannot be read" in refusal("--from", cut, "--out", out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.pkl", "cut.pth"]


def test_wrong_text_file_leaves_no_checkpoint(refusal, univs, tmp_path):
    out = tmp_path / "a.safetensors"
    line = refusal("--from", univs, "--out", out, "--text", univs)
    assert f"{univs}: none of its" in line
    assert not out.exists()


def test_source_that_is_nowhere_is_named(refusal, tmp_path):
    out = tmp_path / "a.safetensors"
    assert "/nowhere/a.pth: no such file" in refusal("--from", "/nowhere/a.pth", "--out", out)


def test_model_of_the_hub_that_cannot_be_reached_is_named(run_script, tmp_path):
    done = run(run_script, "--from", "someone/mask2former-swin", "--out", tmp_path / "a.safetensors")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: someone/mask2former-swin: no file or folder here, and the Hugging")
    assert "give its folder" in done.stderr


def test_export_of_something_else_is_refused(refusal, univs, tmp_path):
    assert "not a safetensors file" in refusal("--export", "--from", univs, "--out", tmp_path / "a.pth")


def test_export_takes_no_settings_of_an_import(refusal, univs, tmp_path):
    line = refusal("--export", "--from", univs, "--out", tmp_path / "a.pth", "--queries", 9, code=2)
    assert line == "error: --num-queries: no such option, --help lists them\n"


def test_checkpoint_of_ours_is_not_foreign(refusal, model, tmp_path):
    save_checkpoint(tmp_path / "a.safetensors", model)
    line = refusal("--from", tmp_path / "a.safetensors", "--out", tmp_path / "b.safetensors")
    assert "neither a torch file nor a pickle" in line
