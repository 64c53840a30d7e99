import os
import pickle
import random
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from univs.model.unpickling import read_file


class Hostile:
    """Makes whoever unpickles it run a command."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return os.system, (f"touch {self.proof}",)


def write_pickle(path: Path, body: object, protocol: int) -> Path:
    path.write_bytes(pickle.dumps(body, protocol))
    return path


def write_torch(path: Path, body: object, *, is_zip: bool) -> Path:
    torch.save(body, path, _use_new_zipfile_serialization=is_zip)
    return path


def complaint(path: Path) -> str:
    with pytest.raises(ValueError, match=path.name) as caught:
        read_file(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


ARRAYS = {
    "float32": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_endian": np.arange(3, dtype=">f4"),
    "half": np.ones((1, 2, 1), np.float16),
    "integer": np.arange(4),
    "empty": np.zeros((0, 3), np.float32),
}


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle_of_arrays_comes_back(tmp_path, protocol):
    body = {"model": OrderedDict(ARRAYS), "__author__": "someone", "step": np.int64(3), "lr": np.float64(0.5)}
    found = read_file(write_pickle(tmp_path / "a.pkl", body, protocol))
    assert isinstance(found, dict)
    assert (found["__author__"], found["step"], found["lr"]) == ("someone", 3, 0.5)
    for name, array in ARRAYS.items():
        assert found["model"][name].dtype.newbyteorder("=") == array.dtype.newbyteorder("=")
        np.testing.assert_array_equal(found["model"][name], array)


def test_pickle_of_arrays_of_numpy_1_comes_back(tmp_path):
    content = pickle.dumps({"a": ARRAYS["float32"]}, 2)
    assert b"numpy._core" in content
    path = tmp_path / "old.pkl"
    path.write_bytes(content.replace(b"numpy._core", b"numpy.core"))
    found = read_file(path)
    assert isinstance(found, dict)
    np.testing.assert_array_equal(found["a"], ARRAYS["float32"])


def test_pickle_of_tensors_comes_back(tmp_path):
    body = {"model": {"a": torch.arange(6.0).view(2, 3).T, "b": torch.nn.Parameter(torch.ones(2))}}
    found = read_file(write_pickle(tmp_path / "a.pkl", body, 2))
    assert isinstance(found, dict)
    assert torch.equal(found["model"]["a"], body["model"]["a"])
    assert torch.equal(found["model"]["b"], torch.ones(2))


@pytest.mark.parametrize("is_zip", [True, False])
def test_torch_file_comes_back_with_the_scheduler_beside_the_model(tmp_path, is_zip):
    body = {
        "model": OrderedDict(a=torch.arange(4.0), b=torch.ones(2, dtype=torch.float16)),
        "scheduler": {"base_lrs": [np.float64(0.1)], "array": ARRAYS["float32"]},
        "iteration": 9,
    }
    found = read_file(write_torch(tmp_path / "a.pth", body, is_zip=is_zip))
    assert isinstance(found, dict)
    assert torch.equal(found["model"]["a"], torch.arange(4.0))
    assert found["model"]["b"].dtype == torch.float16
    assert found["scheduler"]["base_lrs"] == [0.1]
    np.testing.assert_array_equal(found["scheduler"]["array"], ARRAYS["float32"])


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_hostile_pickle_is_named_and_not_run(tmp_path, protocol):
    proof = tmp_path / "proof"
    path = write_pickle(tmp_path / "bad.pkl", {"model": Hostile(proof)}, protocol)
    assert "posix.system" in complaint(path)
    assert not proof.exists()
    pickle.loads(path.read_bytes())
    assert proof.exists()


@pytest.mark.parametrize("is_zip", [True, False])
def test_hostile_torch_file_is_named_and_not_run(tmp_path, is_zip):
    proof = tmp_path / "proof"
    body = {"model": {"a": torch.ones(1)}, "extra": Hostile(proof)}
    path = write_torch(tmp_path / "bad.pth", body, is_zip=is_zip)
    assert "posix.system" in complaint(path)
    assert not proof.exists()


def test_hostile_tensor_data_in_a_pickle_is_named_and_not_run(tmp_path):
    proof = tmp_path / "proof"
    inner = write_torch(tmp_path / "inner", Hostile(proof), is_zip=False).read_bytes()

    class Smuggled:
        def __reduce__(self):
            return torch.storage._load_from_bytes, (inner,)

    path = write_pickle(tmp_path / "bad.pkl", Smuggled(), 2)
    assert "posix.system" in complaint(path)
    assert not proof.exists()


def write_forms(folder: Path) -> list[Path]:
    numbers = np.random.default_rng(0).random(200).astype(np.float32)
    return [
        write_pickle(folder / "a.pkl", {"model": {"a": numbers}}, 4),
        write_torch(folder / "zip.pth", {"model": {"a": torch.from_numpy(numbers)}}, is_zip=True),
        write_torch(folder / "old.pth", {"model": {"a": torch.from_numpy(numbers)}}, is_zip=False),
    ]


def test_truncated_file_is_refused(tmp_path):
    for path in write_forms(tmp_path):
        content = path.read_bytes()
        for share in (0.1, 0.5, 0.9, 0.99):
            path.write_bytes(content[: int(len(content) * share)])
            assert "download it again" in complaint(path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_damaged_file_is_read_or_refused_but_nothing_else(tmp_path):
    draw = random.Random(0)
    complaints = []
    for path in write_forms(tmp_path):
        content = path.read_bytes()
        for _ in range(150):
            damaged = bytearray(content)
            # The names and opcodes are at the start, the directory of an archive at the end.
            at = draw.choice([draw.randrange(2, 160), draw.randrange(len(damaged) - 160, len(damaged))])
            damaged[at] = draw.randrange(256)
            path.write_bytes(bytes(damaged))
            try:
                read_file(path)
            except ValueError as error:
                complaints.append((path, str(error)))
    assert len(complaints) > 50
    assert all(line.startswith(str(path)) and "\n" not in line for path, line in complaints)


@pytest.mark.parametrize("content", [b"", b"a text file\n", b"\x89PNG\r\n"])
def test_other_file_is_refused(tmp_path, content):
    path = tmp_path / "a.pth"
    path.write_bytes(content)
    assert "neither a torch file nor a pickle" in complaint(path)


def test_missing_file_and_folder_are_refused(tmp_path):
    assert "no such file" in complaint(tmp_path / "nothing.pth")
    assert "no such file" in complaint(tmp_path)
