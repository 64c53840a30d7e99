"""Start or join Ray: the one place that knows where a job runs.

Under ``ray job submit`` Ray sets ``RAY_ADDRESS`` and ships the working directory itself. A script run by hand
joins the ``RAY_ADDRESS`` it finds and ships the checkout, or else starts a Ray of its own on this machine.
"""

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from typing import Any, cast

import ray
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

from jobs.errors import CHECKOUT, UserError
from jobs.waiting import MAX_DEATHS

logger = logging.getLogger(__name__)

NAMESPACE = "univs"

_JOB_CONFIG = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray sets it in the entry point of a submitted job."""

_LOCAL_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Every `ray.train.report` waits for the controller's next poll: 2 s each by default.
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.2",
    # One process fewer per run; a Ray that this process starts and stops is not reclaimed by a cloud.
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",
    # A task killed for lack of memory would be run again for ever, not as often as its `max_retries` says.
    "RAY_task_oom_retries": str(MAX_DEATHS),
}
_START_ATTEMPTS = 2
"""How often a Ray of our own is started before that is given up: a busy machine may be slow at the first."""
_MAX_REASON_LENGTH = 300


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterConfig:
    """Where a job runs. Read from the environment, never part of what identifies an artifact."""

    ray_address: str = ""
    """``RAY_ADDRESS``: a running Ray to join; empty starts one on this machine."""
    num_cpus: int = 0
    """``UNIVS_NUM_CPUS``: logical CPUs of a Ray started here; 0 means all of the machine's."""
    run_root: Path = Path("runs")
    """``UNIVS_RUN_ROOT``: where artifacts go that are not given a place; shared storage on a cluster.

    Inside a Ray job it is ``~/univs-runs`` unless given: the job's own folder goes when the job goes.
    """
    tracking_uri: str = ""
    """``MLFLOW_TRACKING_URI``; empty means an SQLite file in ``run_root``."""
    connect_timeout_s: float = 10.0
    """``UNIVS_CONNECT_TIMEOUT_S``: longest wait for a Ray or an MLflow server to answer."""

    def __post_init__(self) -> None:
        """Refuse sizes that cannot be."""
        if self.num_cpus < 0 or self.connect_timeout_s <= 0:
            raise ValueError(
                f"UNIVS_NUM_CPUS must be at least 0 and UNIVS_CONNECT_TIMEOUT_S positive, "
                f"got {self.num_cpus} and {self.connect_timeout_s}"
            )

    @property
    def mlflow_uri(self) -> str:
        """The tracking URI with its default filled in."""
        return self.tracking_uri or f"sqlite:///{self.run_root.resolve() / 'mlflow.db'}"

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ, run_root: Path = Path("runs")
    ) -> "ClusterConfig":
        """Read the settings that the machine, not the recipe, decides; ``run_root`` is used where none is."""
        if _JOB_CONFIG in environment:
            run_root = Path.home() / "univs-runs"
        return cls(
            ray_address=environment.get("RAY_ADDRESS", ""),
            num_cpus=int(_number(environment, "UNIVS_NUM_CPUS", "0")),
            run_root=Path(environment.get("UNIVS_RUN_ROOT", "") or run_root),
            tracking_uri=environment.get("MLFLOW_TRACKING_URI", ""),
            connect_timeout_s=_number(environment, "UNIVS_CONNECT_TIMEOUT_S", "10"),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """A joined or started Ray, as long as ``ray_session`` holds it."""

    cluster: ClusterConfig
    is_local: bool
    """Whether this process started the Ray and will stop it."""
    num_cpus: int
    num_gpus: int
    num_nodes: int


@contextmanager
def ray_session(cluster: ClusterConfig | None = None, *, show_worker_logs: bool = False) -> Iterator[Session]:
    """Join the Ray at ``cluster.ray_address`` or start one here; on leaving, stop only what was started here.

    Inside an open session of the same process the open one is used and left open.

    Raises:
        ConnectionError: nothing answers at the address within ``connect_timeout_s``.
    """
    cluster = cluster or ClusterConfig.from_environment()
    if ray.is_initialized():
        yield _describe(cluster, is_local=False)
        return
    is_local = not cluster.ray_address
    logging.getLogger("ray").setLevel(logging.ERROR)
    if is_local:
        _start_local(cluster, show_worker_logs)
    else:
        _join(cluster, show_worker_logs)
    try:
        yield _announce(_describe(cluster, is_local=is_local))
    finally:
        ray.shutdown()


@dataclass(frozen=True, kw_only=True, slots=True)
class SourcePackage:
    """The files of a working directory that a cluster needs to run our code."""

    num_files: int
    size_bytes: int

    def __str__(self) -> str:
        """Say it as one log line does."""
        return f"{self.size_bytes / 1024:.0f} KiB of source in {self.num_files} files"


def measure_source(root: Path = CHECKOUT) -> SourcePackage:
    """Measure what submitting ``root`` uploads, by Ray's ``.gitignore`` and ``.rayignore`` rules."""
    sizes = [file.stat().st_size for file in _travel(root, []) if file.suffix != ".pyc"]
    return SourcePackage(num_files=len(sizes), size_bytes=sum(sizes))


def _travel(folder: Path, outer: list[Any]) -> Iterator[Path]:
    excludes = outer + get_excludes_from_ignore_files(folder, include_gitignore=True, logger=_SILENT)
    for path in sorted(folder.iterdir()):
        if any(exclude(path) for exclude in excludes):
            continue
        if path.is_dir():
            yield from _travel(path, excludes)
        elif path.is_file():
            yield path


_SILENT = logging.getLogger(f"{__name__}.silent")
_SILENT.setLevel(logging.ERROR)


def _start_local(cluster: ClusterConfig, show_worker_logs: bool) -> None:
    for name, value in {**_LOCAL_ENVIRONMENT, **_worker_environment()}.items():
        os.environ.setdefault(name, value)
    _put_checkout_on_path()
    for attempt in range(1, _START_ATTEMPTS + 1):
        try:
            _init_local(cluster, show_worker_logs)
            return
        # Ray raises plain exceptions of many lines, mostly of its own logs.
        except Exception as error:
            ray.shutdown()
            reason = shorten(str(error), _MAX_REASON_LENGTH, placeholder=" ...")
            if attempt == _START_ATTEMPTS:
                raise UserError(
                    f"Ray did not start on this machine ({reason}); free memory and disk or stop other work, "
                    "look into /tmp/ray/session_latest/logs, and run again"
                ) from error
            logger.warning("Ray did not start (%s), trying once more", reason)


def _init_local(cluster: ClusterConfig, show_worker_logs: bool) -> None:
    ray.init(
        address="local",
        num_cpus=cluster.num_cpus or None,
        namespace=NAMESPACE,
        # Without its dashboard Ray Train complains once a second about an API it cannot reach.
        include_dashboard=True,
        log_to_driver=show_worker_logs,
        logging_level=logging.ERROR,
        _node_ip_address="127.0.0.1",
    )


def _join(cluster: ClusterConfig, show_worker_logs: bool) -> None:
    # A cluster started where a token lies asks for it; Ray itself sends it only if told to.
    maybe_enable_token_auth_if_token_available(warn_if_disabled=False)
    _check_answers(cluster)
    ray.init(
        address=cluster.ray_address,
        namespace=NAMESPACE,
        runtime_env=_runtime_env(os.environ),
        log_to_driver=show_worker_logs,
        logging_level=logging.ERROR,
    )


def _runtime_env(environment: Mapping[str, str]) -> dict[str, Any]:
    """Give what the job's own runtime environment lacks: Ray refuses a key that both name."""
    submitted = json.loads(environment.get(_JOB_CONFIG, "{}")).get("runtime_env", {})
    given = submitted.get("env_vars", {})
    variables = {name: value for name, value in _worker_environment().items() if name not in given}
    if submitted.get("working_dir"):
        logger.info("uploaded %s", measure_source(Path.cwd()))
        return {"env_vars": variables}
    logger.info("uploading %s", measure_source())
    return {"env_vars": variables, "working_dir": str(CHECKOUT)}


def _worker_environment() -> dict[str, str]:
    """Give every worker one thread per CPU it was promised, and an import path without script folders."""
    return {"PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}


def _put_checkout_on_path() -> None:
    paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if str(CHECKOUT) not in paths:
        os.environ["PYTHONPATH"] = os.pathsep.join([str(CHECKOUT), *filter(None, paths)])


_NO_ANSWER = "no answer"


def _check_answers(cluster: ClusterConfig) -> None:
    host, _, port = cluster.ray_address.removeprefix("ray://").rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise ConnectionError(
            f"RAY_ADDRESS is {cluster.ray_address!r}, expected HOST:PORT or ray://HOST:PORT; "
            "unset it to run on this machine"
        )
    refusal = f"no Ray answers at RAY_ADDRESS={cluster.ray_address}"
    advice = "start one with `ray start --head`, correct the address, or unset it to run on this machine"
    try:
        socket.create_connection((host, int(port)), timeout=cluster.connect_timeout_s).close()
    except OSError as error:
        raise ConnectionError(f"{refusal} ({error}); {advice}") from error
    if not cluster.ray_address.startswith("ray://"):
        complaint = _check_health(cluster)
        if "AuthenticationError" in complaint:
            advice = "put the cluster's token into RAY_AUTH_TOKEN and set RAY_AUTH_MODE=token"
            raise ConnectionError(f"Ray at RAY_ADDRESS={cluster.ray_address} refuses us; {advice}")
        if complaint == _NO_ANSWER:
            waited = f"no answer within {cluster.connect_timeout_s:g} s, the wait is UNIVS_CONNECT_TIMEOUT_S"
            raise ConnectionError(f"{refusal} ({waited}); {advice}")
        if complaint:
            raise ConnectionError(f"{refusal} (what listens there is not one); {advice}")


def _check_health(cluster: ClusterConfig) -> str:
    """Give the complaint about a Ray, empty if it is healthy.

    Asked in a process of its own, which can be given up: ``ray.init`` waits for minutes.
    """
    command = [sys.executable, "-m", "ray.scripts.scripts", "health-check", "--address", cluster.ray_address]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=cluster.connect_timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return _NO_ANSWER
    return "" if done.returncode == 0 else done.stderr or "unhealthy"


def _describe(cluster: ClusterConfig, *, is_local: bool) -> Session:
    resources = cast("dict[str, float]", ray.cluster_resources())  # type: ignore[no-untyped-call]
    return Session(
        cluster=cluster,
        is_local=is_local,
        num_cpus=int(resources.get("CPU", 0)),
        num_gpus=int(resources.get("GPU", 0)),
        num_nodes=sum(bool(node["Alive"]) for node in ray.nodes()),  # type: ignore[no-untyped-call]
    )


def _announce(session: Session) -> Session:
    verb = "started a local Ray" if session.is_local else f"joined Ray at {session.cluster.ray_address}"
    logger.info("%s: %d nodes, %d CPUs, %d GPUs", verb, session.num_nodes, session.num_cpus, session.num_gpus)
    return session


def _number(environment: Mapping[str, str], name: str, default: str) -> float:
    text = environment.get(name, default)
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"environment variable {name} is {text!r}, expected a number") from error
