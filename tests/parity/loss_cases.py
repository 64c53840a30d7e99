"""Recorded training steps of the original: what went in, and how to run the same step here.

A case is loss_*.npz beside loss_*.json. Terms have the suffix _i for prediction i and none for the last one.
Draws are shape-keyed, but for the positives of the losses between clips, which the original draws with
Python's ``random`` and nobody recorded: those are solved for.
"""

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from goldens import BACKBONES, BANK_ROWS, PIXEL_MEAN, PIXEL_STD, Case, ShapeKeyedDraws, bank_rows, fill

from pipelines.recipes.models import released
from univs.data.batch import ClipBatch, ClipTargets
from univs.labels import Category, LabelSpace
from univs.model.keys import reference_name, to_reference
from univs.model.univs import UniVS
from univs.training.clips import cut_clips
from univs.training.compat.objective import video_terms, weigh_video
from univs.training.compat.points import Sampling, sample
from univs.training.config import LossConfig, TrainConfig

TERMS = {
    "class": "loss_ce",
    **{name: f"loss_{name}" for name in ("mask", "dice", "reid", "reid_aux", "reid_l2p", "reid_l2p_aux")},
}
INTERCLIP_TERMS = {name: f"loss_{name}" for name in ("reid_interclip", "reid_interclip_aux")}
NEAR_TIE = 1e-5
"""Of the largest logit: candidate points nearer to the cut than this may be chosen here and not there."""


