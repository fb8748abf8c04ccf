"""What vllama adds to a wake and to a cold start, and what it costs at rest. Real processes, simulated engines.

The engine's own time is measured in the same run, without vllama, and subtracted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

from tests.waiting import wait_until
from tests.whole.server import Server, environment, serve
from vllama.runtime.local.ports import free_port

MODELS = "models:\n" + "".join(f"  org/m{i}: {{memory: 1GiB}}\n" for i in range(20))
SIM = {
    "VLLAMA_SIM_LOAD_S": "0.2", "VLLAMA_SIM_WAKE_S": "0.1", "VLLAMA_SIM_SLEEP_S": "0.01", "VLLAMA_SIM_TOKEN_S": "0.001",
}  # fmt: skip
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def bare_engine(times: int) -> tuple[list[float], list[float]]:
    """(exec to first /health 200, one /wake_up) in ms, by hand."""
    starts, wakes = [], []
    for _ in range(times):
        port = free_port(range(42500, 42600), (), after=42500).number
        began = time.perf_counter()
        engine = subprocess.Popen(
            [sys.executable, "-m", "vllama.simulator.engine", "serve", "org/m0", "--port", str(port),
             "--enable-sleep-mode"],
            env=environment(**SIM, VLLM_SERVER_DEV_MODE="1"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as http:
            while True:
                try:
                    if http.get("/health").status_code == 200:
                        break
                except httpx.HTTPError:
                    time.sleep(0.002)
            starts.append((time.perf_counter() - began) * 1e3)
            http.post("/sleep?level=1")
            began = time.perf_counter()
            http.post("/wake_up")
            wakes.append((time.perf_counter() - began) * 1e3)
        engine.terminate()
        engine.wait()
    return starts, wakes


def waited_ms(server: Server) -> float:
    answer = server.chat("org/m0", max_tokens=1)
    assert answer.status_code == 200, answer.text
    return float(answer.headers["x-vllama-wait-ms"])


def sleep(server: Server) -> None:
    server.http.post(f"{server.url}/admin/models/org/m0/sleep", json={"level": 1})
    wait_until(lambda: server.phases()["org/m0"] == "Asleep", what="asleep")


def through_vllama(server: Server, times: int) -> tuple[list[float], list[float]]:
    """(cold start, wake) in ms, as the request waited. A first wake is checked by a canary, and not counted."""
    colds, wakes = [], []
    for _ in range(times):
        colds.append(waited_ms(server))
        sleep(server)
        waited_ms(server)
        sleep(server)
        wakes.append(waited_ms(server))
        server.http.post(f"{server.url}/admin/models/org/m0/stop")
        wait_until(lambda: server.phases()["org/m0"] == "Stopped", what="stopped")
    return colds, wakes


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * TICK_S


def at_rest(server: Server, seconds: float) -> float:
    """Share of one core that the manager takes with 20 idle engines."""
    for i in range(20):
        answer = server.chat(f"org/m{i}", max_tokens=1)
        assert answer.status_code == 200, answer.text
    time.sleep(2)
    before = cpu_s(server.process.pid)
    time.sleep(seconds)
    return (cpu_s(server.process.pid) - before) / seconds


def over(values: list[float], own: list[float]) -> dict[str, float]:
    base = statistics.median(own)
    added = sorted(value - base for value in values)
    return {
        "own_ms": round(base, 1),
        "added_p50_ms": round(statistics.median(added), 1),
        "added_p99_ms": round(added[min(len(added) - 1, int(len(added) * 0.99))], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=30)
    parser.add_argument("--rest-s", type=float, default=20)
    options = parser.parse_args()
    own_starts, own_wakes = bare_engine(options.times)
    with tempfile.TemporaryDirectory() as directory:
        server = serve(Path(directory) / "config", MODELS, "--simulate", "24GiB", "--log-level", "warning", **SIM)
        try:
            colds, wakes = through_vllama(server, options.times)
            rest = at_rest(server, options.rest_s)
        finally:
            server.close()
    began = time.perf_counter()
    subprocess.run([sys.executable, "-m", "vllama", "--help"], env=environment(), capture_output=True, check=True)
    print(json.dumps({
        "wake": over(wakes, own_wakes), "cold": over(colds, own_starts), "times": options.times,
        "at_rest_20_engines_cpu_percent": round(100 * rest, 2),
        "help_ms": round((time.perf_counter() - began) * 1e3),
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
