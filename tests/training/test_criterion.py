from dataclasses import replace

import pytest
import torch

from univs.model.types import LayerPrediction, Predictions
from univs.training.config import LossConfig
from univs.training.criterion import clip_losses, join_terms, weigh
from univs.training.losses import Term
from univs.training.targets import category_targets, choose_targets, visual_targets

CONFIG = LossConfig(num_points=200, importance_ratio=0, num_reid_columns=400)
"""Uniform points, and more columns than tokens: only the points are random."""
NUM_QUERIES, NUM_CATEGORIES = 6, 4


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def _perfect(targets, prompts, num_layers: int = 2) -> Predictions:
    """Predict every object and prompt exactly: query n is object n, embeddings and classes are one-hot."""
    num_clips, num_objects, num_frames = targets.visible.shape
    channels = 16
    union = (prompts.members[:, :, :, None, None, None] & targets.masks[:, None]).any(2)
    masks = torch.cat([targets.masks, union], dim=1)
    signs = masks.float() * 2 - 1
    features = torch.zeros(num_clips, num_frames, channels, *masks.shape[-2:])
    features[:, :, : masks.shape[1]] = signs.transpose(1, 2)
    eye = torch.eye(channels)
    rows = [*range(num_objects), *[15] * (NUM_QUERIES - num_objects)]
    rows += range(num_objects, masks.shape[1])
    mask_embeddings = 30 * eye[rows].expand(num_clips, -1, -1)[:, :, None].expand(-1, -1, num_frames, -1)
    identity = torch.arange(len(rows))
    identity = identity.expand(num_clips, -1).clone()
    identity[:, NUM_QUERIES:] = prompts.members.int().argmax(-1)
    logits = torch.full((num_clips, len(rows), NUM_CATEGORIES), -30.0)
    labels = torch.cat([targets.labels, prompts.labels], dim=1)
    labelled = torch.tensor([*range(num_objects), *range(NUM_QUERIES, len(rows))])
    logits[:, labelled] += 60 * torch.nn.functional.one_hot(labels.clamp(min=0), NUM_CATEGORIES)
    identity += 8 * torch.arange(num_clips)[:, None]
    embeddings = 8 * eye[identity][:, :, None].expand(-1, -1, num_frames, -1)
    layer = LayerPrediction(embeddings=embeddings, mask_embeddings=mask_embeddings, class_logits=logits)
    return Predictions(layers=(layer,) * num_layers, mask_features=features, num_learnable=NUM_QUERIES)


def _values(predictions, targets, prompts, config=CONFIG) -> dict[str, float]:
    losses = clip_losses(predictions, targets, prompts, config, _generator())
    return {name: float(value) for name, value in weigh(losses.terms, config).items()}


@pytest.fixture
def scene(make_targets):
    """Three large objects in two clips, prompted by regions."""
    targets = choose_targets([make_targets(3), make_targets(3)], 3, _generator())
    return targets, visual_targets(targets)


def _noisy(predictions: Predictions, scale: float) -> Predictions:
    generator = _generator()

    def disturb(x: torch.Tensor) -> torch.Tensor:
        return x + scale * torch.randn(x.shape, generator=generator)

    layers = tuple(
        LayerPrediction(
            embeddings=disturb(layer.embeddings),
            mask_embeddings=disturb(layer.mask_embeddings),
            class_logits=disturb(layer.class_logits),
        )
        for layer in predictions.layers
    )
    return replace(predictions, layers=layers)


def test_clip_losses_of_a_perfect_prediction_are_near_zero(scene):
    targets, prompts = scene
    values = _values(_perfect(targets, prompts), targets, prompts)
    # What is left of the masks is interpolation at their edges.
    assert values["mask"] + values["prompt_mask"] < 1
    assert values["dice"] + values["prompt_dice"] < 0.5
    others = {name: value for name, value in values.items() if "mask" not in name and "dice" not in name}
    assert set(others) == {
        *("class", "reid", "reid_aux", "prompt_class", "prompt_reid", "prompt_reid_aux"),
        *("reid_l2p", "reid_l2p_aux"),
    }
    assert max(others.values()) < 0.01


def test_clip_losses_of_a_wrong_prediction_are_all_higher(scene):
    targets, prompts = scene
    perfect = _perfect(targets, prompts)
    layers = tuple(
        LayerPrediction(
            embeddings=layer.embeddings.roll(1, 1).roll(1, 2),
            mask_embeddings=-layer.mask_embeddings,
            class_logits=layer.class_logits.roll(1, 2),
        )
        for layer in perfect.layers
    )
    noisy = _noisy(replace(perfect, layers=layers), 0.5)
    wrong, right = _values(noisy, targets, prompts), _values(perfect, targets, prompts)
    assert all(wrong[name] > 3 * right[name] for name in right)


def test_clip_losses_do_not_change_with_the_order_of_queries(scene):
    targets, prompts = scene
    predictions = _noisy(_perfect(targets, prompts), 3)
    order = torch.tensor([4, 2, 0, 5, 1, 3, *range(NUM_QUERIES, NUM_QUERIES + 3)])
    layers = tuple(
        LayerPrediction(
            embeddings=layer.embeddings[:, order],
            mask_embeddings=layer.mask_embeddings[:, order],
            class_logits=layer.class_logits[:, order],
        )
        for layer in predictions.layers
    )
    shuffled = _values(replace(predictions, layers=layers), targets, prompts)
    assert shuffled == pytest.approx(_values(predictions, targets, prompts), rel=1e-4)


