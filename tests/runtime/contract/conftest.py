"""One contract for every runtime: the places that it is tried in."""

import asyncio
import shutil
import socket
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.runtime.contract.places import ByAnAgent, OnMadeUpDevices, OnTheHost, Place, WithRay


@pytest.fixture(
    params=["local", "simulated", "agent", pytest.param("ray", marks=[pytest.mark.ray, pytest.mark.timeout(300)])]
)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    first = 20000 + 50 * (hash(request.node.nodeid) % 200)
    ports = range(first, first + 50)
    match request.param:
        case "local":
            here: Place = OnTheHost(directory=tmp_path, ports=ports)
        case "simulated":
            here = OnMadeUpDevices(directory=tmp_path, ports=ports)
        case "agent":
            here = ByAnAgent(directory=tmp_path, ports=ports)
        case _:
            shared: WithRay = request.getfixturevalue("ray_here")
            here = WithRay(directory=tmp_path, ports=ports, ray_directory=shared.ray_directory, port=shared.port)
    yield here
    asyncio.run(here.end())


@pytest.fixture(scope="session")
def ray_here() -> Iterator[WithRay]:
    if find_spec("ray") is None:
        pytest.skip("Ray is not installed: pip install 'vllama[ray]'")
    directory = Path(tempfile.mkdtemp(prefix="vr-", dir="/tmp"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = WithRay(directory=directory, ports=range(1), ray_directory=directory, port=port)
    here.start_ray()
    yield here
    here.end_ray()
    shutil.rmtree(directory, ignore_errors=True)
