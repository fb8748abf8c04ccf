from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.simulator.engines import Engine, launch, make_devices
from vllama.simulator.devices import SimulatedDevices


@pytest.fixture
def devices(tmp_path: Path) -> SimulatedDevices:
    """Two devices of 4 GiB."""
    return make_devices(tmp_path / "devices", "2x4GiB")


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Engine]]:
    """Start engines that do not outlive the test."""
    engines: list[Engine] = []

    def start_one(*arguments: str, **options: str) -> Engine:
        engines.append(launch(tmp_path / f"engine-{len(engines)}.log", *arguments, **options))
        return engines[-1]

    yield start_one
    for engine in engines:
        engine.stop()


@pytest.fixture(scope="module")
def shared_chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """One chat engine for the tests that leave it as they found it."""
    path = tmp_path_factory.mktemp("chat") / "engine.log"
    engine = launch(path, "--served-model-name", "chat", "alias", "--enable-server-load-tracking")
    yield engine.wait_ready()
    engine.stop()
