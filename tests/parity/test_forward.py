"""The forward pass against numbers recorded from the original, for every forward case found."""

from dataclasses import dataclass
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from goldens import (
    TOLERANCE,
    Case,
    ShapeKeyedDraws,
    bank_rows,
    case_params,
    normalized_frames,
    pad,
    reference_model,
    text_bank,
)

from univs.model.regions import BOX_KIND, MASK_KIND
from univs.model.types import Features, Predictions, Prompts, TextFeatures, VisualRegions

CASES = case_params("forward_*.npz")
MAX_EXCUSED = 1
"""Queries of one scenario that may differ because a cell of an attention mask lies on the threshold."""
EXCUSED_TOLERANCE = 1e-3
"""How far they may be off: one cell of hundreds that a query looks at moves it no further."""
AT_THRESHOLD = 2e-5
"""Mask logits this near 0, of the largest, may have another sign in other rounding."""


@dataclass(frozen=True, kw_only=True)
class Clip:
    """A case, the model it is for and the encoded frames."""

    case: Case
    model: torch.nn.Module
    maps: list[torch.Tensor]
    features: Features


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One scenario of a case: prompts and what the model makes of them."""

    prompts: Prompts | None
    predictions: Predictions


@cache
def encode(path) -> Clip:
    case = Case(path)
    frames = normalized_frames(case)
    num_frames = frames.shape[1]
    dense = "visual_mask/prompt_encoder/prompt_feats_dense"
    # One slot of the first appearance and one per frame.
    tokens = case.shape(dense)[1] // (num_frames + 1) if dense in case else 32
    model = reference_model(case.text("config/yaml"), case.text("config/opts"), tokens)
    with torch.no_grad():
        maps = model.backbone(frames[0])
        features = model.encode(frames, torch.arange(num_frames)[None])
    return Clip(case=case, model=model, maps=maps, features=features)


@cache
def play(path, group) -> Scene:
    clip = encode(path)
    with torch.no_grad():
        prompts = None if group == "learnable" else prompt(clip, group)
        return Scene(prompts=prompts, predictions=clip.model.decode(clip.features, prompts, text_bank()))


def prompt(clip, group):
    if group == "grounding":
        text = expressions(clip)
        return clip.model.prompt(clip.features, text, text.word_valid.any(-1))
    if group.startswith("category_text_"):
        rows = bank_rows(group.removeprefix("category_text_"))[None]
        return clip.model.prompt(clip.features, rows)
    regions = first_frame_regions(clip.case, MASK_KIND if group == "visual_mask" else BOX_KIND)
    draws = ShapeKeyedDraws(clip.case.text("config/rng_salt"))
    tokens = clip.model.region_tokens(clip.features, regions, draws)
    return clip.model.prompt(clip.features, tokens, regions.valid)


def expressions(clip):
    """Encode the case's expressions, in a batch of one clip."""
    text = clip.model.text.encode([str(string) for string in clip.case.array("text/expressions")])
    return TextFeatures(
        sentences=text.sentences[None], words=text.words[None], word_valid=text.word_valid[None]
    )


def first_frame_regions(case, kind):
    masks = pad(torch.from_numpy(case.array("input/masks")[:, 0]), case)[None]
    boxes = torch.from_numpy(case.array("input/prompt_boxes_xyxy_norm"))[:, 0][None]
    shape = masks.shape[:2]
    return VisualRegions(
        masks=masks,
        boxes=boxes,
        points=torch.zeros(*shape, 2),
        kinds=torch.full(shape, kind),
        key_frames=torch.zeros(shape, dtype=torch.long),
        # An object that the frame does not show is a prompt all the same.
        valid=torch.ones(shape, dtype=torch.bool),
    )


def groups_of(path):
    return [
        group
        for prefix in ("learnable", "visual_", "grounding", "category_text_")
        for group in Case(path).groups(prefix)
    ]


def short(group):
    """Name a scenario in the table: label spaces share a row."""
    return "category_text" if group.startswith("category_text_") else group


SCENES = [
    pytest.param(param.values[0], group, id=f"{param.id}-{group}")
    for param in CASES
    if param.values[0] is not None
    for group in groups_of(param.values[0])
] or [pytest.param(None, None, marks=CASES[0].marks)]


