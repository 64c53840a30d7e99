import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from jobs.artifacts import (
    RECORD_NAME,
    code_commit,
    digest_file,
    digest_files,
    digest_release,
    is_whole,
    read_record,
    to_plain,
    verify_outputs,
    write_record,
)
from jobs.errors import UserError
from univs.schema import Manifest, ShardEntry


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaf:
    rate: float = 0.5
    where: Path = Path("a/b")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    leaf: Leaf = Leaf()
    names: tuple[str, ...] = ("x", "y")


def make_artifact(folder: Path) -> None:
    (folder / "model.bin").write_bytes(b"abc")
    write_record(
        folder,
        kind="checkpoint",
        config=Tree(),
        inputs={"release": "d1"},
        outputs=digest_files(folder, ["model.bin"]),
        mlflow_run_id="run7",
    )


def test_record_written_reads_back_with_plain_config_and_digests(tmp_path):
    make_artifact(tmp_path)
    record = read_record(tmp_path, "checkpoint")
    assert record.config == {"leaf": {"rate": 0.5, "where": "a/b"}, "names": ["x", "y"]}
    # sha256 of b"abc", FIPS 180-2 appendix B.1
    assert record.outputs == {"model.bin": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}
    assert (record.inputs, record.mlflow_run_id) == ({"release": "d1"}, "run7")


def test_record_digest_depends_on_the_contents_only(tmp_path):
    first, second, third = (tmp_path / name for name in "abc")
    for folder in (first, second, third):
        folder.mkdir()
        make_artifact(folder)
    (third / "model.bin").write_bytes(b"abd")
    write_record(
        third, kind="checkpoint", config=Tree(), inputs={}, outputs=digest_files(third, ["model.bin"])
    )
    assert read_record(first).digest == read_record(second).digest != read_record(third).digest


def test_folder_without_record_is_not_whole(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"abc")
    assert not is_whole(tmp_path)
    with pytest.raises(UserError, match=r"record\.json: no such file, so .* is not a whole artifact"):
        read_record(tmp_path)


@pytest.mark.parametrize("text", ["{", '{"kind": "checkpoint"}', "[1]", '"x"'])
def test_damaged_record_is_named(tmp_path, text):
    (tmp_path / RECORD_NAME).write_text(text)
    with pytest.raises(UserError, match=r"record\.json: not an artifact record"):
        read_record(tmp_path)


def test_record_of_another_kind_is_refused(tmp_path):
    make_artifact(tmp_path)
    with pytest.raises(UserError, match="holds a 'checkpoint', expected release"):
        read_record(tmp_path, "release")


def test_changed_output_is_found(tmp_path):
    make_artifact(tmp_path)
    record = read_record(tmp_path)
    verify_outputs(tmp_path, record)
    (tmp_path / "model.bin").write_bytes(b"abd")
    with pytest.raises(UserError, match=r"model\.bin: sha256 is .*, its record says ba7816bf"):
        verify_outputs(tmp_path, record)


def test_interrupted_write_leaves_the_old_record(tmp_path):
    make_artifact(tmp_path)
    before = (tmp_path / RECORD_NAME).read_bytes()
    with pytest.raises(TypeError, match="a set has no place in a configuration"):
        write_record(tmp_path, kind="checkpoint", config={"bad": {1}}, inputs={}, outputs={})
    assert (tmp_path / RECORD_NAME).read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.bin", RECORD_NAME]


def test_plain_config_survives_json():
    plain = to_plain(Tree())
    assert json.loads(json.dumps(plain)) == plain


def test_digest_file_of_a_missing_file_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing"):
        digest_file(tmp_path / "nothing")


def test_release_digest_changes_with_a_shard():
    def release(sha256: str) -> Manifest:
        entry = ShardEntry(name="a.tar", sha256=sha256, size_bytes=1, num_samples=1)
        return Manifest(
            dataset="d",
            split="train",
            task="sot",
            kind="image",
            label_space=None,
            num_items=1,
            num_samples=1,
            num_frames=1,
            num_objects=1,
            num_expressions=0,
            rejects={},
            warnings={},
            shards=(entry,),
            plan_digest="p",
        )

    assert digest_release(release("0" * 64)) == digest_release(release("0" * 64))
    assert digest_release(release("0" * 64)) != digest_release(release("1" * 64))


def test_commit_outside_git_is_unknown_and_can_be_given(tmp_path, monkeypatch):
    monkeypatch.delenv("UNIVS_COMMIT", raising=False)
    assert code_commit(tmp_path) == "unknown"
    monkeypatch.setenv("UNIVS_COMMIT", "cafe-dirty")
    assert code_commit(tmp_path) == "cafe-dirty"


def test_commit_in_git_says_whether_files_changed(tmp_path, monkeypatch):
    monkeypatch.delenv("UNIVS_COMMIT", raising=False)

    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=n", "-c", "user.email=e@x"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "-qm", "one")
    head = git("rev-parse", "HEAD")
    assert code_commit(tmp_path) == head
    (tmp_path / "a").write_text("2")
    assert code_commit(tmp_path) == f"{head}-dirty"
