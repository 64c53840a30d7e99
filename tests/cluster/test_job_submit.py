"""Submit a stage to a Ray that runs already, as one does on a cluster: `ray job submit --working-dir .`."""

import os
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from jobs.artifacts import digest_file, read_record, verify_outputs

# The first test waits for the quickstart too.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(900)]

CHECKOUT = Path(__file__).parents[2]
START_S, JOB_S = 60, 240


@dataclass(frozen=True, kw_only=True, slots=True)
class Head:
    """A Ray head of its own, that asks for a token."""

    home: Path
    environment: dict[str, str]


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """A submitted job that has ended."""

    output: str
    runs: Path
    package: Path
    """The working directory as the cluster unpacked it."""


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [server.getsockname()[1] for server in sockets]


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    """Start a head on loopback, with ports, temporary folder and home of its own; end all it has started."""
    # Short: the paths of its sockets may have 107 characters.
    root = Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))
    (root / ".ray").mkdir()
    (root / ".ray/auth_token").write_text(secrets.token_hex(32))
    gcs, dashboard, client, agent = free_ports(4)
    scripts = Path(sys.executable).parent
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "UNIVS_"))}
    environment = {
        **inherited,
        "HOME": str(root),
        "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "MLFLOW_TRACKING_URI": "",
    }
    flags = (
        f"--head --block --num-cpus=2 --disable-usage-stats --temp-dir={root}/ray "
        # Not 127.0.0.1, which Ray replaces by the address of the network card.
        f"--node-ip-address=127.0.0.2 --port={gcs} --dashboard-host=127.0.0.1 --dashboard-port={dashboard} "
        f"--ray-client-server-port={client} --dashboard-agent-listen-port={agent} "
        "--min-worker-port=0 --max-worker-port=0"
    )
    process = subprocess.Popen(
        ["ray", "start", *flags.split()],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until_up(f"http://127.0.0.1:{dashboard}/api/version", process)
        yield Head(home=root, environment={**environment, "RAY_ADDRESS": f"http://127.0.0.1:{dashboard}"})
    finally:
        family = [*psutil.Process(process.pid).children(recursive=True), process]
        for member in family:
            member.kill()
        process.wait(START_S)
        shutil.rmtree(root, ignore_errors=True)


def wait_until_up(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + START_S
    while time.monotonic() < deadline_s:
        assert process.poll() is None, "ray start ended"
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except urllib.error.HTTPError as error:
            # It is up, and wants the token.
            assert error.code == 401  # noqa: PT017
            return
        except OSError:
            time.sleep(0.1)
    pytest.fail("ray start does not answer")


@pytest.fixture(scope="module")
def job(head, smoke_run) -> Job:
    """Train the smoke recipe's stage 2 where a run has left releases and stage 1."""
    runs = head.home / "univs-runs"
    (runs / "smoke").mkdir(parents=True)
    shutil.copytree(smoke_run.root / "releases", runs / "releases")
    shutil.copytree(smoke_run.root / "smoke/stage1", runs / "smoke/stage1")
    command = "ray job submit --working-dir . -- python pipelines/stage2.py --recipe smoke"
    done = subprocess.run(
        command.split(),
        cwd=CHECKOUT,
        env=head.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=JOB_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    (package,) = (head.home / "ray").glob("session_2*/runtime_resources/working_dir_files/_ray_pkg_*/")
    return Job(output=done.stdout, runs=runs, package=package)


def test_submitted_stage_is_trained_on_the_cluster_that_runs(job):
    assert re.search(r"INFO joined Ray at 127\.0\.0\.2:\d+: 1 nodes, 2 CPUs, 0 GPUs\n", job.output)
    assert "started a local Ray" not in job.output
    assert "Traceback" not in job.output
    assert "stage1: already trained" in job.output
    # Where no run root is given, results outlive the job's folder.
    assert f"\n{job.runs}/smoke/stage2/checkpoint.safetensors\n" in job.output


def test_submitted_stage_leaves_what_a_local_one_leaves(job, smoke_run):
    folder = job.runs / "smoke/stage2"
    record = read_record(folder, "checkpoint")
    verify_outputs(folder, record)
    local = read_record(smoke_run.root / "smoke/stage2", "checkpoint")
    assert (record.config, record.inputs) == (local.config, local.inputs)
    name = "smoke/stage2/checkpoint.safetensors"
    assert digest_file(job.runs / name) == digest_file(smoke_run.root / name)
    assert (job.runs / "mlflow.db").is_file()


def test_only_source_is_uploaded_and_its_size_is_said(job):
    files = [
        path.relative_to(job.package)
        for path in job.package.rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    ]
    folders = {path.parts[0] for path in files if len(path.parts) > 1}
    assert folders == {"pipelines", "jobs", "preprocessing", "univs"}
    tables = {path for path in files if path.parent == Path("univs/category_tables")}
    assert {path.suffix for path in tables} == {".tsv"}
    assert {path.suffix for path in set(files) - tables if len(path.parts) > 1} <= {".py", ".html"}
    source = {path.relative_to(CHECKOUT) for name in folders for path in (CHECKOUT / name).rglob("*")}
    kept = {path for path in source if path.suffix in {".py", ".html", ".tsv"}}
    assert {path for path in files if len(path.parts) > 1} == kept
    size_bytes = sum((job.package / path).stat().st_size for path in files)
    assert size_bytes < 2 << 20
    assert f"INFO uploaded {size_bytes / 1024:.0f} KiB of source in {len(files)} files\n" in job.output
