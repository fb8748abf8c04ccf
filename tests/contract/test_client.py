"""vllama's own EngineClient against both kinds of engine."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx
import pytest

from tests.simulator.engines import Engine, free_port
from vllama.domain.spec import SleepLevel
from vllama.engine.address import Address
from vllama.engine.canary import agree
from vllama.engine.client import EngineClient, EngineUnanswered, Healthy, Refused
from vllama.engine.metrics import NoLevel

T = TypeVar("T")
LEVELS = [SleepLevel.WEIGHTS_OFFLOADED, SleepLevel.DISCARDED]
MODES = ["abort", "wait", "keep"]


def ask(engine: Engine, call: Callable[[EngineClient, Address], Awaitable[T]]) -> T:
    async def within_a_client() -> T:
        async with httpx.AsyncClient(trust_env=False) as http:
            return await call(EngineClient(http), Address(base_url=f"http://127.0.0.1:{engine.port}"))

    return asyncio.run(within_a_client())


async def state(client: EngineClient, at: Address) -> tuple[bool, object]:
    return await client.is_sleeping(at, timeout_s=30), await client.sleep_level(at, timeout_s=30)


def test_health(chat):
    assert ask(chat, lambda client, at: client.health(at, timeout_s=30)) == Healthy()
    nobody = Address(base_url=f"http://127.0.0.1:{free_port()}")
    assert ask(chat, lambda client, _: client.health(nobody, timeout_s=30)) == Refused()


def test_served_models(chat):
    served = ask(chat, lambda client, at: client.served_models(at, timeout_s=30))
    assert served == ("chat", "alias", "adapter")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("level", LEVELS)
def test_sleep_and_wake(awake, level, mode):
    async def turn(client: EngineClient, at: Address) -> list[tuple[bool, object]]:
        states = [await state(client, at)]
        await client.sleep(at, level, mode, timeout_s=30)
        states.append(await state(client, at))
        await client.wake(at, level, timeout_s=30)
        return [*states, await state(client, at)]

    before = awake.text(max_tokens=8, temperature=0)
    assert ask(awake, turn) == [(False, None), (True, level), (False, None)]
    assert awake.text(max_tokens=8, temperature=0) == before


def test_waking_twice_is_no_error(awake):
    async def turn(client: EngineClient, at: Address) -> tuple[bool, object]:
        for level in LEVELS:
            await client.wake(at, level, timeout_s=30)
        return await state(client, at)

    assert ask(awake, turn) == (False, None)


def test_a_paused_engine_sleeps_at_no_level(awake):
    awake.http.post("/sleep?level=0")
    assert ask(awake, state) == (True, NoLevel.PAUSED)


def test_a_wake_that_stays_asleep_is_refused(awake):
    """Half awake already: the three steps end well all the same."""
    awake.http.post("/sleep?level=2")
    awake.http.post("/wake_up?tags=kv_cache")
    ask(awake, lambda client, at: client.wake(at, SleepLevel.DISCARDED, timeout_s=30))
    assert ask(awake, state) == (False, None)


def test_a_call_that_takes_too_long(awake):
    async def turn(client: EngineClient, at: Address) -> None:
        await client.is_sleeping(at, timeout_s=0)

    with pytest.raises(EngineUnanswered, match="GET /is_sleeping: no answer in time"):
        ask(awake, turn)


@pytest.mark.parametrize("level", LEVELS)
def test_the_canary_sings_the_same_after_a_sleep(awake, level):
    async def turn(client: EngineClient, at: Address) -> list[object]:
        before = await client.canary(at, "chat", ("generate",), timeout_s=60)
        await client.sleep(at, level, "wait", timeout_s=30)
        await client.wake(at, level, timeout_s=60)
        return [before, await client.canary(at, "chat", ("generate",), timeout_s=60)]

    before, after = ask(awake, turn)
    assert before.text
    assert agree(before, after)


def test_the_canary_of_models_that_do_not_generate(embedder, reranker):
    numbers = ask(embedder, lambda client, at: client.canary(at, "embed", ("embed",), timeout_s=60)).numbers
    assert len(numbers) > 8
    scores = ask(reranker, lambda client, at: client.canary(at, "rerank", ("classify",), timeout_s=60)).numbers
    assert len(scores) == 1