@pytest.fixture
def check(note_error):
    """Hold an array of a case against the recording, under a name of the table."""

    def hold(case, name, tensor):
        if name not in case:
            return
        deviation = case.deviation(name, tensor)
        scenario = name.split("/")[0]
        note_error(
            case.name, short(scenario) + ("/prompts" if "prompt_encoder" in name else ""), deviation.error
        )
        assert deviation.error <= TOLERANCE, f"{name} differs by {deviation.error:.1e} of its scale"
        assert deviation.sum_error <= TOLERANCE, f"sum of {name} differs by {deviation.sum_error:.1e}"

    return hold


@pytest.mark.parametrize("path", CASES)
def test_backbone_maps_equal_the_original(path, check):
    clip = encode(path)
    check(clip.case, "input/images_norm", normalized_frames(clip.case)[0])
    for stage, feature_map in enumerate(clip.maps, start=2):
        check(clip.case, f"backbone/res{stage}", feature_map)


@pytest.mark.parametrize("path", CASES)
def test_pixel_decoder_equals_the_original(path, check):
    clip = encode(path)
    with torch.no_grad():
        levels, mask_features = clip.model.pixel_decoder(clip.maps)
    check(clip.case, "pixel_decoder/mask_features", mask_features)
    for index, level in enumerate(levels):
        check(clip.case, f"pixel_decoder/multi_scale_{index}", level)


@pytest.mark.parametrize("path", CASES)
def test_position_encoding_equals_the_original(path, check):
    clip = encode(path)
    for index, level in enumerate(clip.features.levels):
        size = level.shape[-2:]
        cells = clip.model.positions.cells(clip.features.frame_indices, *size)
        check(clip.case, f"pos3d/level_{index}", cells.transpose(2, 3).unflatten(-1, size))


@pytest.mark.parametrize("path", CASES)
def test_expressions_equal_the_original(path, check):
    clip = encode(path)
    if "text/expressions" in clip.case:
        text = expressions(clip)
        check(clip.case, "text/exp_word_feats_frame0", text.words[0])
        check(clip.case, "text/exp_sentence_feats_frame0", text.sentences[0])
        # The original has no mask: padding counts as words.
        assert text.word_valid.all()


@pytest.mark.parametrize(("path", "group"), SCENES)
def test_prompts_equal_the_original(path, group, check):
    case, prompts = encode(path).case, play(path, group).prompts
    if prompts is None:
        return
    num_frames = prompts.queries.shape[2]

    def dense(tokens):
        return tokens[0].expand(-1, num_frames, -1, -1).transpose(1, 2)

    base = f"{group}/prompt_encoder"
    check(case, f"{base}/output_prompt", prompts.queries[0])
    check(case, f"{base}/query_embed_prompt", prompts.query_positions[0])
    check(case, f"{base}/prompt_feats_dense", dense(prompts.tokens))
    if prompts.token_positions is not None:
        check(case, f"{base}/prompt_pe_dense", dense(prompts.token_positions))
    # The original masks no token at all.
    assert prompts.token_valid.all()


@pytest.mark.parametrize(("path", "group"), SCENES)
def test_predictions_of_all_layers_equal_the_original(path, group, note_error):
    case, predictions = encode(path).case, play(path, group).predictions
    excused, found = set(), 0
    for index, layer in enumerate(predictions.layers):
        # A flipped cell counts from the layer on that looks through it.
        at_threshold = rows_at_threshold(predictions, index)
        prefix = f"{group}/" if index == len(predictions.layers) - 1 else f"{group}/aux{index}/"
        arrays = {"pred_embds": layer.embeddings, "pred_masks": predictions.mask_logits(index)}
        arrays["pred_logits"] = class_logits(path, group, layer)
        for name, tensor in arrays.items():
            if prefix + name not in case:
                continue
            deviation = case.deviation(prefix + name, tensor)
            note_error(case.name, f"{short(group)}/{name}", deviation.error)
            unexplained = deviation.bad_rows - at_threshold
            assert not unexplained, f"queries {sorted(unexplained)} of {prefix}{name} differ"
            assert deviation.error <= EXCUSED_TOLERANCE, f"{prefix}{name} differs by {deviation.error:.1e}"
            assert deviation.sum_error <= TOLERANCE, f"sum of {prefix}{name}"
            excused |= deviation.bad_rows
            found += 1
    assert found
    if excused:
        note_error(case.name, f"{short(group)}/number of excused queries", len(excused))
    assert len(excused) <= MAX_EXCUSED, f"queries {sorted(excused)} differ by way of their attention masks"


