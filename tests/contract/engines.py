"""The engines of the contract suite, of both kinds: the same models, names and limits."""

import json
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tests.real.conftest import RealVllm
from tests.simulator.engines import Engine, run_engine
from vllama.engine.door import Door

SIMULATED_PATIENCE_S = 10
REAL_PATIENCE_S = 240  # such an engine imports Python for 20 s, and for more than 60 on a busy machine


class Kind(StrEnum):
    SIMULATED = "simulated"
    REAL = "real"


DOOR = Door(host="127.0.0.1", key="a-key-of-forty-three-characters-0123456789a")
NAMED = ("--served-model-name", "chat", "alias", "--max-model-len", "4096")


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """`worker`: real vLLM runs the model in a process below its core, instead of in the core. `load_s`: how long a
    simulated engine loads.
    """

    model: str = "tiny/chat"
    flags: tuple[str, ...] = NAMED
    dev_mode: bool = True
    worker: bool = False
    load_s: float = 0.3
    stores: bool = False
    door: Door | None = None

    @property
    def environment(self) -> dict[str, str]:
        """`stores`: what /v1/responses made, so that it can be asked for later."""
        store = {"VLLM_ENABLE_RESPONSES_API_STORE": "1"} if self.stores else {}
        door = {} if self.door is None else self.door.environment(os.environ)
        return {"VLLM_SERVER_DEV_MODE": str(int(self.dev_mode)), **store, **door}


SETUPS = {
    "chat": Setup(
        flags=(
            "--served-model-name",
            "chat",
            "alias",
            "--max-model-len",
            "4096",
            "--enable-server-load-tracking",
            "--enable-lora",
            "--lora-modules",
            "adapter={adapter}",
        )
    ),
    "reranker": Setup(model="tiny/rerank", flags=("--served-model-name", "rerank", "--max-model-len", "512")),
    "embedder": Setup(model="tiny/embed", flags=("--served-model-name", "embed", "--max-model-len", "512")),
    "deaf": Setup(),
    "interrupted": Setup(load_s=30),
    "stalling": Setup(),
    "beheaded": Setup(),
    "plain": Setup(
        flags=(*NAMED, "--enable-auto-tool-choice", "--tool-call-parser", "hermes"),
        dev_mode=False,
        worker=True,
        stores=True,
    ),
    "guarded": Setup(flags=(*NAMED, *DOOR.flags), door=DOOR),
}


class Fleet:
    """Engines by name, each started when it is first asked for, or while the tests run on the one before it."""

    def __init__(self, vllm: RealVllm | None, directory: Path, order: Sequence[str]) -> None:
        self._vllm = vllm  # None: simulated ones
        self._directory = directory
        self._order = order
        self._begun: dict[str, Engine] = {}
        _write_adapter(directory / "adapter")

    def begin(self, name: str) -> Engine:
        """Started, and not waited for."""
        if name not in self._begun:
            setup = SETUPS[name]
            flags = [flag.format(adapter=self._directory / "adapter") for flag in setup.flags]
            log_path, arguments = self._directory / f"{name}.log", [setup.model, *flags]
            self._begun[name] = (
                _run_real(self._vllm, log_path, arguments, setup)
                if self._vllm
                else _run_simulated(log_path, arguments, setup)
            )
            if setup.door is not None:
                self._begun[name].http.headers["authorization"] = f"Bearer {setup.door.key}"
        return self._begun[name]

    def get(self, name: str) -> Engine:
        """Ready. The next one in the order of use begins to load now, so that two load at once and never more."""
        engine = self.begin(name)
        following = [other for other in self._order[self._order.index(name) + 1 :] if other not in self._begun]
        if following:
            self.begin(following[0])
        return engine.wait_ready()

    def end(self, name: str) -> None:
        """By SIGTERM, so that real engines remove their shared memory; what is left is killed."""
        engine = self._begun.pop(name)
        engine.http.close()
        for _ in range(5):
            engine.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                engine.process.wait(timeout=5)
                break
        engine.stop()

    def end_all(self) -> None:
        for engine in self._begun.values():
            with suppress(ProcessLookupError):
                os.kill(engine.process.pid, signal.SIGTERM)  # all at once: each takes some seconds
        for name in tuple(self._begun):
            self.end(name)


def _run_simulated(log_path: Path, arguments: list[str], setup: Setup) -> Engine:
    pace = {"LOAD_S": str(setup.load_s), "SLEEP_S": "0", "WAKE_S": "0", "TOKEN_S": "0.002", "DEAD_S": "0.2"}
    environment = {f"VLLAMA_SIM_{name}": value for name, value in pace.items()}
    environment |= {"SPT_NOENV": "1", **setup.environment}
    program = [sys.executable, "-m", "vllama.simulator.engine"]
    return run_engine(program, log_path, arguments, environment, patience_s=SIMULATED_PATIENCE_S)


def _run_real(vllm: RealVllm, log_path: Path, arguments: list[str], setup: Setup) -> Engine:
    environment = {"HF_HOME": str(vllm.hf_home), "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
    environment |= setup.environment
    flags = ["--kv-cache-memory-bytes", "64M", "--gpu-memory-utilization", "0.1", "--enforce-eager"]
    if not setup.worker:
        environment |= {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
        flags += ["--distributed-executor-backend", "uni"]
    return run_engine([vllm.vllm], log_path, [*arguments, *flags], environment, patience_s=REAL_PATIENCE_S)


def _write_adapter(directory: Path) -> None:
    """A LoRA adapter for tiny/chat that changes nothing: all its weights are zero."""
    directory.mkdir()
    config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 8, "target_modules": ["q_proj"]}
    (directory / "adapter_config.json").write_text(json.dumps(config))
    tensors, end = {}, 0
    for layer in range(2):
        for part, shape in (("A", (8, 64)), ("B", (64, 8))):
            name = f"base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{part}.weight"
            start, end = end, end + 2 * 8 * 64
            tensors[name] = {"dtype": "BF16", "shape": shape, "data_offsets": (start, end)}
    header = json.dumps(tensors).encode()
    (directory / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(end))
