"""Recorded numbers of the original: how cases are stored, which weights and draws they were made with.

A case is an .npz file. An array NAME is stored whole, or as NAME__sub, every NAME__stride-th value of
NAME__shape in C order, or, if it is of bools, as NAME__packbits. NAME__stats holds mean, standard deviation,
sum of magnitudes, minimum and maximum of the whole. Cases come from UNIVS_GOLDEN_DIR (default:
tests/golden/model).
"""

import json
import math
import os
import zlib
from copy import copy
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from pipelines.recipes.models import released
from univs.draws import Draws
from univs.model.keys import from_reference, text_from_reference, text_to_reference, to_reference
from univs.model.univs import UniVS

SHIPPED = Path(__file__).parents[1] / "golden" / "model"
GOLDEN = Path(os.environ.get("UNIVS_GOLDEN_DIR") or SHIPPED)
TOLERANCE = 1e-4
"""Of the largest magnitude of a tensor."""
BACKBONES = {"swint": "swin_t", "swinb": "swin_b", "swinl": "swin_l", "r50": "resnet50"}
PIXEL_MEAN, PIXEL_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
NUM_BANK_ROWS = 3938
BANK_ROWS = {
    "imagenet": (0, 1000),
    "lvis": (1000, 1203),
    "burst": (1000, 1203),
    "ytvis21": (2203, 40),
    "ovis": (2243, 25),
    "bdd_track": (2268, 8),
    "objects365": (2276, 365),
    "coco_panoptic": (2641, 133),
    "coco": (2641, 80),
    "ade20k": (2774, 150),
    "vipseg": (2924, 124),
    "vspw": (2924, 124),
    "viposeg": (2924, 124),
    "ytvis19": (3048, 40),
    "entityseg_instance": (3088, 206),
    "entityseg_panoptic": (3294, 644),
}
"""First row and number of rows of each label space in the original's text bank."""


def case_params(pattern):
    """Give one pytest parameter per case of a file pattern, or a skipped one."""
    paths = sorted(GOLDEN.glob(pattern))
    skip = pytest.mark.skip(reason=f"no {pattern} in {GOLDEN}: set UNIVS_GOLDEN_DIR")
    return [pytest.param(path, id=path.stem) for path in paths] or [pytest.param(None, marks=skip)]


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """How far an array is from the recorded one."""

    error: float
    """Largest difference over the largest magnitude."""
    sum_error: float
    """Relative difference of the sums of magnitudes, which sees what the subsample leaves out."""
    bad_rows: frozenset[int]
    """Indices along the second axis that hold a difference out of tolerance."""


class Case:
    """One recorded case."""

    def __init__(self, path):
        self.name = path.stem
        with np.load(path) as arrays:
            self._arrays = dict(arrays)
        self.names = {name.split("__")[0] for name in self._arrays}

    def __contains__(self, name):
        return name in self.names

    def array(self, name):
        """Read an array that is stored whole or bit by bit."""
        if name in self._arrays:
            return self._arrays[name]
        shape = self.shape(name)
        bits = np.unpackbits(self._arrays[f"{name}__packbits"])[: math.prod(shape)]
        return bits.reshape(shape).astype(bool)

    def shape(self, name):
        """Tell the shape of a whole array."""
        if name in self._arrays:
            return self._arrays[name].shape
        return tuple(int(side) for side in self._arrays[f"{name}__shape"])

    def text(self, name):
        """Read a string."""
        return str(self._arrays[name])

    def groups(self, prefix):
        """List the scenarios whose name starts so."""
        found = {name.split("/")[0] for name in self.names if "/" in name}
        return sorted(group for group in found if group.startswith(prefix))

    def deviation(self, name, tensor):
        """Compare a tensor with the recorded values of an array."""
        ours = tensor.detach().cpu().numpy().astype(np.float64)
        assert ours.shape == self.shape(name), f"{name}: shape {ours.shape}, recorded {self.shape(name)}"
        stride = 1 if name in self._arrays else int(self._arrays[f"{name}__stride"])
        theirs = self._arrays.get(name, self._arrays.get(f"{name}__sub")).astype(np.float64).ravel()
        scale, sum_error = np.abs(theirs).max(initial=0), 0.0
        if f"{name}__stats" in self._arrays:
            _, _, total, low, high = self._arrays[f"{name}__stats"].astype(np.float64)
            scale = max(abs(low), abs(high))
            sum_error = abs(np.abs(ours).sum() - total) / max(total, 1e-12)
        scale = max(scale, 1e-12)
        differences = np.abs(ours.ravel()[::stride] - theirs) / scale
        bad = np.flatnonzero(~(differences <= TOLERANCE)) * stride
        rows = np.unravel_index(bad, ours.shape)[1] if ours.ndim > 1 else bad
        return Deviation(
            error=float(differences.max(initial=0)),
            sum_error=float(sum_error),
            bad_rows=frozenset(int(row) for row in rows),
        )


