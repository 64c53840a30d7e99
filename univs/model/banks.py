"""Text banks outside the model: the released one, the combined one and the files that remember banks.

Legend: K categories, D text channels.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from univs.label_spaces import builtin_spaces, combined_texts
from univs.model.unpickling import read_file

if TYPE_CHECKING:
    from univs.model.text import TextEncoder

FORMAT = "univs-bank/1"

logger = logging.getLogger(__name__)


def combined_bank(text: "TextEncoder") -> Tensor:
    """Encode the categories of all built-in label spaces: [3938, D], rows as ``bank_rows`` tells."""
    return torch.cat([text.bank(space.texts) for space in builtin_spaces().values()])


def load_combined_bank(path: Path) -> Tensor:
    """Read the bank file of the original, ``combined_datasets_cls_emb_rn50x4.pth``: [3938, D] on the CPU.

    Raises:
        ValueError: One line that names the file and what is wrong with it.
    """
    bank = read_file(path)
    num_rows = len(combined_texts())
    if not isinstance(bank, Tensor) or bank.ndim != 2 or len(bank) != num_rows:
        found = tuple(bank.shape) if isinstance(bank, Tensor) else type(bank).__name__
        raise ValueError(f"{path}: holds {found}, expected one tensor of {num_rows} rows: the combined bank")
    return bank.float()


def adopt_combined_bank(text: "TextEncoder", bank: Tensor) -> None:
    """Use a combined bank [3938, D] for all built-in label spaces in place of what the tower says of them."""
    num_rows = len(combined_texts())
    if len(bank) != num_rows:
        raise ValueError(f"the combined bank has {len(bank)} rows, expected {num_rows}")
    for space in builtin_spaces().values():
        text.adopt(space.texts, bank[space.first_row : space.first_row + len(space.texts)])


def default_bank_folder() -> Path | None:
    """Name the folder of banks in the user's cache; ``None`` where the user has no home."""
    base = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "univs" / "banks"
    except RuntimeError:
        return None


def bank_key(settings: Mapping[str, object], weights: Mapping[str, Tensor], texts: Sequence[str]) -> str:
    """Hash all that a bank follows from."""
    digest = hashlib.sha256(json.dumps([FORMAT, dict(settings), list(texts)], sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def read_bank(folder: Path, key: str, shape: tuple[int, int]) -> Tensor | None:
    """Read a bank that ``write_bank`` left; ``None`` where there is none, or none that can be used."""
    path = _path(folder, key)
    try:
        with safe_open(path, framework="pt") as file:
            if (file.metadata() or {}).get("key") != key:
                return None
            bank = file.get_tensor("bank")
    except (OSError, SafetensorError):
        return None
    return bank if isinstance(bank, Tensor) and tuple(bank.shape) == shape else None


def write_bank(folder: Path, key: str, bank: Tensor) -> None:
    """Leave a bank for later processes, whole or not at all; a folder that refuses it does no harm."""
    path = _path(folder, key)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(save({"bank": bank.detach().cpu().contiguous()}, {"key": key}))
        temporary.replace(path)
    except OSError as error:
        logger.info("%s: the text bank is not kept for next time (%s)", folder, error)


def _path(folder: Path, key: str) -> Path:
    return folder / f"{key[:32]}.safetensors"
