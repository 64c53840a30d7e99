"""Fixtures shared by all tests."""

import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from jobs.session import Session


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
