"""Say what made every artifact: a ``record.json`` in its folder, written last.

A folder without a readable record is not an artifact, whatever else lies in it. Inputs are named by digest,
so a checkpoint is reached from its evaluation and a release from its checkpoint.
"""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, get_args

from jobs.errors import CHECKOUT, UserError
from preprocessing.atomic import atomic_write
from univs.schema import Manifest, canonical_json

RECORD_NAME = "record.json"
PREVIEW_NAME = "preview.html"
"""Contact sheet of a release; drawn again at will, so no part of its record."""

ArtifactKind = Literal["release", "checkpoint", "evaluation", "report"]


@dataclass(frozen=True, kw_only=True, slots=True)
class ArtifactRecord:
    """What an artifact is and what it was made from."""

    kind: ArtifactKind
    config: Mapping[str, Any]
    """The configuration as plain JSON values."""
    commit: str
    """Git commit of the code, ``-dirty`` behind it if files had changed, or ``unknown`` outside git."""
    inputs: Mapping[str, str]
    """Digest of each input by name."""
    outputs: Mapping[str, str]
    """Sha256 of each file by its path in the folder."""
    created: str
    """UTC time, ISO 8601."""
    command: str
    mlflow_run_id: str = ""

    @property
    def digest(self) -> str:
        """Identify the artifact by what it holds, not by when or where it was made."""
        body = {"kind": self.kind, "outputs": dict(self.outputs)}
        return hashlib.sha256(canonical_json(body)).hexdigest()


def write_record(
    folder: Path,
    *,
    kind: ArtifactKind,
    config: object,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    mlflow_run_id: str = "",
) -> ArtifactRecord:
    """Make the artifact in ``folder`` whole by writing its record; ``digest_files`` gives its ``outputs``."""
    record = make_record(
        kind=kind, config=config, inputs=inputs, outputs=outputs, mlflow_run_id=mlflow_run_id
    )
    save_record(folder, record)
    return record


def make_record(
    *,
    kind: ArtifactKind,
    config: object,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    mlflow_run_id: str = "",
) -> ArtifactRecord:
    """Describe an artifact made by this process, from this code, now."""
    return ArtifactRecord(
        kind=kind,
        config=to_plain(config),
        commit=code_commit(),
        inputs=dict(inputs),
        outputs=dict(outputs),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=" ".join(sys.argv),
        mlflow_run_id=mlflow_run_id,
    )


def save_record(folder: Path, record: ArtifactRecord) -> None:
    """Write a record into the folder of the finished artifact."""
    text = json.dumps(asdict(record), indent=2, sort_keys=True) + "\n"
    with atomic_write(folder / RECORD_NAME) as temporary:
        temporary.write_text(text, encoding="utf-8")


def read_record(folder: Path, kind: ArtifactKind | None = None) -> ArtifactRecord:
    """Read the record of a whole artifact, of ``kind`` if given.

    Raises:
        UserError: there is no record, it is not one, or it is of another kind.
    """
    path = folder / RECORD_NAME
    if not path.is_file():
        raise UserError(f"{path}: no such file, so {folder} is not a whole artifact: make it again")
    try:
        record = ArtifactRecord(**json.loads(path.read_bytes()))
    except (json.JSONDecodeError, TypeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not an artifact record ({error}): make the artifact again") from error
    if record.kind not in get_args(ArtifactKind) or kind not in (None, record.kind):
        raise UserError(f"{path}: holds a {record.kind!r}, expected {kind or 'a known kind'}")
    return record


def is_whole(folder: Path) -> bool:
    """Whether the folder has a record."""
    return (folder / RECORD_NAME).is_file()


def verify_outputs(folder: Path, record: ArtifactRecord) -> None:
    """Hash every output again.

    Raises:
        UserError: a file is missing or not the one recorded.
    """
    for name, expected in record.outputs.items():
        path = folder / name
        found = digest_file(path) if path.is_file() else "no file"
        if found != expected:
            raise UserError(f"{path}: sha256 is {found}, its record says {expected}: make the artifact again")


def digest_file(path: Path) -> str:
    """Give the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_files(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Give the sha256 of files by their name relative to ``folder``."""
    return {name: digest_file(folder / name) for name in sorted(names)}


def digest_release(manifest: Manifest) -> str:
    """Identify a release by its manifest, which holds the sha256 of every shard."""
    return hashlib.sha256(canonical_json(asdict(manifest))).hexdigest()


def code_commit(root: Path = CHECKOUT) -> str:
    """Name the code: ``UNIVS_COMMIT``, set at submission because no ``.git`` is shipped, or what git says."""
    given = os.environ.get("UNIVS_COMMIT", "")
    if given:
        return given
    commit = _git(root, "rev-parse", "HEAD")
    if not commit:
        return "unknown"
    return f"{commit}-dirty" if _git(root, "status", "--porcelain") else commit


def to_plain(value: object) -> Any:
    """Turn nested dataclasses, tuples and paths into JSON values."""
    if is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): to_plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(part) for part in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"a {type(value).__name__} has no place in a configuration: {value!r}")


def _git(root: Path, *arguments: str) -> str:
    command = ["git", "-C", str(root), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
