"""Make our checkpoints of weights of UniVS, Mask2Former and Hugging Face's Mask2Former; export to UniVS's.

What a Mask2Former lacks is new: its queries are completed with nudged copies, and attention to prompts starts
as the attention to the image that the same layer learned.
"""

import logging
import re
from collections import Counter, OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from univs.config import DecoderConfig, ModelConfig
from univs.model.architecture import recognize
from univs.model.foreign import Foreign, Kind, read_foreign
from univs.model.keys import PREDICTOR, TEXT_PREFIX, derived_entries, from_reference, to_reference
from univs.model.position import PositionMode
from univs.model.text_weights import load_text_weights
from univs.model.univs import UniVS
from univs.model.weights import load_checkpoint, save_checkpoint, whole_file

logger = logging.getLogger(__name__)

NUDGE = 0.1
"""Noise of a copied query in standard deviations of the trained ones: enough for matching to part the two."""
UNTRAINED = "untrained"
CLASS_EMBED = f"{PREDICTOR}.class_embed."
QUERY_NAMES = ("decoder.query_features.weight", "decoder.query_positions.weight")
PROMPT_ATTENTION, IMAGE_ATTENTION = ".prompt_attention.", ".image_attention."
NOT_IN_MASK2FORMER = re.compile(
    r"prompt_encoder\.|decoder\.layers\.\d+\.prompt_attention\."
    r"|decoder\.heads\.(vision_to_text|class_temperature)\."
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportConfig:
    """What to import, and as what."""

    source: str
    """A .pth of UniVS, a .pkl of Mask2Former, or a folder or hub id of Hugging Face's Mask2Former."""
    out: Path
    """The checkpoint to write."""
    text: Path | None = None
    """Weights of the text tower (CLIP RN50x4 of OpenAI or RegionCLIP); without it, it is untrained."""
    ema: bool = False
    """Take the running averages that UniVS's stage 3 keeps beside the weights."""
    num_queries: int | None = None
    """Learnable queries: those of the file, or 200 where a Mask2Former with fewer gets the text head."""
    position: PositionMode = "arbitrary_t"
    """Time term of the position encoding; Mask2Former was trained with ``2d``."""
    class_head: Literal["text", "linear"] = "text"
    """The text head of UniVS in place of Mask2Former's classes, or these."""
    seed: int = 0
    """Seed of what is new."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportConfig:
    """What to export."""

    source: Path
    """One of our checkpoints."""
    out: Path
    """The .pth to write."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImportSummary:
    """What came of an import."""

    kind: Kind
    config: ModelConfig
    num_tensors: int
    """Tensors taken."""
    num_taken: int
    """Numbers in them."""
    new: tuple[str, ...]
    """What the file does not hold, and how it was made."""
    dropped: tuple[str, ...]
    notes: tuple[str, ...]


def import_weights(settings: ImportConfig) -> ImportSummary:
    """Read foreign weights and write them as one of our checkpoints.

    Raises:
        ValueError: One line that names the file and what is wrong with it; nothing is written.
    """
    _check_out(settings.out, settings.source)
    foreign = read_foreign(settings.source, ema=settings.ema)
    try:
        model, summary = assemble(foreign, settings)
    except ValueError as error:
        raise ValueError(f"{settings.source}: {error}") from error
    _fill_text(model, settings.text)
    origin = {
        "source": Path(settings.source).name,
        "kind": summary.kind,
        "text": UNTRAINED if settings.text is None else settings.text.name,
        "new": "; ".join(summary.new),
    }
    save_checkpoint(settings.out, model, origin)
    return summary


def export_weights(settings: ExportConfig) -> int:
    """Write one of our checkpoints as UniVS saves its own, without the text tower; give the tensors' number.

    Raises:
        ValueError: The file is no checkpoint, or of a model that the original does not know.
    """
    _check_out(settings.out, str(settings.source))
    model = load_checkpoint(settings.source)
    try:
        state = to_reference(model.state_dict())
    except ValueError as error:
        raise ValueError(f"{settings.source}: {error}") from error
    whole = {**state, **derived_entries(state)}
    tensors = OrderedDict((name, tensor.clone()) for name, tensor in whole.items())
    # A file object, as torch writes a path's name into the archive.
    with whole_file(settings.out) as temporary, temporary.open("wb") as file:
        torch.save({"model": tensors}, file)
    return len(whole)


def assemble(foreign: Foreign, settings: ImportConfig) -> tuple[UniVS, ImportSummary]:
    """Build the model of a foreign checkpoint; the text tower, which it does not hold, is untrained.

    Raises:
        ValueError: A tensor is missing, misshapen or unknown, or the settings do not fit the file.
    """
    found = replace(
        recognize(foreign.state, foreign.num_heads),
        class_head=settings.class_head,
        num_linear_classes=_num_classes(foreign, settings),
    )
    dropped = [name for name in foreign.state if _is_dropped(name, settings)]
    state = {name: tensor for name, tensor in foreign.state.items() if name not in dropped}
    taken = from_reference(state, _expected(found, foreign.kind))
    config = replace(
        found,
        decoder=replace(found.decoder, num_queries=_num_queries(found.decoder, foreign.kind, settings)),
        position=settings.position,
        reference_compat=foreign.kind == "UniVS",
    )
    model, new = _complete(config, taken, settings.seed)
    summary = ImportSummary(
        kind=foreign.kind,
        config=config,
        num_tensors=len(state),
        num_taken=sum(tensor.numel() for tensor in state.values()),
        new=new,
        dropped=tuple(sorted([*dropped, *foreign.dropped])),
        notes=foreign.notes,
    )
    return model, summary


def _fill_text(model: UniVS, path: Path | None) -> None:
    if path is None:
        logger.warning("the text tower is untrained, so names and expressions mean nothing: give --text FILE")
        return
    model.text.load_state_dict(load_text_weights(path, model.config.text))


def _check_out(out: Path, source: str) -> None:
    if out.is_dir():
        raise ValueError(f"{out}: is a folder, expected a file to write")
    if out.exists() and Path(source).exists() and out.samefile(source):
        raise ValueError(f"{out}: is the file to read, too, choose another to write")


def _num_classes(foreign: Foreign, settings: ImportConfig) -> int:
    """Count the classes to keep; the last row of the linear head says no object."""
    if settings.class_head == "text":
        return 0
    weight = foreign.state.get(f"{CLASS_EMBED}weight")
    if weight is None:
        raise ValueError(f"has no linear class head ({CLASS_EMBED}weight), leave out --class-head linear")
    return weight.shape[0] - 1


def _is_dropped(name: str, settings: ImportConfig) -> bool:
    return name.startswith(CLASS_EMBED) and settings.class_head == "text"


def _expected(config: ModelConfig, kind: Kind) -> dict[str, Tensor]:
    """Give the names and shapes, without values, of what a checkpoint of this kind holds."""
    with torch.device("meta"):
        state = UniVS(config).state_dict()
    return {
        name: tensor
        for name, tensor in state.items()
        if kind == "UniVS" or not NOT_IN_MASK2FORMER.match(name)
    }


def _num_queries(found: DecoderConfig, kind: Kind, settings: ImportConfig) -> int:
    becomes_univs = kind == "Mask2Former" and settings.class_head == "text"
    usual = max(found.num_queries, DecoderConfig().num_queries) if becomes_univs else found.num_queries
    wanted = usual if settings.num_queries is None else settings.num_queries
    if wanted < found.num_queries:
        raise ValueError(f"has {found.num_queries} queries, --queries {wanted} would leave trained ones out")
    return wanted


def _complete(config: ModelConfig, taken: Mapping[str, Tensor], seed: int) -> tuple[UniVS, tuple[str, ...]]:
    """Build a model around what was taken, and say how the rest was made."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = UniVS(config).eval()
        state, new = _more_queries(taken, config.decoder.num_queries)
    state, copied = _copy_attention(state, model)
    missing = model.load_state_dict(state, strict=False).missing_keys
    sizes: Counter[str] = Counter()
    for name in missing:
        if not name.startswith(TEXT_PREFIX):
            sizes[_part(name)] += model.state_dict()[name].numel()
    drawn = [f"{part}, {size:,} parameters: {UNTRAINED}" for part, size in sizes.items()]
    return model, (*new, *copied, *drawn)


def _more_queries(taken: Mapping[str, Tensor], num_queries: int) -> tuple[dict[str, Tensor], list[str]]:
    """Append nudged copies, of the same queries in content and position."""
    state, num_found = dict(taken), taken[QUERY_NAMES[0]].shape[0]
    if num_found == num_queries:
        return state, []
    origin = torch.arange(num_found, num_queries) % num_found
    for name in QUERY_NAMES:
        copies = taken[name][origin]
        noise = torch.randn_like(copies) * taken[name].std(0, correction=0) * NUDGE
        state[name] = torch.cat([taken[name], copies + noise])
    return state, [f"queries {num_found} to {num_queries - 1}: nudged copies of the trained {num_found}"]


def _copy_attention(state: dict[str, Tensor], model: UniVS) -> tuple[dict[str, Tensor], list[str]]:
    """Let prompts be looked at the way the image is."""
    new = [name for name in model.state_dict() if PROMPT_ATTENTION in name and name not in state]
    copies = {name: state[name.replace(PROMPT_ATTENTION, IMAGE_ATTENTION)].clone() for name in new}
    return {**state, **copies}, ["attention to prompts: a copy of attention to the image"] if new else []


def _part(name: str) -> str:
    """Name the part of the model that a tensor belongs to."""
    parts = name.split(".")
    return ".".join(parts[:3] if parts[0] == "decoder" else parts[:1])
