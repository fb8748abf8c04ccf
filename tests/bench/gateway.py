"""CPU of the gateway per request and per streamed event, beside nginx and whoever else is installed.

python -m tests.bench.gateway [--rounds N] [--seconds S] [--only nginx,vllama]

All stand before the same backend and take turns, so that other work on the machine hits all alike; each figure is the
median over the rounds. Who is measured has a processor of its own where there are two, and the rest shares the other.
nginx and wrk are Debian packages; without wrk a loop in Python asks, and without nginx there are no ratios.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.leaving import leaving_ms
from tests.bench.load import WentWrong, answers, events
from tests.bench.proxies import NotUp, Proxy, all_of_them, cpu_s, free_port, memory_mib, running, settle

PATH = "/v1/chat/completions"
WARM_S = 5
BODIES = {"small": 2_000, "big": 200_000, "stream": 2_000}


@dataclass(frozen=True, kw_only=True)
class Load:
    """`make(url)` puts it on, and returns how many of `unit` were answered. `light`: no proxy is too slow for it."""

    name: str
    unit: str
    make: Callable[[str], int]
    light: bool = False


@dataclass(kw_only=True)
class Found:
    """Of one proxy. `us` by load, one for each round."""

    url: str
    pid: int
    slow: bool
    us: dict[str, list[float]] = field(default_factory=dict)
    memory_mib: list[float] = field(default_factory=list)
    leaving_ms: list[float | None] = field(default_factory=list)

    def microseconds(self, load: str) -> float | None:
        return statistics.median(self.us[load]) if load in self.us else None


def body(size: int, *, stream: bool = False) -> str:
    """A chat of about `size` bytes whose model stands behind the messages, as the usual clients write it."""
    words = "All the world's a stage, and all the men and women merely players. "
    said = [{"role": "user", "content": (words * (size // len(words) // 4 + 1))[: max(size // 4 - 60, 20)]}] * 4
    text = json.dumps({"messages": said, "model": "bench", "temperature": 0.7})
    return text[:-1] + ', "stream": true}' if stream else text


def loads(here: Path, seconds: float, cpu: str | None) -> list[Load]:
    def requests(connections: int, name: str) -> Callable[[str], int]:
        return lambda url: answers(url, connections, seconds, here / name, cpu=cpu)

    def streams(count: int) -> Callable[[str], int]:
        return lambda url: events(url, count, here / "stream", cpu=cpu)

    return [
        Load(name="2 KB, 1 connection", unit="request", make=requests(1, "small"), light=True),
        Load(name="2 KB, 64 connections", unit="request", make=requests(64, "small")),
        Load(name="200 KB, 16 connections", unit="request", make=requests(16, "big")),
        Load(name="64 streams", unit="event", make=streams(64), light=True),
        Load(name="256 streams", unit="event", make=streams(256)),
    ]


def measure(one: Found, load: Load) -> None:
    """Adds microseconds of CPU for each that was answered."""
    settle()
    before = cpu_s(one.pid)
    count = load.make(one.url)
    one.us.setdefault(load.name, []).append((cpu_s(one.pid) - before) / count * 1e6)


def table(found: dict[str, Found], todo: Sequence[Load]) -> str:
    lines = []
    for load in todo:
        base = found["nginx"].microseconds(load.name) if "nginx" in found else None
        lines.append(f"{load.name} (us of CPU per {load.unit})")
        for name, one in found.items():
            value = one.microseconds(load.name)
            if value is not None:
                lines.append(f"  {name:22}{value:10.1f}" + (f"  {value / base:6.2f} x nginx" if base else ""))
    lines.append(
        "memory before and after all that (MiB); ms until the engine sees a client leave, amid a stream, in prefill"
    )
    for name, one in found.items():
        left = "  ".join("never" if ms is None else f"{ms:.1f}" for ms in one.leaving_ms)
        lines.append(f"  {name:22}{one.memory_mib[0]:8.1f}{one.memory_mib[1]:8.1f}    {left}")
    return "\n".join(lines)


def begun(proxies: Sequence[Proxy], here: Path, backend: int, cpu: str | None, stack: ExitStack) -> dict[str, Found]:
    """Those that came up."""
    up = {}
    for proxy in proxies:
        if proxy.command is None:
            print(f"LEFT OUT: {proxy.name} is not installed.")
            continue
        port = free_port()
        try:
            command = proxy.command(here, port, backend)
            pid = stack.enter_context(running(command, port, cpu=cpu, log=here / f"{proxy.name}.log"))
        except NotUp as error:
            print(f"LEFT OUT: {proxy.name} did not come up: {error}")
            continue
        up[proxy.name] = Found(url=f"http://127.0.0.1:{port}{PATH}", pid=pid, slow=proxy.slow)
    return up


def bench(proxies: Sequence[Proxy], *, rounds: int, seconds: float) -> None:
    alone, rest = ("0", "1") if (os.cpu_count() or 1) > 1 and shutil.which("taskset") else (None, None)
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        here = Path(directory)
        for name, size in BODIES.items():
            (here / name).write_text(body(size, stream=name == "stream"))
        backend = free_port()
        command = [sys.executable, "-m", "tests.bench.backend", str(backend)]
        stack.enter_context(running(command, backend, cpu=rest, log=here / "backend.log"))
        found = begun(proxies, here, backend, alone, stack)
        todo = loads(here, seconds, rest)
        for name, one in list(found.items()):
            try:
                answers(one.url, 1, WARM_S, here / "small", cpu=rest)
            except (WentWrong, subprocess.SubprocessError) as error:
                print(f"LEFT OUT: {name} does not answer as it should: {error}")
                del found[name]
                continue
            one.memory_mib.append(memory_mib(one.pid))
        for _ in range(rounds):
            for load in todo:
                for name, one in found.items():
                    if one.slow and not load.light:
                        continue
                    try:
                        measure(one, load)
                    except (WentWrong, subprocess.SubprocessError) as error:
                        print(f"NO FIGURE: {name}, {load.name}: {error}")
        for one in found.values():
            one.memory_mib.append(memory_mib(one.pid))
            one.leaving_ms += [
                leaving_ms(one.url, backend, here / "stream", prefill=prefill) for prefill in (False, True)
            ]
        print(table(found, todo))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--only", default="", help="names, with commas between")
    options = parser.parse_args()
    wanted = {name for name in options.only.split(",") if name}
    if not shutil.which("wrk"):
        print(
            "LEFT OUT: wrk is not installed; a loop in Python asks in its place, and is slower than what it measures."
        )
    proxies = [proxy for proxy in all_of_them() if not wanted or proxy.name in wanted]
    bench(proxies, rounds=options.rounds, seconds=options.seconds)


if __name__ == "__main__":
    main()
