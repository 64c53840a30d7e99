"""Write runs to MLflow: one writer per run, every call with the run's id.

MLflow's fluent interface keeps its current run in a thread; in Ray actors that is the wrong thread, so only
``MlflowClient`` is used. A run is found again by its ``univs.key`` tag, so a resumed job continues it.
"""

import logging
import os
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlparse

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from jobs.errors import UserError

logger = logging.getLogger(__name__)

KEY_TAG = "univs.key"
PARENT_TAG = "mlflow.parentRunId"

_METRICS_PER_BATCH = 1000
_PARAMS_PER_BATCH = 100
_PARAM_LENGTH = 6000

Status = Literal["FINISHED", "FAILED", "KILLED"]
T = TypeVar("T")


@dataclass(frozen=True, kw_only=True, slots=True)
class Tracking:
    """An experiment on a tracking server; plain text, so it travels to the process that writes."""

    uri: str
    experiment: str

    def __post_init__(self) -> None:
        """Refuse a folder: MLflow 3 reads and writes databases and servers only."""
        if urlparse(self.uri).scheme not in ("sqlite", "postgresql", "mysql", "http", "https", "databricks"):
            raise ValueError(
                f"MLflow tracking URI {self.uri!r} is not one of sqlite:///FILE, postgresql://..., http(s)://HOST:PORT"
            )

    def check_reachable(self, timeout_s: float = 5.0) -> None:
        """Find out in bounded time whether runs can be written.

        Raises:
            UserError: nothing answers, or the database cannot be opened.
        """
        if self.uri.startswith("http"):
            _check_server(self.uri, timeout_s)
        if self.uri.startswith("sqlite:///"):
            _check_database(Path(self.uri.removeprefix("sqlite:///")), timeout_s)
        with _one_try(timeout_s):
            self._ask(lambda: self._experiment_id())

    def start_run(
        self, name: str, *, key: str, parent_run_id: str = "", tags: Mapping[str, str] | None = None
    ) -> str:
        """Continue the run that has ``key`` or create it; give its id.

        The key must name the work, for example ``<checkpoint digest>/stage2``, not the attempt.
        """
        return self._ask(lambda: self._start_run(name, key, {PARENT_TAG: parent_run_id, **(tags or {})}))

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Write parameters; one that a resumed run has with another value is kept, its new value a tag.

        MLflow parameters never change; ``univs.resumed.NAME`` says what the continuation used.
        """
        self._ask(lambda: self._log_params(run_id, params))

    def log_config(self, run_id: str, config: object) -> None:
        """Write a configuration as parameters named by their dotted path."""
        self.log_params(run_id, flatten_config(config))

    def log_metrics(self, run_id: str, metrics: Mapping[str, float], *, step: int) -> None:
        """Write the metrics of one step in as few requests as MLflow allows."""
        now_ms = int(time.time() * 1000)
        rows = [Metric(name, float(value), now_ms, step) for name, value in metrics.items()]

        def write() -> None:
            for start in range(0, len(rows), _METRICS_PER_BATCH):
                self._client.log_batch(run_id, metrics=rows[start : start + _METRICS_PER_BATCH])

        self._ask(write)

    def log_artifact(self, run_id: str, path: Path, *, folder: str = "") -> None:
        """Copy one file to the run's artifacts, into ``folder`` of them."""
        if not path.is_file():
            raise ValueError(f"{path}: no such file to log to MLflow")
        self._ask(lambda: self._client.log_artifact(run_id, str(path), folder or None))

    def finish(self, run_id: str, status: Status = "FINISHED") -> None:
        """Close the run."""
        self._ask(lambda: self._client.set_terminated(run_id, status))

    @property
    def _client(self) -> MlflowClient:
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        return MlflowClient(self.uri)

    def _experiment_id(self) -> str:
        found = self._client.get_experiment_by_name(self.experiment)
        if found is not None:
            return str(found.experiment_id)
        try:
            return str(self._client.create_experiment(self.experiment, self._artifact_location()))
        except MlflowException as error:
            # Another process created it between the two calls.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            return self._experiment_id()

    def _artifact_location(self) -> str | None:
        """Put files beside an SQLite database; a server decides for itself."""
        if not self.uri.startswith("sqlite:///"):
            return None
        return (Path(self.uri.removeprefix("sqlite:///")).resolve().parent / "mlartifacts").as_uri()

    def _start_run(self, name: str, key: str, tags: Mapping[str, str]) -> str:
        experiment_id = self._experiment_id()
        found = self._client.search_runs([experiment_id], f"tags.`{KEY_TAG}` = '{key}'", max_results=1)
        given = {tag: value for tag, value in tags.items() if value}
        if not found:
            run = self._client.create_run(experiment_id, run_name=name, tags={KEY_TAG: key, **given})
            return str(run.info.run_id)
        run_id = str(found[0].info.run_id)
        self._client.update_run(run_id, status="RUNNING")
        self._client.log_batch(run_id, tags=[RunTag(tag, value) for tag, value in given.items()])
        return run_id

    def _log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        stored = self._client.get_run(run_id).data.params
        cut = {name: value[:_PARAM_LENGTH] for name, value in params.items()}
        fresh = [Param(name, value) for name, value in cut.items() if name not in stored]
        changed = [
            RunTag(f"univs.resumed.{name}", value)
            for name, value in cut.items()
            if stored.get(name, value) != value
        ]
        for start in range(0, len(fresh), _PARAMS_PER_BATCH):
            self._client.log_batch(run_id, params=fresh[start : start + _PARAMS_PER_BATCH])
        for tag in changed:
            logger.warning("run %s: %s is now %s", run_id, tag.key.removeprefix("univs.resumed."), tag.value)
        self._client.log_batch(run_id, tags=changed)

    def _ask(self, call: Callable[[], T]) -> T:
        try:
            return call()
        except (MlflowException, SQLAlchemyError, OSError) as error:
            line = " ".join(str(error).split())[:300]
            raise UserError(f"MLflow at {self.uri} refused: {line}") from error


def flatten_config(config: object, prefix: str = "") -> dict[str, str]:
    """Give the scalar fields of nested dataclasses and tuples by dotted path."""
    if is_dataclass(config):
        pairs = [(field.name, getattr(config, field.name)) for field in fields(config)]
    elif isinstance(config, tuple) and any(is_dataclass(part) for part in config):
        pairs = [(str(index), part) for index, part in enumerate(config)]
    else:
        return {prefix: str(config)}
    flat: dict[str, str] = {}
    for name, value in pairs:
        flat |= flatten_config(value, f"{prefix}.{name}" if prefix else name)
    return flat


def _check_server(uri: str, timeout_s: float) -> None:
    try:
        urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=timeout_s).close()
    except urllib.error.HTTPError:
        return  # It answers; what it objects to, the first real request says better.
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"no MLflow server answers at MLFLOW_TRACKING_URI={uri} ({reason}); "
            "start it with `mlflow server`, correct the address, or unset it to use an SQLite file"
        ) from error


def _check_database(path: Path, timeout_s: float) -> None:
    """Find out at once what MLflow tries again for minutes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=timeout_s)) as database:
            database.execute("PRAGMA schema_version")
    except (OSError, sqlite3.Error) as error:
        raise UserError(
            f"{path}: cannot be opened as MLflow's database ({error}); choose another run root by "
            "UNIVS_RUN_ROOT, or a server by MLFLOW_TRACKING_URI"
        ) from error


@contextmanager
def _one_try(timeout_s: float) -> Iterator[None]:
    """Let MLflow give up after one short request; for a whole job its patient defaults are right."""
    names = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(max(1, round(timeout_s))),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
