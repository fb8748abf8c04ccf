"""When a load makes progress. Time is virtual; the engine is a log, a port where nobody listens, and what it moves."""

import asyncio
import errno
from pathlib import Path

import httpx
import pytest

from tests.simulation.virtual import VirtualLoop
from vllama.controller.probe import MOVED_BYTES, Probe
from vllama.domain.observed import Awake, Broken, Loading, Unknown
from vllama.engine.client import EngineClient
from vllama.engine.logs import LogMark, LogPart, read_part
from vllama.runtime.base import EngineProcess, LogFile, RuntimeFailed

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

    async def read_log(self, log: LogFile, after: LogMark) -> LogPart:
        return read_part(log.path, after)


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


class Network:
    """What answers an engine's URLs: `well` with 200, `silent` never, `refusing` nobody, or a status."""

    def __init__(self) -> None:
        self.fate: str | int = "well"
        self.looks: list[float] = []

    async def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/health":
            self.looks.append(asyncio.get_running_loop().time())
        match self.fate:
            case "silent":
                await asyncio.sleep(1e6)
            case "refusing":
                raise httpx.ConnectError("refused", request=request) from ConnectionRefusedError(errno.ECONNREFUSED, "")
            case int(status):
                return httpx.Response(status)
        bodies = {
            "/v1/models": '{"data": [{"id": "org/A"}]}',
            "/is_sleeping": '{"is_sleeping": false}',
            "/metrics": 'vllm:engine_sleep_state{sleep_state="awake"} 1.0\n',
        }
        return httpx.Response(200, text=bodies.get(request.url.path, ""))

    async def listening(self, _engine_id: str) -> bool:
        return True

    async def moved_bytes(self, _engine_id: str) -> int:
        return 0

    async def read_log(self, log: LogFile, after: LogMark) -> LogPart:
        return read_part(log.path, after)


def watched(play, *, host: str = "10.0.0.2", every_s: float = 2.0):
    """What `play(network, probe)` gives, which begins when the engine at `host` is awake."""
    loop, network = VirtualLoop(), Network()

    async def live():
        async with httpx.AsyncClient(transport=httpx.MockTransport(network.answer)) as http:
            engine = EngineProcess(
                engine_id="e", model="org/A", spec_hash="h", node="n", devices=(0,), memory_bytes=1, pid=1, port=9,
                started_at=0.0, log=Path("/nowhere"), host=host, key="k",
            )  # fmt: skip
            probe = Probe(
                engine=engine, runtime=network, client=EngineClient(http), clock=loop.time, bell=lambda: None,
                far_every_s=lambda: every_s,
            )  # fmt: skip
            probing = asyncio.create_task(probe.run())
            await becomes(probe, Awake)
            network.looks.clear()
            result = await play(network, probe)
            probing.cancel()
            await asyncio.wait({probing})
            return result

    try:
        return loop.run_until_complete(live())
    finally:
        loop.drain()


async def becomes(probe: Probe, kind: type, *, within_s: float = 100.0) -> float:
    """After how many seconds."""
    began = asyncio.get_running_loop().time()
    while not isinstance(probe.state, kind):
        await asyncio.sleep(0.01)
        assert asyncio.get_running_loop().time() < began + within_s, probe.state
    return asyncio.get_running_loop().time() - began


@pytest.mark.parametrize(
    ("host", "every_s", "looks"), [("10.0.0.2", 2.0, 30), ("10.0.0.2", 5.0, 12), ("127.0.0.1", 2.0, 2)]
)
def test_one_on_another_machine_is_asked_more_often(host, every_s, looks):
    async def play(network, _probe):
        await asyncio.sleep(61.0)
        return len(network.looks)

    assert watched(play, host=host, every_s=every_s) == looks


@pytest.mark.parametrize(("fate", "within_s"), [("refusing", 2.1), ("silent", 6.7)])
def test_one_that_does_not_answer_is_out_within_seconds_and_back_when_it_does(fate, within_s):
    async def play(network, probe):
        network.fate = fate
        assert await becomes(probe, Unknown) <= within_s
        await asyncio.sleep(20.0)
        assert isinstance(probe.state, Unknown)
        network.fate = "well"
        return await becomes(probe, Awake)

    assert watched(play) <= 2.6


def test_one_question_without_an_answer_is_no_silence():
    async def play(network, probe):
        network.fate = "silent"
        await asyncio.sleep(2.5)
        network.fate = "well"
        await asyncio.sleep(10.0)
        return probe.state

    assert isinstance(watched(play), Awake)


def test_what_the_gateway_could_not_reach_is_out_at_once_and_proven_anew():
    async def play(network, probe):
        network.fate = "refusing"
        probe.unreachable("No route to host")
        assert probe.state == Unknown(since=asyncio.get_running_loop().time(), error="No route to host")
        await asyncio.sleep(5.0)
        network.fate = "well"
        return await becomes(probe, Awake)

    assert watched(play) <= 0.6


def test_while_something_is_done_to_it_nobodys_word_is_taken():
    async def play(_network, probe):
        probe.paused = True
        probe.unreachable("No route to host")
        return probe.state

    assert isinstance(watched(play), Awake)


@pytest.mark.parametrize(("host", "looks"), [("10.0.0.2", 1), ("127.0.0.1", 0)])
def test_what_the_gateway_doubts_is_looked_at_now(host, looks):
    async def play(network, probe):
        await asyncio.sleep(0.5)
        probe.doubt()
        await asyncio.sleep(0.5)
        assert isinstance(probe.state, Awake)
        return len(network.looks)

    assert watched(play, host=host) == looks


def test_the_silence_of_its_node_is_not_its_own():
    async def play(network, probe):
        network.fate = "refusing"
        await becomes(probe, Unknown)
        await asyncio.sleep(100.0)
        probe.is_heard_again()
        return asyncio.get_running_loop().time() - probe.state.since

    assert watched(play) == 0.0


def test_who_does_not_take_its_key_is_not_it():
    async def play(network, probe):
        network.fate = 401
        await becomes(probe, Broken)
        return probe.state.cause

    assert watched(play) == "Its /health answers 401: it does not take its key."
