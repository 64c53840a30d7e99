"""Fixtures shared by all tests."""

import importlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jobs.session import Session

CHECKOUT = Path(__file__).parents[1]

SMOKE_DATASETS = ("coco_panoptic", "sa_1b", "ytvis_2021", "vipseg", "vspw", "refytvos", "davis_2017")
"""What the smoke recipes train on and are scored on."""

RunScript = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def ray_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator["Session"]:
    """One Ray on this machine, two CPUs, for every test that needs it."""
    # Imported here: tests of the algorithms do without Ray.
    from jobs.session import ClusterConfig, ray_session

    cluster = ClusterConfig(num_cpus=2, run_root=tmp_path_factory.mktemp("runs"))
    with ray_session(cluster) as session:
        yield session


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Give the HOST:PORT of something that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host, port = server.getsockname()
        yield f"{host}:{port}"


@pytest.fixture(scope="session")
def run_script() -> RunScript:
    """Run a script of the checkout as a user does: a process of its own, in another folder."""

    def run(script: str, *flags: object, **environment: str) -> subprocess.CompletedProcess[str]:
        ours = {"RAY_ADDRESS": "", "MLFLOW_TRACKING_URI": "", "UNIVS_NUM_CPUS": "2"}
        return subprocess.run(
            [sys.executable, str(CHECKOUT / script), *map(str, flags)],
            cwd="/",
            env={**os.environ, "UNIVS_CONNECT_TIMEOUT_S": "60", **ours, **environment},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )

    return run


@dataclass(frozen=True, kw_only=True, slots=True)
class Ended:
    """How a script ended that was run inside the test's process."""

    code: int
    out: str
    err: str


@pytest.fixture
def run_here(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run the entry point of a script in this process, where a Ray that is open already is used."""
    from pipelines.cli import run_main

    def run(script: str, *flags: object, **environment: str) -> Ended:
        monkeypatch.setenv("UNIVS_CONNECT_TIMEOUT_S", "60")
        for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(sys, "argv", [f"pipelines/{script}.py", *map(str, flags)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            run_main(importlib.import_module(f"pipelines.{script}").main)
        out, err = capsys.readouterr()
        return Ended(code=int(stop.value.code or 0), out=out, err=err)

    return run


@pytest.fixture(scope="session")
def smoke_releases(ray_local: "Session", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder of releases, training and held-out, that the smoke recipes generate."""
    from jobs.releases import ReleaseName, build_miniature
    from pipelines.recipes.miniature import SMOKE_WORLDS

    root = tmp_path_factory.mktemp("smoke") / "releases"
    names = [ReleaseName(dataset=name, split="train") for name in SMOKE_DATASETS]
    names += [ReleaseName(dataset=name, split="val") for name in SMOKE_DATASETS if name != "sa_1b"]
    build_miniature(SMOKE_WORLDS, names, root, ray_local)
    return root


@dataclass(frozen=True, kw_only=True, slots=True)
class SmokeRun:
    """The whole product, run once on a handful of worlds."""

    root: Path
    stdout: str
    stderr: str
    seconds: float


@pytest.fixture(scope="session")
def smoke_run(run_script: RunScript, tmp_path_factory: pytest.TempPathFactory) -> SmokeRun:
    """Run the quickstart's smoke recipe once: worlds, releases, three stages, six benchmarks, a report."""
    root, start = tmp_path_factory.mktemp("quickstart"), time.monotonic()
    done = run_script("pipelines/quickstart.py", "--recipe", "smoke", UNIVS_RUN_ROOT=str(root))
    assert done.returncode == 0, done.stderr
    return SmokeRun(root=root, stdout=done.stdout, stderr=done.stderr, seconds=time.monotonic() - start)
