"""What servers say when they are asked, and when they are asked."""

import asyncio
import json
import ssl
import time
from contextlib import asynccontextmanager

import httpx
import pytest

from tests.gateway.upstream import upstream
from tests.waiting import async_wait_until
from vllama.controller.events import Events
from vllama.controller.manifest.servers import BalanceSpec, ServerSpec
from vllama.controller.servers.fleet import Fleet
from vllama.controller.servers.keeper import Keeper

METRICS = b'vllm:num_requests_running{engine="0"} 2\nvllm:num_requests_waiting{engine="0"} 1\n'
OFTEN = BalanceSpec(health_check_interval_s=0.02, health_check_timeout_s=5.0)
SELDOM = BalanceSpec(health_check_interval_s=600.0)
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


class Said:
    """What one server answers, by path: (status, body)."""

    def __init__(self, *models):
        self.answers = {"/health": (200, b""), "/metrics": (200, METRICS)}
        self.asked = []
        self.has(*models)

    def has(self, *models):
        body = {"object": "list", "data": [{"id": model} for model in models]}
        self.answers["/v1/models"] = (200, json.dumps(body).encode())

    async def __call__(self, exchange):
        path = exchange.line.split()[1]
        self.asked.append((path, exchange.header("authorization")))
        status, body = self.answers.get(path, (404, b"{}"))
        exchange.answer(body, status=status)


async def until(condition, what="it"):
    async def asked():
        return condition()

    return await async_wait_until(asked, what=what)


@asynccontextmanager
async def kept(said, balance, **further):
    """A keeper at work, its fleet of one server that answers as `said`, and the port of that."""
    async with upstream() as up, httpx.AsyncClient(trust_env=False, verify=NO_TLS) as http:
        up.script = said
        fleet, events = Fleet(clock=time.monotonic), Events()
        keeper = Keeper(fleet=fleet, http=http, clock=time.monotonic, events=events)
        fleet.apply([ServerSpec(url=f"http://127.0.0.1:{up.port}", **further)], balance)
        running = asyncio.create_task(keeper.run())
        try:
            yield fleet, keeper, events
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


def the(fleet):
    (server,) = fleet.servers.values()
    return server


def test_models_health_and_load_are_asked_for_at_once_and_with_its_key():
    async def run():
        said = Said("m", "n", "m", "not\nprintable")
        async with kept(said, SELDOM, api_key="k") as (fleet, _, events):
            await until(lambda: the(fleet).load is not None)
            assert the(fleet).models == ("m", "n")
            assert (the(fleet).load.running, the(fleet).load.waiting) == (2, 1)
            assert the(fleet).health.wrong is None
            assert {key for _, key in said.asked} == {"Bearer k"}
            assert [event.reason for event in events] == ["ServerWell"]

    asyncio.run(run())


def test_models_that_come_and_go_are_seen_at_the_next_look():
    async def run():
        said = Said("m")
        async with kept(said, OFTEN) as (fleet, _, _):
            await until(lambda: fleet.has("m"))
            said.has("n")
            await until(lambda: fleet.has("n"))
            assert not fleet.has("m")

    asyncio.run(run())


def test_a_404_makes_it_look_before_its_time():
    async def run():
        said = Said("m")
        async with kept(said, SELDOM) as (fleet, _, _):
            await until(lambda: fleet.has("m"))
            said.has("n")
            grant = fleet.admit("m")
            grant.server.doubt()
            grant.release()
            await until(lambda: fleet.has("n"))

    asyncio.run(run())


@pytest.mark.parametrize(
    ("path", "status", "body", "why"),
    [
        ("/health", 503, b"", "/health answered 503"),
        ("/v1/models", 401, b'{"error": {"message": "wrong key"}}', "/v1/models answered 401: wrong key"),
        ("/v1/models", 200, b"[]", "/v1/models answered 200: []"),
        ("/v1/models", 200, b"[" * 100_000, "cannot be read"),
    ],
)
def test_one_that_answers_amiss_is_unwell_until_it_does_not(path, status, body, why):
    async def run():
        said = Said("m")
        good = said.answers[path]
        said.answers[path] = (status, body)
        async with kept(said, OFTEN) as (fleet, _, events):
            await until(lambda: the(fleet).health.checked > 1)
            assert why in the(fleet).health.wrong
            assert fleet.admit("m") is None
            said.answers[path] = good
            await until(lambda: len(list(events)) > 1, "to be well again")
            assert [event.reason for event in events] == ["ServerUnwell", "ServerWell"]
            assert fleet.admit("m") is not None

    asyncio.run(run())


def test_an_endpoint_without_health_and_metrics_is_as_good():
    async def run():
        said = Said("m")
        del said.answers["/health"], said.answers["/metrics"]
        async with kept(said, SELDOM) as (fleet, _, _):
            await until(lambda: the(fleet).load_at is not None)
            assert (the(fleet).load, the(fleet).health.wrong) == (None, None)
            assert fleet.admit("m") is not None

    asyncio.run(run())


def test_a_server_that_left_the_file_is_asked_no_more_and_a_new_one_at_once():
    async def run():
        said, new = Said("m"), Said("n")
        async with kept(said, OFTEN) as (fleet, keeper, _), upstream() as up:
            up.script = new
            await until(lambda: fleet.has("m"))
            fleet.apply([ServerSpec(url=f"http://127.0.0.1:{up.port}")], OFTEN)
            keeper.changed()
            await until(lambda: fleet.has("n"))
            asked = len(said.asked)
            more = len(new.asked)
            await until(lambda: len(new.asked) > more + 6, "the new one to be asked again and again")
            assert len(said.asked) <= asked + 1
            assert not fleet.has("m")

    asyncio.run(run())


def test_the_load_is_asked_for_while_requests_come_and_not_when_none_do():
    async def run():
        said = Said("m")
        async with kept(said, SELDOM) as (fleet, _, _):
            server = await until(lambda: the(fleet) if the(fleet).load_at is not None else None)
            server.load_at -= 2.0  # as if so much time had gone by
            said.answers["/metrics"] = (200, b"vllm:num_requests_running 7\n")
            grant = fleet.admit("m")
            await until(lambda: server.load.running == 7)
            assert server.in_flight_then == 1
            grant.release()
            assert [path for path, _ in said.asked].count("/v1/models") == 1

    asyncio.run(run())