def class_logits(path, group, layer):
    """The original scores expressions by a plain product, averaged over frames; nothing reads it."""
    if group != "grounding":
        return layer.class_logits
    clip = encode(path)
    with torch.no_grad():
        text = clip.model.decoder.heads.vision_to_text(layer.embeddings).mean(2)
    return text @ expressions(clip).sentences.transpose(1, 2)


def rows_at_threshold(predictions, stop):
    """Find queries with a cell on the threshold in an attention mask of the layers before ``stop``."""
    rows = set()
    for index in range(stop):
        logits = attention_logits(predictions, index)
        near = logits.abs() <= AT_THRESHOLD * logits.abs().max()
        rows |= set(near.flatten(2).any(-1)[0].nonzero()[:, 0].tolist())
    return rows


def attention_logits(predictions, index):
    """Mask logits resized to the level that the next layer looks at: [B, Q, T, h, w]."""
    dense = predictions.mask_logits(index)
    height, width = dense.shape[-2:]
    factor = (8, 4, 2)[index % 3]
    size = (height // factor, width // factor)
    resized = F.interpolate(dense.flatten(0, 1), size, mode="bilinear", align_corners=False)
    return resized.unflatten(0, dense.shape[:2])


@pytest.mark.parametrize(("path", "group"), SCENES)
def test_attention_masks_equal_the_original(path, group, note_error):
    case, predictions = encode(path).case, play(path, group).predictions
    name = f"{group}/attn_mask_true_fraction_per_layer"
    if name not in case:
        return
    fractions = case.array(name)
    empty_fractions = case.array(f"{group}/attn_mask_fully_masked_row_fraction_per_layer")
    for index in range(len(predictions.layers)):
        logits = attention_logits(predictions, index)
        blocked = logits < 0
        num_near = int((logits.abs() <= AT_THRESHOLD * logits.abs().max()).sum())
        flips = abs(float(blocked.double().mean()) - float(fractions[index])) * blocked.numel()
        note_error(case.name, f"{short(group)}/attention mask cells", flips / blocked.numel())
        # A fraction in single precision tells cells apart up to 1e-7 of them.
        assert flips <= num_near + 2e-7 * blocked.numel() + 1e-3, f"layer {index}: {flips} cells differ"
        empty = blocked.flatten(3).all(-1)
        rows = abs(float(empty.double().mean()) - float(empty_fractions[index])) * empty.numel()
        assert rows <= num_near + 1e-3, f"layer {index}: {rows} empty rows differ"


@pytest.mark.parametrize(("path", "group"), SCENES)
def test_self_attention_layout_is_the_recorded_one(path, group):
    """True blocks; learnable and prompt queries are apart, prompts of expressions from one another, too."""
    case, scene = encode(path).case, play(path, group)
    name = f"{group}/self_attn_mask_head0"
    if name not in case:
        return
    num_frames = scene.predictions.mask_features.shape[1]
    num_queries = scene.predictions.final.embeddings.shape[1]
    query = torch.arange(num_queries).repeat_interleave(num_frames)
    is_prompt = query >= scene.predictions.num_learnable
    blocked = is_prompt[:, None] != is_prompt
    if scene.prompts is not None and scene.prompts.task == "grounding":
        blocked |= is_prompt & (query[:, None] != query)
    assert torch.equal(torch.from_numpy(case.array(name)), blocked)


@pytest.mark.parametrize(("path", "group"), SCENES)
def test_learnable_predictions_do_not_depend_on_prompts(path, group):
    alone, prompted = play(path, "learnable").predictions, play(path, group).predictions
    rows = slice(alone.num_learnable)
    for ours, theirs in zip(prompted.layers, alone.layers, strict=True):
        for name in ("embeddings", "mask_embeddings", "class_logits"):
            assert torch.equal(getattr(ours, name)[:, rows], getattr(theirs, name)), name
