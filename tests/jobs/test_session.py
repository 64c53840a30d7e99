import os
import time
from pathlib import Path

import pytest
import ray

from jobs.session import ClusterConfig, measure_source, ray_session


def test_cluster_is_read_from_the_environment(tmp_path):
    environment = {"RAY_ADDRESS": "h:1", "UNIVS_NUM_CPUS": "3", "UNIVS_RUN_ROOT": str(tmp_path)}
    cluster = ClusterConfig.from_environment(environment)
    assert (cluster.ray_address, cluster.num_cpus) == ("h:1", 3)
    assert cluster.mlflow_uri == f"sqlite:///{tmp_path}/mlflow.db"
    given = ClusterConfig.from_environment({"MLFLOW_TRACKING_URI": "http://m:5000"})
    assert given.mlflow_uri == "http://m:5000"


def test_setting_that_is_no_number_is_named():
    with pytest.raises(ValueError, match="environment variable UNIVS_NUM_CPUS is 'many', expected a number"):
        ClusterConfig.from_environment({"UNIVS_NUM_CPUS": "many"})


def test_source_is_what_neither_ignore_file_names(tmp_path):
    (tmp_path / ".gitignore").write_text("runs/\n")
    (tmp_path / ".rayignore").write_text("*.tar\n/docs/\n")
    for name, size in {"a.py": 10, "b/c.py": 20, "b/x.tar": 99, "runs/y": 99, "docs/z": 99}.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * size)
    package = measure_source(tmp_path)
    ignore_bytes = len("runs/\n") + len("*.tar\n/docs/\n")
    assert (package.num_files, package.size_bytes) == (4, 30 + ignore_bytes)
    assert str(package) == "0 KiB of source in 4 files"


def test_source_of_this_project_is_small():
    package = measure_source()
    assert package.size_bytes < 2**21
    assert package.num_files > 20


@pytest.fixture
def outside(monkeypatch):
    """Let a session be opened as if no other test had one open in this process."""
    monkeypatch.setattr(ray, "is_initialized", lambda: False)


@pytest.mark.usefixtures("outside")
@pytest.mark.parametrize("address", ["http://head:8265", "head", "head:", "auto "])
def test_address_of_another_form_is_refused(address):
    with (
        pytest.raises(ConnectionError, match=r"^RAY_ADDRESS is '.*', expected HOST:PORT or ray://HOST:PORT"),
        ray_session(ClusterConfig(ray_address=address)),
    ):
        pass


@pytest.mark.usefixtures("outside")
def test_ray_that_is_not_there_is_one_line():
    with (
        pytest.raises(ConnectionError) as error,
        ray_session(ClusterConfig(ray_address="127.0.0.1:1")),
    ):
        pass
    assert str(error.value) == (
        "no Ray answers at RAY_ADDRESS=127.0.0.1:1 ([Errno 111] Connection refused); start one with "
        "`ray start --head`, correct the address, or unset it to run on this machine"
    )


@pytest.mark.usefixtures("outside")
def test_listener_that_is_no_ray_is_given_up_in_time(silent_server):
    started_s = time.monotonic()
    with (
        pytest.raises(
            ConnectionError, match=r"\(no answer within 3 s, the wait is UNIVS_CONNECT_TIMEOUT_S\)"
        ),
        ray_session(ClusterConfig(ray_address=silent_server, connect_timeout_s=3)),
    ):
        pass
    assert time.monotonic() - started_s < 15


def test_open_session_is_reused_and_left_open(ray_local):
    with ray_session(ClusterConfig(ray_address="127.0.0.1:1")) as inner:
        assert inner.num_cpus == ray_local.num_cpus == 2
        assert not inner.is_local
    assert ray.is_initialized()


def test_worker_imports_our_packages_from_anywhere(ray_local):
    @ray.remote
    def look() -> tuple[str, str, str]:
        import jobs.artifacts

        return jobs.artifacts.__file__, os.environ["PYTHONSAFEPATH"], os.environ["OMP_NUM_THREADS"]

    file, safe_path, threads = ray.get(look.remote())
    assert Path(file).name == "artifacts.py"
    assert (safe_path, threads) == ("1", os.environ["OMP_NUM_THREADS"])


def test_run_root_is_the_scripts_own_unless_given():
    assert ClusterConfig.from_environment({}).run_root == Path("runs")
    assert ClusterConfig.from_environment({}, run_root=Path("runs/demo")).run_root == Path("runs/demo")
    given = ClusterConfig.from_environment({"UNIVS_RUN_ROOT": "/mnt/univs"}, run_root=Path("runs/demo"))
    assert given.run_root == Path("/mnt/univs")


def test_run_root_of_a_job_outlives_its_folder(monkeypatch):
    monkeypatch.setenv("HOME", "/home/someone")
    job = {"RAY_JOB_CONFIG_JSON_ENV_VAR": "{}"}
    assert ClusterConfig.from_environment(job).run_root == Path("/home/someone/univs-runs")
    given = ClusterConfig.from_environment({**job, "UNIVS_RUN_ROOT": "/mnt/univs"})
    assert given.run_root == Path("/mnt/univs")