def test_clip_losses_do_not_change_with_the_order_of_objects(scene):
    targets, prompts = scene
    predictions = _noisy(_perfect(targets, prompts), 3)
    order = torch.tensor([2, 0, 1])
    place = order.argsort()
    moved = replace(
        targets,
        masks=targets.masks[:, order],
        visible=targets.visible[:, order],
        labels=targets.labels[:, order],
        kept_rows=place[targets.kept_rows],
    )
    moved_prompts = replace(prompts, members=prompts.members[..., order])
    values = _values(predictions, moved, moved_prompts)
    assert values == pytest.approx(_values(predictions, targets, prompts), rel=1e-4)


@pytest.mark.parametrize("kind", ["visual", "category"])
def test_clip_losses_do_not_see_ignored_pixels(scene, kind):
    targets, prompts = scene
    if kind == "category":
        prompts = category_targets(targets, torch.randn(NUM_CATEGORIES, 8), 3, _generator())
    predictions = _noisy(_perfect(targets, prompts), 3)
    targets = replace(targets, ignore=targets.ignore.clone())
    targets.ignore[:, :, 20:44, 10:60] = True
    noise = torch.rand(targets.masks.shape, generator=_generator()) > 0.5
    changed = replace(targets, masks=torch.where(targets.ignore[:, None], noise, targets.masks))
    config = replace(CONFIG, importance_ratio=0.5)
    before = _values(predictions, targets, prompts, config)
    assert _values(predictions, changed, prompts, config) == before
    judged = replace(changed, ignore=torch.zeros_like(changed.ignore))
    assert _values(predictions, judged, prompts, config)["mask"] != before["mask"]


def test_clip_losses_take_no_class_loss_on_dropped_objects(make_targets):
    targets = choose_targets([make_targets(3)], 2, _generator())
    prompts = visual_targets(targets)
    predictions = _perfect(targets, prompts)
    assert _values(predictions, targets, prompts)["class"] < 0.01
    dropped = int((~targets.kept[0]).int().argmax())
    logits = predictions.final.class_logits.clone()
    logits[:, dropped] *= -1
    layer = replace(predictions.final, class_logits=logits)
    assert _values(replace(predictions, layers=(layer, layer)), targets, prompts)["class"] < 0.01


def test_clip_losses_of_learnable_queries_alone_are_not_halved(scene):
    targets, prompts = scene
    predictions = _noisy(_perfect(targets, prompts), 3)
    both = _values(predictions, targets, prompts)
    no_prompts = replace(prompts, valid=torch.zeros_like(prompts.valid))
    alone = _values(predictions, targets, no_prompts)
    assert alone["mask"] == pytest.approx(2 * both["mask"])
    assert alone["class"] == pytest.approx(2 * both["class"])
    assert alone["prompt_mask"] == alone["prompt_class"] == alone["reid_l2p"] == 0


def test_clip_losses_of_one_prompt_do_not_depend_on_padding(scene):
    targets, prompts = scene
    predictions = _noisy(_perfect(targets, prompts), 3)
    first = replace(prompts, valid=prompts.valid & (torch.arange(3) < 1))
    fewer = replace(
        prompts, members=prompts.members[:, :1], labels=prompts.labels[:, :1], valid=prompts.valid[:, :1]
    )
    layers = tuple(
        LayerPrediction(
            embeddings=layer.embeddings[:, : NUM_QUERIES + 1],
            mask_embeddings=layer.mask_embeddings[:, : NUM_QUERIES + 1],
            class_logits=layer.class_logits[:, : NUM_QUERIES + 1],
        )
        for layer in predictions.layers
    )
    padded = _values(predictions, targets, first)
    assert padded == pytest.approx(_values(replace(predictions, layers=layers), targets, fewer), rel=1e-5)


def test_join_terms_adds_sums_and_counts():
    clips = [
        {"mask": Term(total=torch.tensor(2.0), count=torch.tensor(1.0))},
        {"mask": Term(total=torch.tensor(4.0), count=torch.tensor(3.0))},
    ]
    value = weigh(join_terms(clips), LossConfig(mask_weight=2))["mask"]
    assert value == 2 * 6 / 4


def test_clip_losses_take_no_class_loss_on_prompts_without_class_or_object(scene):
    targets, prompts = scene
    targets = replace(targets, labels=targets.labels.clone(), visible=targets.visible.clone())
    prompts = replace(prompts, labels=prompts.labels.clone())
    classless, absent = (prompts.members[..., row].int().argmax(1) for row in (0, 1))
    targets.labels[:, 0] = -1
    targets.visible[:, 1] = False
    clips = torch.arange(2)
    prompts.labels[clips, classless] = -1
    predictions = _perfect(targets, prompts)
    logits = predictions.final.class_logits.clone()
    logits[clips, NUM_QUERIES + classless] = 20
    logits[clips, NUM_QUERIES + absent] = 20
    layer = replace(predictions.final, class_logits=logits)
    assert _values(replace(predictions, layers=(layer, layer)), targets, prompts)["prompt_class"] < 0.01
