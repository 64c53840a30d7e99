import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from univs.config import BackboneConfig, DecoderConfig, ModelConfig, PixelDecoderConfig, TextConfig
from univs.label_spaces import bank_rows, builtin_spaces
from univs.model.banks import adopt_combined_bank, combined_bank, default_bank_folder, load_combined_bank
from univs.model.text import MIN_KEPT_SENTENCES, TextEncoder
from univs.model.univs import UniVS

TINY = TextConfig(width=16, num_layers=1, num_heads=2, context_length=40, embed_dim=8, num_templates=1)
NAMES = [
    f"{color} thing {'x' * (index % 7)}"
    for index in range(MIN_KEPT_SENTENCES // 2)
    for color in ("red", "blue")
]


def encoder(folder, seed=0, config=TINY, reference_compat=False) -> TextEncoder:
    torch.manual_seed(seed)
    made = TextEncoder(config, reference_compat=reference_compat)
    made.bank_folder = folder
    return made


def alter(folder: Path) -> None:
    """Change the kept banks, so that it shows where they are read."""
    for path in folder.iterdir():
        with path.open("rb") as file:
            header = file.read(int.from_bytes(file.read(8), "little"))
        key = header.decode().split('"key":"')[1].split('"')[0]
        save_file({"bank": load_file(path)["bank"] + 1}, path, {"key": key})


def test_large_bank_is_kept_and_read_by_the_next_encoder(tmp_path):
    folder = tmp_path / "new" / "banks"
    bank = encoder(folder).bank(NAMES)
    assert len(list(folder.iterdir())) == 1
    alter(folder)
    torch.testing.assert_close(encoder(folder).bank(NAMES), bank + 1)
    torch.testing.assert_close(encoder(None).bank(NAMES), bank)


def test_bank_of_other_weights_names_templates_or_rules_is_not_read(tmp_path):
    encoder(tmp_path).bank(NAMES)
    alter(tmp_path)
    two = TextConfig(width=16, num_layers=1, num_heads=2, context_length=40, embed_dim=8, num_templates=2)
    for names, settings in (
        (NAMES, {"seed": 1}),
        (NAMES[::-1], {}),
        (NAMES, {"config": two}),
        (NAMES, {"reference_compat": True}),
    ):
        expected = encoder(None, **settings).bank(names)
        torch.testing.assert_close(encoder(tmp_path, **settings).bank(names), expected)
    assert len(list(tmp_path.iterdir())) == 5


def test_weights_changed_in_place_are_not_answered_with_the_old_bank(tmp_path):
    encoder(tmp_path).bank(NAMES)
    changed = encoder(tmp_path)
    with torch.no_grad():
        changed.text_projection.mul_(2)
    torch.testing.assert_close(changed.bank(NAMES), 2 * encoder(None).bank(NAMES))


def test_small_bank_leaves_no_file(tmp_path):
    encoder(tmp_path).bank(NAMES[: MIN_KEPT_SENTENCES - 1])
    assert not list(tmp_path.iterdir())


def test_folder_that_cannot_be_written_does_no_harm(tmp_path):
    blocked = tmp_path / "file"
    blocked.touch()
    torch.testing.assert_close(encoder(blocked / "banks").bank(NAMES), encoder(None).bank(NAMES))


def test_broken_file_is_replaced(tmp_path):
    bank = encoder(tmp_path).bank(NAMES)
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    for content in (b"", whole[:100], whole[:-4]):
        path.write_bytes(content)
        torch.testing.assert_close(encoder(tmp_path).bank(NAMES), bank)
        assert path.read_bytes() == whole
    assert os.listdir(tmp_path) == [path.name]


def test_default_folder_is_in_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_bank_folder() == tmp_path / "univs" / "banks"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert default_bank_folder() == tmp_path / "home" / ".cache" / "univs" / "banks"


def test_combined_bank_has_the_rows_of_every_label_space():
    text = encoder(None)
    bank = combined_bank(text)
    assert bank.shape == (3938, 8)
    for name in ("ovis", "coco_panoptic", "ytvis_2019"):
        first, count = bank_rows(name)
        expected = encoder(None).bank(builtin_spaces()[name].texts)
        torch.testing.assert_close(bank[first : first + count], expected, atol=1e-5, rtol=1e-5)


def test_released_bank_takes_the_place_of_the_tower(tmp_path):
    released = torch.randn(3938, 8)
    torch.save(released, tmp_path / "combined.pth")
    text = encoder(None)
    before = text.bank(["person", "no such category"])
    adopt_combined_bank(text, load_combined_bank(tmp_path / "combined.pth"))
    assert torch.equal(text.bank(builtin_spaces()["vipseg"].texts), released[2924:3048])
    assert torch.equal(text.bank(builtin_spaces()["coco_panoptic"].texts[:80]), released[2641:2721])
    assert torch.equal(text.bank(builtin_spaces()["lvis"].texts[5:9]), released[1005:1009])
    assert torch.equal(text.bank(["person", "no such category"]), before)


def test_bank_of_another_size_is_not_adopted():
    with pytest.raises(ValueError, match=r"the bank to adopt is \(2, 9\), expected \(2, 8\)"):
        encoder(None).adopt(["cat", "dog"], torch.zeros(2, 9))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (torch.zeros(3937, 640), r"holds \(3937, 640\), expected one tensor of 3938 rows"),
        ({"model": {}}, "holds dict, expected one tensor of 3938 rows"),
    ],
)
def test_file_that_is_no_combined_bank_is_refused(tmp_path, content, message):
    torch.save(content, tmp_path / "bank.pth")
    with pytest.raises(ValueError, match=message) as refusal:
        load_combined_bank(tmp_path / "bank.pth")
    assert str(refusal.value).startswith(str(tmp_path / "bank.pth"))
    assert "\n" not in str(refusal.value)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile",)


def test_hostile_bank_is_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bank.pth").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(ValueError, match=r"bank.pth: .*system"):
        load_combined_bank(tmp_path / "bank.pth")
    assert not (tmp_path / "hostile").exists()


def test_class_logits_of_a_label_space_are_its_rows_of_the_combined_product():
    torch.manual_seed(0)
    config = ModelConfig(
        hidden_dim=32,
        backbone=BackboneConfig(name="test_convnext2"),
        pixel_decoder=PixelDecoderConfig(num_layers=1, num_heads=4, ffn_dim=32),
        decoder=DecoderConfig(num_queries=5, num_layers=1, num_heads=4, ffn_dim=32),
        text=TINY,
    )
    model = UniVS(config).eval()
    combined = torch.randn(3938, 8)
    adopt_combined_bank(model.text, combined)
    first, count = bank_rows("ytvis_2021")
    with torch.no_grad():
        features = model.encode(torch.randn(1, 2, 3, 64, 64), torch.arange(2)[None])
        whole = model.decode(features, None, combined).final.class_logits
        bank = model.text.bank(builtin_spaces()["ytvis_2021"].texts)
        used = model.decode(features, None, bank).final.class_logits
    assert used.shape == (1, 5, 40)
    torch.testing.assert_close(used, whole[..., first : first + count], atol=1e-5, rtol=1e-5)
