"""Engines that answer over a network, as real processes: their keys, and what a lost machine does to them."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx

from tests.lan import lan_address
from tests.waiting import async_wait_until
from vllama.controller.controller import Controller
from vllama.domain.observed import NodeState
from vllama.domain.status import Phase
from vllama.domain.units import GIB
from vllama.engine.client import EngineClient
from vllama.runtime.base import Reading
from vllama.runtime.local.runtime import LocalRuntime
from vllama.runtime.simulated.devices import SimulatedDeviceSource
from vllama.runtime.simulated.launcher import SimulatorLauncher

MODEL = "org/a"
QUICK = {"VLLAMA_SIM_LOAD_S": "0", "PATH": os.environ["PATH"]}


class OneNode(LocalRuntime):
    """It can be lost, and then says for how long, each time anew."""

    state, reads = NodeState.READY, 0

    async def read(self) -> Reading:
        reading, self.reads = await super().read(), self.reads + 1
        if self.state is NodeState.READY:
            return reading
        said = f"silent for {self.reads}s"
        nodes = tuple(replace(each, state=self.state, said=said) for each in reading.nodes)
        return replace(reading, nodes=nodes, troubles=tuple(f"{each.name}: {each.said}" for each in nodes))


class House:
    def __init__(self, controller: Controller, runtime: OneNode, http: httpx.AsyncClient) -> None:
        self.controller, self.runtime, self.http = controller, runtime, http

    async def until(self, condition: Callable[[], object], what: str) -> None:
        async def asked() -> object:
            return condition()

        await async_wait_until(asked, what=what)

    @property
    def is_open(self) -> bool:
        return self.controller.board.is_open(MODEL)

    @property
    def phase(self) -> Phase:
        [status] = self.controller.statuses()
        return status.phase

    def reasons(self) -> list[str]:
        """Of what happened to machines."""
        return [event.reason for event in self.controller.events if event.model is None]


@asynccontextmanager
async def house(directory: Path) -> AsyncIterator[House]:
    """`org/a` is ready."""
    (directory / "models.yaml").write_text(
        f"policy: {{only_declared: true, probe_interval: 200ms}}\nmodels: {{{MODEL}: {{memory: 2GiB}}}}\n"
    )
    simulated = directory / "simulated"
    runtime = OneNode(
        owner=f"far-{os.getpid()}", logs=directory / "logs", ports=range(42600, 42650), host=lan_address(), node="b",
        devices=SimulatedDeviceSource(node="b", directory=simulated, totals=(8 * GIB,)),
        launcher=SimulatorLauncher(directory=simulated, parent_env=QUICK),
    )  # fmt: skip
    async with httpx.AsyncClient(trust_env=False) as http:
        controller = Controller(
            runtime=runtime, client=EngineClient(http), manifest=directory / "models.yaml", environ={},
            clock=time.monotonic, simulated=True,
        )  # fmt: skip
        await controller.start_up()
        running = asyncio.create_task(controller.run())
        here = House(controller, runtime, http)
        try:
            controller.start(MODEL)
            await here.until(lambda: here.is_open, "it to be ready")
            yield here
        finally:
            for engine in await runtime.engines():
                os.killpg(engine.pid, signal.SIGCONT)
            hurry = asyncio.Event()
            hurry.set()
            await controller.shut_down(hurry=hurry)
            running.cancel()
            await asyncio.wait({running})
            await runtime.close()


def test_requests_go_to_its_address_with_its_own_key_and_nobody_else_is_served(tmp_path):
    async def run():
        async with house(tmp_path) as here:
            grant = here.controller.board.admit(MODEL)
            endpoint = grant.endpoint
            assert (endpoint.host, endpoint.far) == (lan_address(), True)
            url = f"http://{endpoint.host}:{endpoint.port}/v1/models"
            assert (await here.http.get(url)).status_code == 401
            shown = {"authorization": f"Bearer {endpoint.api_key}"}
            assert (await here.http.get(url, headers=shown)).status_code == 200
            grant.release()
            [engine] = await here.runtime.engines()
            os.killpg(engine.pid, signal.SIGKILL)
            await here.until(lambda: not here.is_open, "its end to be seen")
            here.controller.start(MODEL)
            await here.until(lambda: here.is_open, "the next one")
            following = here.controller.board.admit(MODEL)
            assert following.endpoint.api_key not in {endpoint.api_key, None}
            following.release()

    asyncio.run(run())


def test_a_lost_machine_takes_no_requests_and_when_it_is_back_its_engine_is_the_same(tmp_path):
    async def run():
        async with house(tmp_path) as here:
            engine_id = here.controller.board.engine_of(MODEL)
            here.runtime.state = NodeState.LOST
            await here.until(lambda: not here.is_open, "it to be out")
            assert here.phase is Phase.LOST
            [node] = here.controller.nodes()
            assert (node.state, node.said[:11], [each.phase for each in node.engines]) == (
                NodeState.LOST, "silent for ", [Phase.LOST],
            )  # fmt: skip
            [wrong] = [each for each in here.controller.conditions() if not each.ok]
            assert (wrong.type, wrong.message[:14]) == ("DevicesSound", "b: silent for ")
            looks = here.runtime.reads
            await here.until(lambda: here.runtime.reads > looks, "another look")
            here.runtime.state = NodeState.READY
            await here.until(lambda: here.is_open, "it to be back")
            assert here.controller.board.engine_of(MODEL) == engine_id
            assert here.reasons() == ["NodeLost", "NodeReady"]

    asyncio.run(run())


def test_an_engine_that_is_silent_takes_none_until_it_answers(tmp_path):
    async def run():
        async with house(tmp_path) as here:
            [engine] = await here.runtime.engines()
            os.killpg(engine.pid, signal.SIGSTOP)
            await here.until(lambda: not here.is_open, "it to be out")
            assert here.phase is Phase.UNKNOWN
            os.killpg(engine.pid, signal.SIGCONT)
            await here.until(lambda: here.is_open, "it to be back")
            assert here.controller.board.engine_of(MODEL) == engine.engine_id

    asyncio.run(run())


def test_what_the_gateway_cannot_reach_is_out_at_once_and_back_when_it_is_proven(tmp_path):
    async def run():
        async with house(tmp_path) as here:
            grant = here.controller.board.admit(MODEL)
            here.controller.board.unreachable(grant, "No route to host")
            assert not here.is_open
            grant.release()
            assert here.phase is Phase.UNKNOWN
            await here.until(lambda: here.is_open, "it to be back")

    asyncio.run(run())
