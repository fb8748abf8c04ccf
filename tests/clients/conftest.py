"""One real server with simulated engines, for the real packages that people call it with."""

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.waiting import wait_until
from tests.whole.server import serve

MODELS = """
models:
  org/chat:
    aliases: [talk]
    memory: 4GiB
    extra_args: {enable-auto-tool-choice: true, tool-call-parser: hermes}
  org/other: {memory: 4GiB}
  org/embed: {memory: 4GiB}
  org/rerank: {memory: 4GiB}
"""
AT_ONCE = 64
WEATHER = {
    "type": "object", "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
    "required": ["city", "unit"],
}  # fmt: skip
CALLED_WITH = {"city": "text", "unit": "c"}


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    os.environ["NO_PROXY"] = os.environ["no_proxy"] = "127.0.0.1,localhost"  # some know only this one
    directory = tmp_path_factory.mktemp("clients") / "config"
    started = serve(directory, MODELS, "--simulate", "2x24GiB", VLLAMA_SIM_TOKEN_S="0.005")
    yield started
    started.close()


@pytest.fixture
def idle(server):
    """`idle(model)`: waits until neither vllama nor the engine itself has anything of `model` in flight."""

    def idle(model: str) -> None:
        def is_so() -> bool:
            status = server.ps()[model]
            metrics = server.http.get(f"http://127.0.0.1:{status['port']}/metrics").text
            running = next(line for line in metrics.splitlines() if line.startswith("vllm:num_requests_running"))
            return status["in_flight"] == 0 and float(running.rpartition(" ")[2]) == 0

        wait_until(is_so, what=f"{model} to be idle")

    return idle


def at_once(call) -> list:
    """What `call(0)`, `call(1)`, ... return, all in threads at the same time."""
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(call, range(AT_ONCE)))
