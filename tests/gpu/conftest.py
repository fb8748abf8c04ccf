"""Everything in this directory drives a real vLLM on a real GPU, and is skipped elsewhere; see README.md."""

from pathlib import Path

import pynvml
import pytest

from tests.gpu.gauge import Gauge
from tests.gpu.make_models import LARGE, SMALL, make_dummy, make_random
from tests.gpu.rig import GIVEN
from vllama.domain.units import GIB, format_bytes
from vllama.engine.platform import EngineUnavailable, find_vllm, installed_version, platform_of
from vllama.runtime.base import RuntimeFailed

HERE = Path(__file__).parent
TIMEOUT_S = 1800
NEEDED_BYTES = 20 * GIB


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here, so that none can slip into the everyday run, and give it time."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.gpu)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.fixture(scope="session")
def vllm() -> str:
    """The `vllm` to run: VLLAMA_VLLM, else the one on PATH or beside this Python."""
    try:
        found = find_vllm(None, GIVEN)
    except EngineUnavailable as error:
        named = "VLLAMA_VLLM" in GIVEN
        pytest.skip(f"no vLLM: {str(error).splitlines()[0] if named else 'none on PATH, and VLLAMA_VLLM is not set'}")
    version = installed_version(found)
    if version is not None and platform_of(version) != "cuda":
        pytest.skip(f"no vLLM for GPUs: {found} is {version}")
    return found


@pytest.fixture(scope="session")
def gauge(vllm: str) -> Gauge:
    """The GPUs that CUDA_VISIBLE_DEVICES gives us, read past vllama's own reader."""
    try:
        gauge = Gauge(pynvml, GIVEN)
    except RuntimeFailed as error:
        pytest.skip(f"no GPU: {str(error).splitlines()[0]}")
    free = min(gauge.free_bytes(index) for index in gauge.indices[:1])
    if free < NEEDED_BYTES:
        pytest.skip(f"gpu{gauge.indices[0]} has {format_bytes(free)} free; {format_bytes(NEEDED_BYTES)} are needed")
    return gauge


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`dummy` (2.6 GiB of made-up weights) and `file` (0.8 GiB, in a file)."""
    directory = tmp_path_factory.mktemp("models")
    return {"dummy": make_dummy(directory / "dummy", LARGE), "file": make_random(directory / "file", SMALL, seed=1)}
