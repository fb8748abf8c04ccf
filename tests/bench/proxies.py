"""Who stands between clients and the backend: vllama's gateway, and whoever of the others is installed."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_NGINX = """
daemon off; worker_processes 1; pid {here}/nginx.pid; error_log {here}/nginx.err;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; client_max_body_size 64m; client_body_buffer_size 1m;
  client_body_temp_path {here}/b; proxy_temp_path {here}/p; fastcgi_temp_path {here}/f; uwsgi_temp_path {here}/u;
  scgi_temp_path {here}/s;
  upstream backend {{ server 127.0.0.1:{backend}; keepalive 512; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=2048;
    location / {{
      proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
_LITELLM = """
model_list:
  - model_name: bench
    litellm_params: {{ model: openai/bench, api_base: "http://127.0.0.1:{backend}/v1", api_key: none }}
general_settings: {{ dangerously_permit_weak_or_unset_master_key: true }}
"""
_ROOT = Path(__file__).parents[2]
_UP_WITHIN_S = 60
_MVLLM = '[servers]\nservers = [{{ url = "http://127.0.0.1:{backend}", max_concurrent_requests = 100000 }}]\n'


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """`command(here, port, backend)`; None: it is not installed."""

    name: str
    command: Callable[[Path, int, int], list[str]] | None
    slow: bool = False  # so much that many connections at a time get no answer


def all_of_them() -> list[Proxy]:
    """nginx first, since the others are compared with it."""
    return [
        Proxy(name="nginx", command=_nginx if shutil.which("nginx") else None),
        Proxy(name="vllama", command=_ours),
        Proxy(name="vllama --access-log", command=lambda *place: [*_ours(*place), "--access-log"]),
        Proxy(name="litellm", command=_litellm if shutil.which("litellm") else None),
        Proxy(name="mvllm", command=_mvllm if shutil.which("mvllm") else None, slow=True),
    ]


def _nginx(here: Path, port: int, backend: int) -> list[str]:
    (here / "nginx.conf").write_text(_NGINX.format(here=here, port=port, backend=backend))
    return ["nginx", "-p", str(here), "-c", str(here / "nginx.conf")]


def _ours(_here: Path, port: int, backend: int) -> list[str]:
    return [sys.executable, "-m", "tests.bench.gateway_app", str(port), "--engine-port", str(backend)]


def _litellm(here: Path, port: int, backend: int) -> list[str]:
    (here / "litellm.yaml").write_text(_LITELLM.format(backend=backend))
    # Else it asks the network for prices when it starts.
    return [
        "env",
        "LITELLM_LOCAL_MODEL_COST_MAP=True",
        "litellm",
        "--config",
        str(here / "litellm.yaml"),
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]


def _mvllm(here: Path, port: int, backend: int) -> list[str]:
    (here / "servers.toml").write_text(_MVLLM.format(backend=backend))
    return ["mvllm", "run", "--host", "127.0.0.1", "--port", str(port), "--config", str(here / "servers.toml")]


class NotUp(Exception):
    """It ended, or never listened; the text says what it said itself."""


@contextmanager
def running(command: list[str], port: int, *, cpu: str | None, log: Path) -> Iterator[int]:
    """Its process id, once it listens. Raises NotUp."""
    pinned = ["taskset", "-c", cpu] if cpu else []
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*pinned, *command], stdout=out, stderr=out, stdin=subprocess.DEVNULL,
            cwd=log.parent, env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )  # fmt: skip  # some leave files where they are begun
        try:
            deadline = time.monotonic() + _UP_WITHIN_S
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise NotUp(log.read_text(errors="replace").strip()[-500:] or "it said nothing")
                time.sleep(0.05)
            yield process.pid
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def cpu_s(pid: int) -> float:
    """Of a process and all below it, to the nanosecond."""
    total = 0
    for one in _tree(pid):
        for task in Path(f"/proc/{one}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total += int(task.read_text().split()[0])
    return total / 1e9


def memory_mib(pid: int) -> float:
    """Of a process and all below it; what they share is counted once."""
    total = 0
    for one in _tree(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
            total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def _tree(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(stat.parent.name))
    found, left = [], [pid]
    while left:
        one = left.pop()
        found.append(one)
        left += children.get(one, [])
    return found


def settle() -> None:
    time.sleep(0.2)
