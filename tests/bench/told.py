"""What it takes to tell a crowd that the load they wait for has failed: vllama's CPU, and until each of them has heard.

python -m tests.bench.told [--clients 500 --leaving 500]      medians; counted from the moment in vllama's own log
"""

import argparse
import json
import resource
import select
import socket
import statistics
import tempfile
import time
from datetime import datetime
from pathlib import Path

from tests.waiting import wait_until
from tests.whole.server import Server, serve

_MODELS = "models: {org/A: {memory: 1GiB, max_queue: 100000, env: {VLLAMA_SIM_FAULTS: kv_error_at_load}}}"
_BODY = json.dumps({"model": "org/A", "prompt": "hello", "max_tokens": 1}).encode()
_REQUEST = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
_SETTLES_S = 1.0
_LOOKS_EVERY_S = 0.01  # what comes before the failure is no part of it


def cpu_s(pid: int) -> float:
    """All that a process has used, to the nanosecond: the clock that clock_getcpuclockid(3) gives for it."""
    return time.clock_gettime((~pid << 3) | 2)


def once(clients: int, leaving: int, *, keeps: bool, load_s: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as directory:
        server = serve(Path(directory) / "config", _MODELS, "--simulate", "8GiB", VLLAMA_SIM_LOAD_S=str(load_s))
        try:
            return _told(server, clients, leaving, keeps=keeps)
        finally:
            server.close()


def _told(server: Server, clients: int, leaving: int, *, keeps: bool) -> dict[str, float]:
    host, _, port = server.url.removeprefix("http://").partition(":")
    head = _REQUEST + (b"" if keeps else b"connection: close\r\n") + b"content-length: %d\r\n\r\n" % len(_BODY)
    waiting = []
    for _ in range(clients + leaving):
        waiting.append(socket.create_connection((host, int(port))))
        waiting[-1].sendall(head + _BODY)
    wait_until(lambda: server.ps()["org/A"]["waiting"] == clients + leaving, what="all to wait")
    for each in waiting[clients:]:
        each.close()
    del waiting[clients:]
    wait_until(lambda: server.ps()["org/A"]["waiting"] == clients, what="some to have left")
    pid = server.process.pid
    time.sleep(_SETTLES_S)
    assert '"Crashed"' not in server.log(), "the load failed before all waited: give --load-s more"
    heard, used = _hear(waiting, pid)
    for each in waiting:
        each.close()
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    (known,) = [datetime.fromisoformat(each["timestamp"]).timestamp() for each in lines if each["event"] == "Crashed"]
    time.sleep(_SETTLES_S)
    status = Path(f"/proc/{pid}/status").read_text()
    after_ms = [(at - known) * 1e3 for at in heard]
    return {
        "cpu_ms": used * 1e3,
        "first_ms": after_ms[0], "median_ms": statistics.median(after_ms), "last_ms": after_ms[-1],
        "peak_mib": int(status.partition("VmHWM:")[2].split()[0]) / 1024,
    }  # fmt: skip


def _hear(waiting: list[socket.socket], pid: int) -> tuple[list[float], float]:
    """When each had its answer, by the wall clock; and the CPU from just before the first to the last, in seconds."""
    by_fd = {each.fileno(): each for each in waiting}
    heard: list[float] = []
    used = cpu_s(pid)
    with select.epoll() as ready:
        for fd in by_fd:
            ready.register(fd, select.EPOLLIN)
        while by_fd:
            came = ready.poll(_LOOKS_EVERY_S)
            if not came and not heard:
                used = cpu_s(pid)
            for fd, _ in came:
                answer = by_fd[fd].recv(65536)
                heard.append(time.time())
                assert answer.startswith(b"HTTP/1.1 503 "), answer
                assert answer.endswith(b"}"), answer
                ready.unregister(fd)
                del by_fd[fd]
    return sorted(heard), cpu_s(pid) - used


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=1000, help="who is told")
    parser.add_argument("--leaving", type=int, default=0, help="who leaves before")
    parser.add_argument("--keeps", action="store_true", help="connections stay open for another request")
    parser.add_argument("--load-s", type=float, default=6)
    parser.add_argument("--times", type=int, default=3)
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    rounds = [
        once(options.clients, options.leaving, keeps=options.keeps, load_s=options.load_s) for _ in range(options.times)
    ]
    print(json.dumps({
        "clients": options.clients, "left_before": options.leaving, "times": options.times,
        **{name: round(statistics.median(each[name] for each in rounds), 1) for name in rounds[0]},
    }, indent=2))  # fmt: skip


if __name__ == "__main__":
    main()