class LossCase(Case):
    """One recorded training step."""

    def __init__(self, path):
        super().__init__(path)
        recorded = path.with_suffix(".json")
        self.record = json.loads(recorded.read_text()) if recorded.exists() else {}

    @property
    def yaml(self):
        return self.record["config"]["yaml"] if self.record else self.text("config/yaml")

    @property
    def options(self):
        options = self.record["config"]["opts"] if self.record else json.loads(self.text("config/opts"))
        return dict(zip(options[::2], options[1::2], strict=True))

    @property
    def salt(self):
        return str(self.record["rng_salt"]) if self.record else self.text("config/rng_salt")

    @property
    def num_videos(self):
        return len({name.split("/")[1] for name in self.names if name.startswith("input/video")})

    @property
    def task(self):
        return next(
            task
            for part, task in (("_grounding", "grounding"), ("_det_", "detection"), ("", "sot"))
            if part in self.name
        )

    @property
    def label_space(self):
        """Name the label space of a detection case; the case is named by its dataset."""
        if self.task != "detection":
            return None
        parts = self.name.split("_")
        dataset = parts[parts.index("det") + 2]
        return {"coco": "coco_panoptic"}.get(dataset, dataset)

    @property
    def clips(self):
        """Give the recorded terms of each clip of the videos."""
        return self.record.get("raw_losses_per_clip") or [self.record["raw_losses"]]

    @property
    def reid_weight(self):
        """Derive the weight from a term that has one value before and one after."""
        before = sum(clip["loss_reid"] for clip in self.clips) / len(self.clips)
        return self.record["weighted_losses"]["loss_reid"] / before

    def strided(self, name):
        """Give the recorded values of an array, flat, and their stride."""
        if name in self._arrays:
            return self._arrays[name].ravel(), 1
        return self._arrays[f"{name}__sub"], int(self._arrays[f"{name}__stride"])

    def config(self):
        """Configure the step."""
        num_points = int(self.options.get("MODEL.MASK_FORMER.TRAIN_NUM_POINTS", 12544))
        reid_weight = self.reid_weight if self.record else 0.5
        return TrainConfig(
            frames_per_clip=int(self.options["INPUT.SAMPLING_FRAME_NUM"]),
            losses=LossConfig(num_points=num_points, reid_weight=reid_weight),
        )

    def batch(self):
        """Rebuild the input of the step."""
        videos = [f"input/video{index}" for index in range(self.num_videos)]
        frames = torch.stack([self._frames(video) for video in videos])
        sizes = [self.shape(f"{video}/frames_uint8")[-2:] for video in videos]
        return ClipBatch(
            step=0,
            dataset=self.label_space or self.task,
            task=self.task,
            label_space=self._label_space(),
            frames=frames,
            frame_indices=torch.stack(
                [torch.from_numpy(self.array(f"{video}/frame_indices")) for video in videos]
            ),
            image_sizes=torch.tensor(sizes),
            targets=tuple(self._targets(video, frames.shape[-2:]) for video in videos),
            keys=tuple(videos),
        )

    def bank(self):
        """Give the text features of the step's categories."""
        return bank_rows(self.label_space) if self.label_space else None

    def _label_space(self):
        if not self.label_space:
            return None
        _, count = BANK_ROWS[self.label_space]
        categories = [Category(category_id=i + 1, name=f"category {i}", is_thing=True) for i in range(count)]
        return LabelSpace(name=self.label_space, categories=tuple(categories))

    def _frames(self, video):
        frames = torch.from_numpy(self.array(f"{video}/frames_uint8")).float()
        frames = (frames - torch.tensor(PIXEL_MEAN)[:, None, None]) / torch.tensor(PIXEL_STD)[:, None, None]
        return _pad(frames, self._padded_size(frames))

    def _padded_size(self, frames):
        if "targets0/masks_shape" in self:
            return tuple(int(side) for side in self.array("targets0/masks_shape")[-2:])
        return tuple(-(-side // 32) * 32 for side in frames.shape[-2:])

    def _targets(self, video, size):
        masks = _pad(torch.from_numpy(self.array(f"{video}/masks")), size)
        classes = torch.from_numpy(self.array(f"{video}/classes_1based"))
        strings = self.array(f"{video}/expressions") if f"{video}/expressions" in self else ()
        return ClipTargets(
            masks=masks,
            labels=torch.where(classes > 0, classes - 1, -1),
            object_ids=torch.from_numpy(self.array(f"{video}/gt_ids")),
            is_thing=torch.ones(len(masks), dtype=torch.bool),
            expression_objects=torch.arange(len(strings)),
            expressions=tuple(str(string) for string in strings),
            ignore=torch.zeros(masks.shape[1:], dtype=torch.bool),
        )


def _pad(pictures, size):
    missing = size[0] - pictures.shape[-2], size[1] - pictures.shape[-1]
    return F.pad(pictures, (0, missing[1], 0, missing[0]))


@lru_cache(maxsize=1)
def training_model(yaml, frozen_stages):
    """Build the model of a step with its weights, in training mode."""
    backbone = next(name for key, name in BACKBONES.items() if key in Path(yaml).stem.lower())
    config = replace(released(backbone, frozen_stages=frozen_stages), reference_compat=True)
    return fill(UniVS(config)).train()


class SolvedDraws(ShapeKeyedDraws):
    """Answer the draws nobody recorded from a list."""

    def __init__(self, salt, positives=()):
        super().__init__(salt)
        self._positives = list(positives)

    def choices(self, num_items, num_draws, *, device=None):
        if not self._positives:
            return torch.zeros(num_draws, dtype=torch.int64, device=device)
        return self._positives.pop(0).to(device)


class RecordingSampling(Sampling):
    """Keep the points of mask losses, and how far near ties at the cut may move each call's terms."""

    def __init__(self, config, draws):
        super().__init__(config, draws)
        self.points, self.slack = [], []

    def uncertain_points(self, logits):
        points = super().uncertain_points(logits)
        self.points.append(points)
        self.slack.append(self._slack(logits, points))
        return points

    @torch.no_grad()
    def _slack(self, logits, points):
        """Bound what swapping nearly tied points does to the sums over maps of cross-entropy and dice.

        A swap at a logit of size a moves a cross-entropy sum by a at most. Dice is 1 - (2 I + 1) / (S + 1),
        where a swap moves I by 1 and S by 2 at most.
        """
        candidates = self.draws.rand(len(logits), self.config.num_candidates, 2)
        certainty = sample(logits[:, None], candidates)[:, 0].abs()
        cut = certainty.kthvalue(self.config.num_uncertain, dim=1, keepdim=True).values
        ties = (certainty - cut).abs() < NEAR_TIE * logits.abs().max()
        swaps = torch.minimum((ties & (certainty <= cut)).sum(1), (ties & (certainty > cut)).sum(1))
        area = sample(logits[:, None], points)[:, 0].sigmoid().sum(1)
        return float((swaps * cut[:, 0]).sum()) / self.config.num_points, float(
            (4 * swaps / (area + 1)).sum()
        )


@dataclass(frozen=True, kw_only=True)
class LossRun:
    """A step as it went here."""

    case: LossCase
    batch: ClipBatch
    config: TrainConfig
    sampling: RecordingSampling
    terms: object
    total: float
    gradients: dict


def run(case):
    """Take the losses and gradients of a recorded step."""
    model = training_model(case.yaml, int(case.options.get("MODEL.BACKBONE.FREEZE_AT", 5)))
    batch, config = case.batch(), case.config()
    clips = cut_clips(batch.frames.shape[1], config.frames_per_clip)
    positives = ()
    if len(clips) > 1:
        with torch.no_grad():
            trial = Sampling(config.losses, SolvedDraws(case.salt))
            positives = solve_positives(case, video_terms(model, batch, case.bank(), clips, config, trial))
    sampling = RecordingSampling(config.losses, SolvedDraws(case.salt, positives))
    model.zero_grad()
    terms = video_terms(model, batch, case.bank(), clips, config, sampling)
    total = torch.stack(list(weigh_video(terms, config.losses).values())).sum()
    total.backward()
    return LossRun(
        case=case,
        batch=batch,
        config=config,
        sampling=sampling,
        terms=terms,
        total=float(total.detach()),
        gradients=reference_gradients(model),
    )


def reference_gradients(model):
    """Give gradients under the original's names, ``None`` where there is none."""
    parameters = {name: p for name, p in model.named_parameters() if not name.startswith("text.")}
    filled = {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in parameters.items()}
    missing = {reference_name(name) for name, p in parameters.items() if p.grad is None}
    return {
        name: None if name in missing else gradient.clone() for name, gradient in to_reference(filled).items()
    }


def layer_values(recorded, name, num_layers, first=0):
    """Read a term of all layers."""
    return [recorded[f"{name}_{i}" if i < num_layers - 1 else name] for i in range(first, num_layers)]


def solve_positives(case, terms):
    """Find positives [3] per layer and object that give the recorded contrast between clips."""
    config = case.config().losses
    tokens = [torch.cat(parts) for parts in zip(*(clip.tokens for clip in terms.clips), strict=True)]
    ids = [torch.cat(parts) for parts in zip(*(clip.identities for clip in terms.clips), strict=True)]
    name, num_layers = INTERCLIP_TERMS["reid_interclip"], len(tokens)
    weighted = layer_values(case.record["weighted_losses"], name, num_layers, first=1)
    draws = ShapeKeyedDraws(case.salt)
    return [
        positives
        for layer, value in enumerate(weighted, start=1)
        for positives in _solve_layer(tokens[layer], ids[layer], value / case.reid_weight, draws, config)
    ]


def _solve_layer(tokens, ids, target, draws, config):
    order = draws.randperm(len(ids))
    tokens, ids = tokens[order], ids[order]
    columns = draws.randperm(len(ids))[: config.num_interclip_columns]
    options, values = [], []
    for identity in ids.unique():
        own = (ids == identity).nonzero()[:, 0]
        scores = tokens @ tokens[own[0]] / tokens.shape[1] ** 0.5
        others = scores[columns][ids[columns] != identity]
        per_positive = (others[:, None] - scores[own]).clamp(max=10).exp().sum(0).double().numpy()
        picks = np.array(list(combinations_with_replacement(range(len(own)), config.num_interclip_positives)))
        options.append(picks)
        values.append(np.log1p(per_positive[picks].sum(1)))
    chosen = _nearest_sum(values, target * len(values))
    return [torch.from_numpy(picks[index]) for picks, index in zip(options, chosen, strict=True)]


def _nearest_sum(values, target):
    """Choose one value of each list for a sum near the target; all but three lists give their share."""
    chosen = [int(np.abs(row - target / len(values)).argmin()) for row in values]
    if len(values) == 1:
        return chosen
    third = values[2] if len(values) > 2 else np.zeros(1)
    rest = target - sum(row[index] for row, index in zip(values[3:], chosen[3:], strict=True))
    order = values[1].argsort()
    best = (np.inf, 0, 0, 0)
    for index, value in enumerate(third):
        wanted = rest - value - values[0]
        place = np.searchsorted(values[1][order], wanted).clip(0, len(order) - 1)
        errors = np.abs(values[1][order][place] - wanted)
        first = int(errors.argmin())
        best = min(best, (errors[first], first, int(order[place[first]]), index))
    return [*best[1 : 1 + min(len(values), 3)], *chosen[3:]]
