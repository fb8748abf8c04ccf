import asyncio
import json
import socket
from collections.abc import Awaitable, Callable

import httpx
import pytest

from tests.engine.scripted import Answer, ScriptedServer, ok, scripted
from vllama.domain.spec import SleepLevel
from vllama.engine.address import Address
from vllama.engine.client import (
    EngineClient,
    EngineRefused,
    EngineUnanswered,
    Healthy,
    Refused,
    Unanswered,
    Unhealthy,
)
from vllama.engine.metrics import NoLevel

SLEEPING, AWAKE = ok({"is_sleeping": True}), ok({"is_sleeping": False})
EMPTY = (200, b"")
T = 10.0


def talk(
    answers: dict[str, Answer | list[Answer]],
    call: Callable[[EngineClient, Address], Awaitable[object]],
) -> tuple[object, ScriptedServer]:
    """The call's result, or the exception it raised, and the server it talked to."""

    async def run() -> tuple[object, ScriptedServer]:
        async with scripted(answers) as server, httpx.AsyncClient(trust_env=False) as http:
            try:
                return await call(EngineClient(http), Address(base_url=server.base_url)), server
            except (EngineRefused, EngineUnanswered) as error:
                return error, server

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("answer", "health"),
    [(EMPTY, Healthy()), ((503, b""), Unhealthy(status=503)), ((404, b"{}"), Unhealthy(status=404))],
)
def test_health_is_what_the_status_says(answer: Answer, health: object) -> None:
    assert talk({"GET /health": answer}, lambda c, at: c.health(at, timeout_s=T))[0] == health


def test_nobody_listening_is_refused_even_where_the_port_is_bound() -> None:
    # vLLM binds its port long before it listens.
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"

        async def run() -> object:
            async with httpx.AsyncClient(trust_env=False) as http:
                return await EngineClient(http).health(Address(base_url=url), timeout_s=T)

        assert asyncio.run(run()) == Refused()


def test_a_frozen_engine_is_unanswered() -> None:
    health, _ = talk({"GET /health": (0, b"")}, lambda c, at: c.health(at, timeout_s=0.05))
    assert health == Unanswered(error="no answer in time")


