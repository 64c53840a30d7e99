"""Reading the tensors of a TorchScript archive without running anything in it."""

import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

DTYPES = {
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
}
"""Kinds of storage by the names that archives use."""


class _Module:
    """Stands for any module or object of the archive; its state becomes attributes."""


def is_torchscript(path: Path) -> bool:
    """Tell whether a file is an archive of ``torch.jit.save``."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.count("/") == 1 and name.endswith("/constants.pkl") for name in archive.namelist())


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """Read the parameters and buffers of an archive, named as in its module's state dict.

    The classes of the archive are replaced by empty ones, its code is not looked at.

    Raises:
        pickle.UnpicklingError: The archive wants something else than modules and tensors.
    """
    with zipfile.ZipFile(path) as archive:
        root = next(name for name in archive.namelist() if name.endswith("/data.pkl"))[: -len("data.pkl")]
        with archive.open(f"{root}data.pkl") as file:
            return dict(_tensors(_Unpickler(file, archive, f"{root}data/").load(), ""))


class _Unpickler(pickle.Unpickler):
    """Build tensors, and empty stand-ins for modules; refuse all else."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self.archive = archive
        self.folder = folder

    def find_class(self, module: str, name: str) -> Any:
        """Give the stand-in of a class or function."""
        if module.split(".")[0] == "__torch__":
            return _Module
        if module == "torch" and name in DTYPES:
            return DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if (module, name) == ("collections", "OrderedDict"):
            return dict
        if module == "torch.jit._pickle":
            return _first
        raise pickle.UnpicklingError(f"it wants {module}.{name}, expected modules and tensors only")

    def persistent_load(self, pid: Any) -> Tensor:
        """Read a storage as a flat tensor."""
        _, dtype, key, *_ = pid
        return torch.frombuffer(bytearray(self.archive.read(f"{self.folder}{key}")), dtype=dtype)


def _rebuild_tensor(
    storage: Tensor, offset: int, size: tuple[int, ...], stride: tuple[int, ...], *_: object
) -> Tensor:
    return torch.as_strided(storage, size, stride, offset)


def _first(value: object, *_: object) -> object:
    """Stand for the functions that give lists and other containers their types."""
    return value


def _tensors(value: object, prefix: str) -> Iterator[tuple[str, Tensor]]:
    for name, member in vars(value).items():
        if isinstance(member, Tensor):
            yield prefix + name, member
        elif isinstance(member, _Module):
            yield from _tensors(member, f"{prefix}{name}.")