class ShapeKeyedDraws(Draws):
    """Answer as the recorded runs did: a draw depends on its kind and shape and on nothing else."""

    def __init__(self, salt):
        self.salt = str(salt)

    def rand(self, *shape, device=None):
        return torch.from_numpy(self._state("rand", shape).random_sample(shape).astype(np.float32)).to(device)

    def randn(self, *shape, device=None):
        normal = self._state("randn", shape).standard_normal(shape)
        return torch.from_numpy(normal.astype(np.float32)).to(device)

    def randperm(self, num_items, *, device=None):
        order = self._state("randperm", int(num_items)).permutation(int(num_items))
        return torch.from_numpy(order.astype(np.int64)).to(device)

    def _state(self, kind, key):
        return np.random.RandomState(zlib.crc32(f"{self.salt}|{kind}|{key}".encode()))


def weight(name, shape):
    """Make the weight that the recorded runs had under the original's name."""
    last = name.rpartition(".")[2]
    if name.endswith(("cls_temp.weight", "reid_temp.weight")):
        return np.full(shape, math.log(1 / 0.07), dtype=np.float32)
    normal = _normal(name, shape)
    embeddings = ("query_feat.weight", "query_embed.weight", "level_embed.weight", "level_embed")
    embeddings += ("prompt_detection.weight", "prompt_sot.weight", "prompt_grounding.weight")
    if name.endswith((*embeddings, "token_embedding.weight", "positional_embedding")):
        return normal
    if last == "running_mean":
        return np.float32(0.1) * normal
    if last == "running_var":
        return 1 + np.float32(0.1) * np.abs(normal)
    if normal.ndim >= 2:
        return normal * np.float32(_gain(name) / math.sqrt(math.prod(shape[1:])))
    if last == "bias" or last.endswith("_bias"):
        return np.float32(0.1) * normal + np.float32(_shift(name))
    return 1 + np.float32(0.1) * normal if normal.ndim == 1 else normal


def _normal(name, shape):
    state = np.random.RandomState(zlib.crc32(name.encode()))
    return state.standard_normal(tuple(shape)).astype(np.float32)


def _gain(name):
    if name.endswith("out_proj.weight"):
        return 0.25
    return 0.5 if name.endswith(("linear2.weight", "output_proj.weight")) else 1.0


def _shift(name):
    """Move biases so that a few percent of the mask logits are positive."""
    if name.endswith("mask_embed.layers.2.bias"):
        return 0.12
    return -0.12 if name.endswith("pixel_decoder.mask_features.bias") else 0.0


@cache
def text_bank():
    """Make the stand-in for the text features of all categories: [3938, 640]."""
    return torch.from_numpy(_normal("clip_cls_text_emb", (NUM_BANK_ROWS, 640)))


def bank_rows(label_space):
    """Give the rows of the bank that belong to a label space."""
    start, count = BANK_ROWS[label_space]
    return text_bank()[start : start + count]


def fill(model):
    """Give a model the weights of the recorded runs."""
    state = model.state_dict()
    reference = {name: tuple(tensor.shape) for name, tensor in to_reference(state).items()}
    text = {name: tuple(tensor.shape) for name, tensor in text_to_reference(state).items()}
    filled = {name: torch.from_numpy(weight(name, shape)) for name, shape in {**reference, **text}.items()}
    ours = from_reference({name: filled[name] for name in reference}, state)
    ours |= text_from_reference({name: filled[name] for name in text}, state)
    model.load_state_dict(ours)
    return model


def reference_model(yaml, options, tokens_per_object):
    """Give a model as a recorded run configured it, with its weights, in evaluation mode."""
    backbone = next(name for key, name in BACKBONES.items() if key in Path(yaml).stem.lower())
    position = "fixed_t" if options and "FixedT" in json.loads(options) else "arbitrary_t"
    # A shallow copy: cases that differ only in what the configuration says share the weights.
    model = copy(_filled_model(backbone, position))
    prompts = replace(model.config.prompts, tokens_per_object=tokens_per_object)
    model.config = replace(model.config, prompts=prompts)
    return model


@cache
def _filled_model(backbone, position):
    return fill(UniVS(replace(released(backbone), position=position, reference_compat=True))).eval()


def normalized_frames(case):
    """Normalize and pad a case's frames: [1, T, 3, H, W]."""
    frames = torch.from_numpy(case.array("input/frames_uint8")).float()
    frames = (frames - torch.tensor(PIXEL_MEAN)[:, None, None]) / torch.tensor(PIXEL_STD)[:, None, None]
    return pad(frames, case)[None]


def pad(pictures, case):
    """Pad pictures [..., H, W] with zeros at the bottom and the right to the case's size."""
    height, width = (int(side) for side in case.array("input/padded_hw"))
    return torch.nn.functional.pad(pictures, (0, width - pictures.shape[-1], 0, height - pictures.shape[-2]))
