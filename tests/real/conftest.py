"""Everything in this directory drives a real vLLM; see README.md."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
VERSION = "0.32.0"
MODELS = ("chat", "chat-two", "embed", "rerank")
START_TIMEOUT_S = 600  # an engine needs 20 s to start, a minute or more on a small busy machine


@dataclass(frozen=True, slots=True, kw_only=True)
class RealVllm:
    """An installed vLLM and the tiny models made for it.

    `vllm` is the executable; `hf_home` is for `HF_HOME`, and holds tiny/chat, tiny/chat-two, tiny/embed and
    tiny/rerank; `version` is the installed distribution's, such as "0.32.0+cpu".
    """

    vllm: Path
    hf_home: Path
    version: str


@pytest.hookimpl(tryfirst=True)  # before -m selects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test here as real, so that none can slip into the everyday run, and give it time."""
    for item in items:
        if not item.path.is_relative_to(HERE):
            continue
        item.add_marker(pytest.mark.real)
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(START_TIMEOUT_S))


@pytest.fixture(scope="session")
def real_vllm() -> RealVllm:
    """Where vLLM is: VLLAMA_REAL_VLLM, else VLLAMA_REAL_HOME, else where install.sh puts it. Skips when absent."""
    home = home_directory()
    vllm = Path(os.environ.get("VLLAMA_REAL_VLLM") or home / "venv" / "bin" / "vllm").absolute()
    if not os.access(vllm, os.X_OK):
        pytest.skip(f"no real vLLM: {vllm} is not an executable. Run: tests/real/install.sh (about 2 minutes, 2.5 GB)")
    python = vllm.parent / "python"
    hf_home = home / "hf"
    absent = [name for name in MODELS if not (hf_home / "hub" / f"models--tiny--{name}" / "refs" / "main").is_file()]
    if absent:
        make = f"{python} {HERE / 'make_tiny_models.py'} {hf_home}"
        pytest.skip(f"no tiny models ({', '.join(absent)}) in {hf_home}. Run: {make}")
    return RealVllm(vllm=vllm, hf_home=hf_home, version=installed_version(python))


def home_directory() -> Path:
    """The directory that install.sh installs into."""
    if given := os.environ.get("VLLAMA_REAL_HOME"):
        return Path(given).absolute()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "vllama" / f"real-vllm-{VERSION}"


def installed_version(python: Path) -> str:
    """vLLM's version as its own Python tells it (`vllm --version` takes ten seconds)."""
    ask = "import importlib.metadata as m; print(m.version('vllm'))"
    try:
        answer = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"vLLM beside {python} does not tell its version ({error}). Run: tests/real/install.sh")
    return answer.stdout.strip()
