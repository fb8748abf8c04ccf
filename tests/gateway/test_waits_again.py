"""Whose engine was taken down as it hung, before a byte of an answer, waits once more for the next one."""

import asyncio

import pytest

from tests.gateway.house import MODEL, SPEC, House, live, until
from tests.gateway.upstream import Exchange


async def hang(exchange: Exchange) -> None:
    await exchange.gone.wait()


async def tell_name(exchange: Exchange) -> None:
    exchange.answer(b'{"served": %s}' % (b"true" if MODEL.encode() in exchange.body else b"false"))


def cut(here: House) -> None:
    """As the loop does when it gives an engine up: closed, told of, and its process ended."""
    here.control.board.give_up("e1")
    here.control.board.close(MODEL, cut=True)
    for exchange in here.upstream.exchanges:
        exchange.transport.abort()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"json": {"model": "tiny", "keep_alive": "5m"}}),
        ("/v1/chat/completions", {"json": {"model": MODEL}}),
        ("/v1/audio/transcriptions", {"data": {"model": "tiny"}, "files": {"file": b"RIFF"}}),
    ],
)
def test_the_next_engine_answers_by_the_right_name(path: str, body: dict) -> None:
    async def test(here: House) -> None:
        here.upstream.script = hang
        here.open()
        asked = asyncio.create_task(here.http.post(path, **body))
        await until(lambda: here.upstream.exchanges, "the first engine to be asked")
        cut(here)
        await until(lambda: here.waiting == 1, "it to wait again")
        here.upstream.script = tell_name
        here.open(engine_id="e2")
        answer = await asked
        assert (answer.status_code, answer.json()) == (200, {"served": True})
        assert answer.headers["x-vllama-state"] == "started"
        assert here.in_flight == 0

    live(test, SPEC)


def test_twice_is_too_often() -> None:
    async def test(here: House) -> None:
        here.upstream.script = hang
        here.open()
        asked = asyncio.create_task(here.chat())
        await until(lambda: here.upstream.exchanges, "the first engine to be asked")
        cut(here)
        await until(lambda: here.waiting == 1, "it to wait again")
        here.open(engine_id="e2")
        await until(lambda: len(here.upstream.exchanges) == 2, "the second to be asked")
        here.control.board.give_up("e2")
        here.upstream.exchanges[1].transport.abort()
        answer = await asked
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_gone")

    live(test)


def test_who_left_meanwhile_waits_for_nothing() -> None:
    async def test(here: House) -> None:
        here.upstream.script = hang
        here.open()
        asked = asyncio.create_task(here.chat())
        await until(lambda: here.upstream.exchanges, "the engine to be asked")
        cut(here)
        await until(lambda: here.waiting == 1, "it to wait again")
        asked.cancel()
        await until(lambda: here.waiting == 0, "it to be gone")

    live(test)


def test_an_engine_that_ended_by_itself_may_end_of_this_very_request() -> None:
    async def test(here: House) -> None:
        here.upstream.script = hang
        here.open()
        asked = asyncio.create_task(here.chat())
        await until(lambda: here.upstream.exchanges, "the engine to be asked")
        here.upstream.exchanges[0].transport.abort()
        assert (await asked).status_code == 502

    live(test)
