import json
import os
from pathlib import Path

import pytest
import torch

from pipelines.recipes.models import miniature, released
from univs.model.keys import (
    derived_entries,
    from_reference,
    reference_name,
    text_from_reference,
    text_to_reference,
    to_reference,
)
from univs.model.univs import UniVS

SHIPPED = Path(__file__).parents[1] / "golden" / "model"
GOLDEN = Path(os.environ.get("UNIVS_GOLDEN_DIR") or SHIPPED)
MANIFESTS = {"resnet50": "manifest_r50.json", "swin_t": "manifest_swint.json"}
PREDICTOR = "sem_seg_head.predictor"


def shapes(state) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def manifest(backbone: str) -> dict:
    return json.loads((GOLDEN / MANIFESTS[backbone]).read_text())


def listed(entries) -> dict[str, tuple[int, ...]]:
    return {name: tuple(entry["shape"]) for name, entry in entries.items()}


@pytest.fixture(scope="module", params=sorted(MANIFESTS))
def backbone(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def state(backbone) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return UniVS(released(backbone)).state_dict()


def swin_state() -> dict[str, torch.Tensor]:
    """A few of Swin's tensors, with values."""
    block = "backbone.body.swin.encoder.layers.1.blocks.0.attention"
    generator = torch.Generator().manual_seed(0)
    state = {
        f"{block}.{part}_proj.{kind}": torch.randn(*shape, generator=generator)
        for part in "qkv"
        for kind, shape in (("weight", (6, 6)), ("bias", (6,)))
    }
    state[f"{block}.relative_position_bias.relative_position_bias_table"] = torch.randn(9, 2)
    state["decoder.heads.class_temperature.weight"] = torch.tensor([[2.5]])
    return state


def test_names_and_shapes_are_the_original_ones_one_to_one(backbone, state):
    renamed = to_reference(state)
    derived = derived_entries({**renamed, **_on_cpu(renamed)})
    expected = listed(manifest(backbone)["entries"])
    assert shapes(renamed) == {name: shape for name, shape in expected.items() if name not in derived}
    assert shapes({**renamed, **derived}) == expected


def _on_cpu(state):
    """Tables that the derived entries are computed from."""
    return {name: torch.zeros(t.shape) for name, t in state.items() if name.endswith("bias_table")}


def test_renaming_there_and_back_gives_every_entry_in_place(state):
    back = {
        **from_reference(to_reference(state), state),
        **text_from_reference(text_to_reference(state), state),
    }
    assert shapes(back) == shapes(state)
    assert list(back) == list(state)


def test_text_tower_has_the_original_names_and_shapes():
    with torch.device("meta"):
        state = UniVS(released("resnet50")).state_dict()
    expected = {
        f"lang_encoder.{name}": shape for name, shape in listed(manifest("resnet50")["text_tower"]).items()
    }
    assert shapes(text_to_reference(state)) == expected


def test_parameter_counts_are_the_original_ones(backbone):
    with torch.device("meta"):
        model = UniVS(released(backbone))
    found = sum(tensor.numel() for name, tensor in model.named_parameters() if not name.startswith("text."))
    # The original's second temperature is never used.
    assert found == manifest(backbone)["total_parameters"] - 1


def test_values_survive_the_way_there_and_back():
    state = swin_state()
    back = from_reference(to_reference(state), state)
    assert all(torch.equal(back[name], tensor) for name, tensor in state.items())


def test_swin_projections_are_stacked_query_key_value():
    state = swin_state()
    block = "backbone.body.swin.encoder.layers.1.blocks.0.attention"
    fused = to_reference(state)["backbone.layers.1.blocks.0.attn.qkv.weight"]
    assert torch.equal(fused[6:12], state[f"{block}.k_proj.weight"])
    del state[f"{block}.k_proj.weight"]
    with pytest.raises(ValueError, match=r"layers\.1\.blocks\.0\.attn\.qkv\.weight needs .* one is missing"):
        to_reference(state)


def test_second_temperature_wins_where_a_file_has_both():
    state = swin_state()
    reference = to_reference(state)
    reference[f"{PREDICTOR}.reid_temp.weight"] = torch.tensor([[7.0]])
    assert from_reference(reference, state)["decoder.heads.class_temperature.weight"].item() == 7.0
    assert reference[f"{PREDICTOR}.cls_temp.weight"].item() == 2.5


def test_derived_window_index_points_at_the_row_of_each_offset():
    table = "backbone.layers.0.blocks.0.attn.relative_position_bias_table"
    window = 3
    derived = derived_entries({table: torch.zeros((2 * window - 1) ** 2, 4)})
    index = derived["backbone.layers.0.blocks.0.attn.relative_position_index"]
    for first in range(window**2):
        for second in range(window**2):
            down = first // window - second // window + window - 1
            right = first % window - second % window + window - 1
            assert index[first, second] == down * (2 * window - 1) + right


def test_derived_entries_of_a_file_are_ignored_when_reading():
    state = swin_state()
    reference = to_reference(state)
    both = {**reference, **derived_entries(reference)}
    assert shapes(from_reference(both, state)) == shapes(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop(f"{PREDICTOR}.cls_temp.weight"), "tensor .*cls_temp.weight is missing"),
        (
            lambda s: s.update({f"{PREDICTOR}.cls_temp.weight": torch.zeros(2, 1)}),
            r"cls_temp.weight has shape \(2, 1\), expected \(1, 1\)",
        ),
        (
            lambda s: s.update({"backbone.layers.1.blocks.0.attn.qkv.bias": torch.zeros(6)}),
            r"qkv.bias has shape \(6,\), expected \(18,\)",
        ),
        (
            lambda s: s.update({"backbone.norm9.weight": torch.zeros(1)}),
            "tensor backbone.norm9.weight is unknown",
        ),
    ],
)
def test_unfit_tensors_are_named(change, message):
    state = swin_state()
    reference = to_reference(state)
    change(reference)
    with pytest.raises(ValueError, match=message):
        from_reference(reference, state)


def test_backbone_that_the_original_lacks_has_no_names():
    with torch.device("meta"):
        state = UniVS(miniature()).state_dict()
    with pytest.raises(ValueError, match=r"^backbone\.body\..* has no counterpart in the original UniVS"):
        to_reference(state)


def test_names_of_a_smaller_model_follow_the_same_table():
    with torch.device("meta"):
        state = UniVS(miniature()).state_dict()
    ours = [name for name in state if not name.startswith("backbone.")]
    theirs = [reference_name(name) for name in ours]
    assert len(set(theirs)) == len(ours)
    layers = {name.split(".")[3] for name in theirs if "transformer_ffn_layers" in name}
    assert layers == {"0", "1", "2"}
