"""Read other projects' weight files without running what they may hold.

A pickle names functions to call. Here only those that make tensors, arrays and plain containers are called;
any other name ends the reading with one line that tells it.
"""

import io
import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy._core.multiarray import _reconstruct, scalar
from numpy._core.numeric import _frombuffer  # type: ignore[attr-defined]

ZIP_START = b"PK\x03\x04"
TORCH_START = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."
"""The number that opens a file ``torch.save`` wrote before it wrote zip archives, after the protocol."""
PICKLE_START = b"\x80"
"""What opens a pickle of protocol 2 or later."""
DAMAGE = (
    pickle.UnpicklingError,
    zipfile.BadZipFile,
    OSError,
    EOFError,
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    MemoryError,
    OverflowError,
)
"""What reading a broken or hostile file may raise."""
FORBIDDEN_GLOBAL = re.compile(r"GLOBAL (\S+)")
"""How torch names what it refuses."""


def _latin1(text: str, encoding: str) -> bytes:
    """Stand in for ``_codecs.encode``, by which protocol 2 spells bytes."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in the encoding {encoding!r}, expected latin1")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    """Stand in for ``bytes``, which protocol 2 calls for no bytes at all."""
    return b""


def _storage(content: bytes) -> Any:
    """Stand in for ``torch.storage._load_from_bytes``, by which a plain pickle holds a tensor's data."""
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


NUMPY_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    f"{package}.{name}": function
    for package in ("numpy.core", "numpy._core")
    for name, function in (
        ("multiarray._reconstruct", _reconstruct),
        ("multiarray.scalar", scalar),
        ("numeric._frombuffer", _frombuffer),
    )
}
ALLOWED: Mapping[str, Any] = {
    **NUMPY_FUNCTIONS,
    "numpy.ndarray": np.ndarray,
    "numpy.dtype": np.dtype,
    "collections.OrderedDict": OrderedDict,
    "_codecs.encode": _latin1,
    "__builtin__.bytes": _no_bytes,
    "torch._utils._rebuild_tensor_v2": torch._utils._rebuild_tensor_v2,
    "torch._utils._rebuild_parameter": torch._utils._rebuild_parameter,
    "torch.storage._load_from_bytes": _storage,
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> Any:
        """Give an allowed function or class."""
        name = f"{module_name}.{global_name}"
        if name not in ALLOWED:
            raise pickle.UnpicklingError(f"GLOBAL {name} is not allowed")
        return ALLOWED[name]


def read_file(path: Path) -> object:
    """Read what ``torch.save`` (old or new format) or ``pickle.dump`` wrote; the content tells which.

    Raises:
        ValueError: One line that names the file and says why it is not, or not safely, read.
    """
    if not path.is_file():
        raise ValueError(f"{path}: no such file, expected weights (.pth or .pkl)")
    with path.open("rb") as file:
        start = file.read(64)
    if not start.startswith((ZIP_START, PICKLE_START)):
        raise ValueError(f"{path}: neither a torch file nor a pickle: it starts with {start[:8]!r}")
    is_torch = start.startswith(ZIP_START) or TORCH_START in start
    try:
        return _read_torch(path) if is_torch else _read_pickle(path)
    except DAMAGE as error:
        raise ValueError(f"{path}: {_explain(error)}") from error


def _read_torch(path: Path) -> object:
    dtypes = {type(np.dtype(code)) for code in "?bhilqBHILQefd"}
    functions = [(function, name) for name, function in NUMPY_FUNCTIONS.items()]
    with torch.serialization.safe_globals([np.ndarray, np.dtype, *dtypes, *functions]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _read_pickle(path: Path) -> object:
    with path.open("rb") as file:
        return _Unpickler(file, encoding="latin1").load()


def _explain(error: BaseException) -> str:
    forbidden = FORBIDDEN_GLOBAL.search(str(error))
    if forbidden:
        return (
            f"it wants to call {forbidden[1]}, which no file of weights needs; it is not read, "
            "get it from a source you trust"
        )
    reason = " ".join(str(error).split("\n")[0].split())
    return f"cannot be read ({type(error).__name__}: {reason[:160]}); is it whole? copy or download it again"