def test_a_connection_cut_before_the_answer_is_unanswered() -> None:
    async def run() -> object:
        async def cut(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.close()

        server = await asyncio.start_server(cut, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, httpx.AsyncClient(trust_env=False) as http:
            return await EngineClient(http).health(Address(base_url=url), timeout_s=T)

    health = asyncio.run(run())
    assert isinstance(health, Unanswered)
    assert health.error


def test_served_models_are_all_ids() -> None:
    data = [{"id": "org/base", "root": "x"}, {"id": "adapter", "parent": "org/base"}]
    names, _ = talk({"GET /v1/models": ok({"data": data})}, lambda c, at: c.served_models(at, timeout_s=T))
    assert names == ("org/base", "adapter")


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff\xfe", b'{"data": 3}'])
def test_an_answer_of_another_shape_is_an_error(body: bytes) -> None:
    error, _ = talk({"GET /v1/models": (200, body)}, lambda c, at: c.served_models(at, timeout_s=T))
    assert isinstance(error, EngineRefused)


@pytest.mark.parametrize(("body", "sleeping"), [(SLEEPING, True), (AWAKE, False)])
def test_is_sleeping(body: Answer, sleeping: bool) -> None:
    assert talk({"GET /is_sleeping": body}, lambda c, at: c.is_sleeping(at, timeout_s=T))[0] is sleeping


def test_without_dev_mode_there_is_no_is_sleeping() -> None:
    error, _ = talk({}, lambda c, at: c.is_sleeping(at, timeout_s=T))
    assert isinstance(error, EngineRefused)
    assert (error.step, error.status, error.text) == ("GET /is_sleeping", 404, "Not Found")


def test_sleep_level_is_read_from_the_metrics() -> None:
    line = b'vllm:engine_sleep_state{engine="0",model_name="m",sleep_state="discard_all"} 1.0\n'
    assert talk({"GET /metrics": (200, line)}, lambda c, at: c.sleep_level(at, timeout_s=T))[0] == 2
    assert talk({"GET /metrics": EMPTY}, lambda c, at: c.sleep_level(at, timeout_s=T))[0] is NoLevel.UNTOLD


def _sleep(client: EngineClient, at: Address) -> Awaitable[None]:
    return client.sleep(at, SleepLevel.WEIGHTS_OFFLOADED, "wait", timeout_s=T)


def test_sleep_says_level_and_mode() -> None:
    result, server = talk({"POST /sleep?level=1&mode=wait": ok({"status": "sleeping", "level": 1})}, _sleep)
    assert result is None
    assert server.asked == ["POST /sleep?level=1&mode=wait"]


def test_sleep_of_an_older_vllm_is_believed_only_by_is_sleeping() -> None:
    answers: dict[str, Answer | list[Answer]] = {"POST /sleep?level=1&mode=wait": EMPTY, "GET /is_sleeping": SLEEPING}
    result, server = talk(answers, _sleep)
    assert result is None
    assert server.asked[-1] == "GET /is_sleeping"
    error, _ = talk(answers | {"GET /is_sleeping": AWAKE}, _sleep)
    assert isinstance(error, EngineRefused)
    assert "awake" in str(error)


def test_a_refused_sleep_tells_what_vllm_said() -> None:
    said = {"error": {"message": "1 validation error:\n  level", "type": "Bad Request", "code": 400}}
    error, _ = talk({"POST /sleep?level=1&mode=wait": (400, json.dumps(said).encode())}, _sleep)
    assert isinstance(error, EngineRefused)
    assert str(error) == "the engine answered POST /sleep?level=1&mode=wait with 400: 1 validation error: level"


def _wake(level: SleepLevel, timeout_s: float = T) -> Callable[[EngineClient, Address], Awaitable[None]]:
    return lambda client, at: client.wake(at, level, timeout_s=timeout_s)


def test_wake_from_level_1_is_one_step() -> None:
    result, server = talk({"POST /wake_up": ok({"status": "awake", "tags": None})}, _wake(SleepLevel(1)))
    assert result is None
    assert server.asked == ["POST /wake_up"]


def test_a_200_that_still_sleeps_is_no_wake() -> None:
    error, _ = talk({"POST /wake_up": ok({"status": "sleeping"})}, _wake(SleepLevel(1)))
    assert isinstance(error, EngineRefused)


LEVEL_2: dict[str, Answer | list[Answer]] = {
    "POST /wake_up?tags=weights": ok({"status": "sleeping", "tags": ["weights"]}),
    "POST /collective_rpc": ok({"results": [None]}),
    "POST /wake_up?tags=kv_cache": ok({"status": "awake", "tags": ["kv_cache"]}),
    "POST /reset_prefix_cache": ok({"success": True}),
}


def test_wake_from_level_2_loads_the_weights_before_the_kv_cache() -> None:
    result, server = talk(LEVEL_2, _wake(SleepLevel(2)))
    assert result is None
    assert server.asked == list(LEVEL_2)
    assert json.loads(server.bodies[1]) == {"method": "reload_weights"}


def test_wake_from_level_2_of_an_older_vllm() -> None:
    older = LEVEL_2 | {
        "POST /wake_up?tags=weights": EMPTY,
        "POST /wake_up?tags=kv_cache": EMPTY,
        "POST /reset_prefix_cache": EMPTY,
        "GET /is_sleeping": [SLEEPING, AWAKE],
    }
    assert talk(older, _wake(SleepLevel(2)))[0] is None


@pytest.mark.parametrize(
    ("step", "answer"),
    [
        ("POST /wake_up?tags=weights", (500, b"EngineCore encountered an issue")),
        ("POST /wake_up?tags=weights", ok({"status": "what"})),
        ("POST /collective_rpc", (500, b'{"detail": "Worker failed with error: no such file"}')),
        ("POST /collective_rpc", EMPTY),
        ("POST /wake_up?tags=kv_cache", ok({"status": "sleeping", "tags": ["kv_cache"]})),
        ("POST /reset_prefix_cache", ok({"success": False})),
    ],
)
def test_a_step_of_a_level_2_wake_that_fails_ends_it(step: str, answer: Answer) -> None:
    error, server = talk(LEVEL_2 | {step: answer}, _wake(SleepLevel(2)))
    assert isinstance(error, EngineRefused)
    assert error.step.startswith(step)
    assert server.asked[-1] == step


def test_the_deadline_is_of_the_whole_wake() -> None:
    error, server = talk(LEVEL_2 | {"POST /collective_rpc": (0, b"")}, _wake(SleepLevel(2), timeout_s=0.2))
    assert isinstance(error, EngineUnanswered)
    assert str(error) == "the engine did not answer POST /collective_rpc: no answer in time"
    assert server.asked[-1] == "POST /collective_rpc"


def test_level_3_is_not_woken() -> None:
    with pytest.raises(ValueError, match="started"):
        talk({}, _wake(SleepLevel.STOP))


HELD = {"GET /health": EMPTY, "GET /v1/models": ok({"data": []}), "GET /metrics": EMPTY}
CONTROLS = LEVEL_2 | {
    "POST /sleep?level=1&mode=wait": ok({"status": "sleeping"}),
    "GET /is_sleeping": SLEEPING,
}


def test_what_its_manager_alone_may_ask_goes_to_the_control_url_and_all_of_it_shows_the_key() -> None:
    async def run() -> tuple[ScriptedServer, ScriptedServer]:
        async with scripted(HELD) as front, scripted(CONTROLS) as control, httpx.AsyncClient(trust_env=False) as http:
            client = EngineClient(http)
            at = Address(base_url=front.base_url, control_url=control.base_url, key="k1")
            await client.health(at, timeout_s=T)
            await client.served_models(at, timeout_s=T)
            await client.metrics(at, timeout_s=T)
            await client.sleep(at, SleepLevel(1), "wait", timeout_s=T)
            await client.is_sleeping(at, timeout_s=T)
            await client.wake(at, SleepLevel(2), timeout_s=T)
            return front, control

    front, control = asyncio.run(run())
    assert set(front.asked) == set(HELD)
    assert set(control.asked) == set(CONTROLS)
    assert {*front.shown, *control.shown} == {"Bearer k1"}


def test_an_engine_without_a_key_is_shown_none() -> None:
    assert talk({"GET /health": EMPTY}, lambda c, at: c.health(at, timeout_s=T))[1].shown == [None]


def test_a_key_is_in_no_text_of_its_address() -> None:
    assert "s3cret" not in repr(Address(base_url="http://10.0.0.2:1", key="s3cret"))
