import errno
from pathlib import Path

import pytest

from preprocessing.atomic import atomic_write, remove_leftovers

FULL_DISK = Path("/dev/full")


def write_half_then(path, fail):
    with atomic_write(path) as temporary:
        temporary.write_text("half")
        fail()


def test_atomic_write_whole_block_replaces_the_old_file(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write_failed_block_keeps_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(KeyError):
        write_half_then(path, lambda: {}["missing"])
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_atomic_write_full_disk_says_which_file(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(OSError, match="free space and run again") as caught:
        write_half_then(path, lambda: FULL_DISK.write_bytes(b"x"))
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.strerror == (f"{path} not written: No space left on device; free space and run again")
    assert list(tmp_path.iterdir()) == []


def test_atomic_write_block_without_a_file_deletes_the_old_one(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("old")
    with atomic_write(path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_remove_leftovers_of_one_shard_keeps_the_others(tmp_path):
    names = ("s-000000.tar", "s-000000.tar.tmp-1", "s-000000.tar.done.json.tmp-1", "s-000001.tar.tmp-2")
    for name in names:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, "s-000000.tar")
    assert sorted(path.name for path in tmp_path.iterdir()) == [names[0], names[3]]
    remove_leftovers(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [names[0]]
