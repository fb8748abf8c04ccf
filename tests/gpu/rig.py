"""A real server with real engines on a GPU, and what the tests ask of it."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.gpu.gauge import Gauge
from tests.waiting import wait_until
from tests.whole.server import Server, serve
from vllama.domain.units import MIB

GIVEN = dict(os.environ)  # before fixtures of all tests hide what is the user's own
READY_WITHIN_S = 900  # the first start of a vLLM compiles kernels
SAME_BYTES = 300 * MIB  # between two readings of the same state
_TOOK = re.compile(r"It took ([\d.]+) seconds to (fall asleep|wake up)")


class Rig:
    def __init__(self, server: Server, gauge: Gauge) -> None:
        self.server, self.gauge, self.gpu = server, gauge, gauge.indices[0]

    def ask(self, model: str, *, tokens: int = 16) -> str:
        """The same question each time, answered without chance."""
        body = {
            "model": model, "messages": [{"role": "user", "content": "What is on the GPU now?"}], "temperature": 0,
            "max_tokens": tokens, "ignore_eos": True,
        }  # fmt: skip
        answer = self.server.http.post(f"{self.server.url}/v1/chat/completions", json=body, timeout=READY_WITHIN_S)
        assert answer.status_code == 200, f"{answer.text}\n{self.server.log()[-4000:]}"
        return answer.json()["choices"][0]["message"]["content"]

    def order(self, model: str, verb: str, **body: int) -> None:
        answer = self.server.http.post(f"{self.server.url}/admin/models/{model}/{verb}", json=body)
        assert answer.status_code == 202, answer.text

    def put_to_sleep(self, model: str, level: int) -> None:
        self.order(model, "sleep", level=level)
        self.reach(model, "Asleep")
        assert self.server.ps()[model]["sleep_level"] == level

    def reach(self, model: str, phase: str) -> None:
        wait_until(
            lambda: self.server.phases()[model] == phase, deadline_s=READY_WITHIN_S, what=f"{model} to be {phase}"
        )  # fmt: skip

    def used_bytes(self) -> int:
        return self.gauge.still_bytes(self.gpu)

    def engine_log(self, model: str) -> str:
        (log,) = (self.server.config_dir / "logs").glob(f"{model.replace('/', '_')}-*.log")
        return log.read_text()

    def engine_seconds(self, model: str) -> dict[str, list[float]]:
        """What the engine itself said that its sleeps and wakes took."""
        found: dict[str, list[float]] = {"fall asleep": [], "wake up": []}
        for seconds, what in _TOOK.findall(self.engine_log(model)):
            found[what].append(float(seconds))
        return found


@contextmanager
def rig(directory: Path, gauge: Gauge, vllm: str, models_yaml: str) -> Iterator[Rig]:
    """Everything is gone after it. Without torch.compile and CUDA graphs, unless VLLAMA_GPU_GRAPHS is set: quicker."""
    eager = "" if GIVEN.get("VLLAMA_GPU_GRAPHS") else "\n  enforce_eager: true"
    text = f"defaults:\n  max_model_len: 4096{eager}\n" + models_yaml
    visible = {name: GIVEN[name] for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER") if name in GIVEN}
    server = serve(directory, text, VLLAMA_VLLM=vllm, HF_HUB_OFFLINE="1", **visible)
    try:
        yield Rig(server, gauge)
    finally:
        server.close()
