"""When a load makes progress. Time is virtual; the engine is a log, a port where nobody listens, and what it moves."""

import asyncio
from pathlib import Path

import httpx

from tests.simulation.virtual import VirtualLoop
from vllama.controller.probe import MOVED_BYTES, Probe
from vllama.domain.observed import Loading
from vllama.engine.client import EngineClient
from vllama.runtime.base import EngineProcess, RuntimeFailed

SAYS = "(EngineCore pid=8) INFO 11-21 12:00:00 [core_client.py:600] "
WAITS = f"{SAYS}Waiting for 1 local, 0 remote core engine proc(s) to start.\n"
STUCK = f"{SAYS}No available shared memory broadcast block found in 60 seconds.\n"
LOADS = f"{SAYS}Starting to load model org/A...\n"


class Moving:
    """A runtime, as far as a probe of an engine that loads asks one."""

    moved = 0
    fails = False

    async def moved_bytes(self, _engine_id: str) -> int:
        if self.fails:
            raise RuntimeFailed("nobody can see")
        return self.moved


def progress(log: Path, happens, *, seconds: float = 60.0) -> float:
    """How many seconds ago the last progress was, when `happens(runtime)` is called in every second of so many."""
    loop, runtime = VirtualLoop(), Moving()

    async def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("connection refused", request=request)

    async def live() -> float:
        async with httpx.AsyncClient(transport=httpx.MockTransport(refuse)) as http:
            engine = EngineProcess(
                engine_id="e", model="org/A", spec_hash="h", node="n", devices=(0,), memory_bytes=1, pid=1, port=9,
                started_at=0.0, log=log,
            )  # fmt: skip
            probe = Probe(
                engine=engine, runtime=runtime, client=EngineClient(http), clock=loop.time, bell=lambda: None
            )  # fmt: skip
            probing, end = asyncio.create_task(probe.run()), loop.time() + seconds
            while loop.time() < end:
                happens(runtime)
                await asyncio.sleep(1.0)
            probing.cancel()
            await asyncio.wait({probing})
            assert isinstance(probe.state, Loading)
            return loop.time() - probe.state.progress_at

    try:
        return loop.run_until_complete(live())
    finally:
        loop.drain()


def say(log: Path, line: str) -> None:
    with log.open("a") as file:
        file.write(line)


def test_a_log_that_grows_is_progress(tmp_path):
    log = tmp_path / "log"
    assert progress(log, lambda _: say(log, LOADS)) < 3.0


def test_a_log_that_only_tells_of_waiting_is_none(tmp_path):
    log = tmp_path / "log"
    assert progress(log, lambda _: say(log, WAITS + STUCK)) >= 59.0
    assert progress(log, lambda _: say(log, WAITS + LOADS)) < 3.0


def test_bytes_that_move_are_progress_where_the_log_is_silent(tmp_path):
    def arrives(runtime: Moving) -> None:
        runtime.moved += MOVED_BYTES

    assert progress(tmp_path / "log", arrives) < 8.0


def test_a_few_bytes_are_none(tmp_path):
    def whispers(runtime: Moving) -> None:
        runtime.moved += 1000

    assert progress(tmp_path / "log", whispers) >= 59.0
    assert progress(tmp_path / "log", lambda _: None) >= 59.0


def test_what_cannot_be_seen_is_no_progress_and_no_fault(tmp_path):
    def fails(runtime: Moving) -> None:
        runtime.fails = True

    assert progress(tmp_path / "log", fails) >= 59.0
