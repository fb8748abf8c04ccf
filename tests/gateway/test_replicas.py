"""A request that one of several engines of a model fails before it answers."""

import asyncio
import json
import socket

import httpx
import pytest

from tests.gateway.house import MODEL, House, live
from tests.gateway.upstream import Exchange
from vllama.controller.demand import Endpoint


def _at(port: int, engine_id: str) -> Endpoint:
    return Endpoint(engine_id=engine_id, host="127.0.0.1", port=port, served_name=MODEL)


def _nobody() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_one_that_takes_no_connections_is_passed_over() -> None:
    async def test(here: House) -> None:
        board = here.control.board
        board.open(MODEL, _at(_nobody(), "dead"))
        board.open(f"{MODEL}#2", _at(here.upstream.port, "lives"), replica_of=MODEL)
        for _ in range(3):
            assert (await here.chat()).status_code == 200
        assert len(here.upstream.exchanges) == 3

    live(test)


def test_where_none_takes_any_the_client_is_told() -> None:
    async def test(here: House) -> None:
        board = here.control.board
        board.open(MODEL, _at(_nobody(), "dead"))
        board.open(f"{MODEL}#2", _at(_nobody(), "dead, too"), replica_of=MODEL)
        assert (await here.chat()).status_code == 502

    live(test)


@pytest.mark.parametrize("begun", [False, True])
def test_what_broke_off_is_asked_of_another_only_before_it_was_answered(begun: bool) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            if len(here.upstream.exchanges) > 1:
                exchange.answer(b"{}")
                return
            if begun:
                exchange.send(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf")
            exchange.close()

        here.upstream.script = script
        board = here.control.board
        board.open(MODEL, _at(here.upstream.port, "one"))
        board.open(f"{MODEL}#2", _at(here.upstream.port, "two"), replica_of=MODEL)
        if begun:
            with pytest.raises(httpx.RemoteProtocolError):
                await here.chat()
        else:
            assert (await here.chat()).status_code == 200
        assert len(here.upstream.exchanges) == (1 if begun else 2)

    live(test)


def test_what_goes_on_from_a_response_is_for_whoever_made_that() -> None:
    async def test(here: House) -> None:
        asked: list[str] = []
        held, hold = asyncio.Event(), asyncio.Event()

        async def script(exchange: Exchange) -> None:
            said = json.loads(exchange.body)
            asked.append(said["model"])
            number = len(asked)
            if said["input"] == "wait":
                held.set()
                await hold.wait()
            exchange.answer(json.dumps({"id": f"resp_{number}", "object": "response"}).encode())

        here.upstream.script = script
        board = here.control.board
        for name, replica_of in ((MODEL, None), (f"{MODEL}#2", MODEL)):
            endpoint = Endpoint(engine_id=name, host="127.0.0.1", port=here.upstream.port, served_name=name)
            board.open(name, endpoint, replica_of=replica_of)

        async def respond(text: str, **more: object) -> httpx.Response:
            return await here.http.post("/v1/responses", json={"model": "tiny", "input": text, **more})

        busy = asyncio.ensure_future(respond("wait"))
        await held.wait()
        assert (await respond("hello")).json()["id"] == "resp_2"
        hold.set()
        await busy
        for earlier in ("resp_1", "resp_2", "resp_9", 7):
            assert (await respond("and then", previous_response_id=earlier)).status_code == 200
        second = f"{MODEL}#2"
        assert asked == [MODEL, second, MODEL, second, MODEL, MODEL]
        board.close(second)
        answer = await respond("and then", previous_response_id="resp_2")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "engine_away")

    live(test)
