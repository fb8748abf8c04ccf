"""Writes at the end of a turn of the loop: nothing overtakes them, and nothing that comes behind cuts them off."""

import asyncio
import json

import pytest

from tests.gateway.house import CHAT, LIMITS, MODEL, House, live, post, until
from tests.gateway.upstream import Exchange
from vllama.controller.demand import Endpoint
from vllama.gateway.wire.engine import EngineConnection
from vllama.gateway.wire.limits import Limits
from vllama.gateway.wire.outbox import LITTLE, WRITTEN, Outbox

AT_ONCE = Limits(at_once_s=1_000_000)
LATE = pytest.mark.parametrize("limits", [LIMITS, AT_ONCE], ids=["late", "at once"])


def chat(number: int) -> bytes:
    return post(json.dumps({"model": MODEL, "n": number}).encode(), headers="")


@LATE
def test_answers_keep_the_order_of_their_requests_whoever_gives_them(limits: Limits) -> None:
    async def test(here: House) -> None:
        here.open()
        models = b"GET /v1/models HTTP/1.1\r\nhost: x\r\n\r\n"
        unknown = post(b'{"model":"none"}', headers="")
        broken = b"GET / HTTP/9.9\r\n\r\n"
        requests = [chat(1), chat(2), models, chat(3), unknown, unknown, chat(4), models, chat(5), broken]
        reader, writer = await here.raw(b"".join(requests))
        said = await reader.read()
        writer.close()
        marks = [b'"n": %d}' % n for n in range(1, 6)]
        places = [said.index(mark) for mark in marks]
        assert places == sorted(places)
        statuses = [int(part[:3]) for part in said.split(b"HTTP/1.1 ")[1:]]
        assert statuses == [200, 200, 200, 200, 404, 404, 200, 200, 200, 400]

    live(test, limits=limits)


@LATE
def test_the_last_answer_of_a_connection_comes_whole(limits: Limits) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.answer(b"x" * 100_000)

        here.upstream.script = script
        here.open()
        for headers in ("connection: close\r\n", "connection: close\r\nx-a: b\r\n"):
            reader, writer = await here.raw(post(b'{"model":"tiny"}', headers=headers))
            said = await reader.read()
            writer.close()
            assert said.endswith(b"\r\n\r\n" + b"x" * 100_000)

    live(test, limits=limits)


@LATE
def test_many_at_once(limits: Limits) -> None:
    async def test(here: House) -> None:
        here.open()

        async def one(number: int) -> None:
            answer = await here.http.post(CHAT, json={"model": "tiny", "n": number})
            assert answer.json() == {"model": MODEL, "n": number}

        await asyncio.gather(*map(one, range(200)))

    live(test, limits=limits)


class Wire(asyncio.Transport):
    """What was done to it."""

    def __init__(self) -> None:
        super().__init__()
        self.done: list[object] = []

    def write(self, data: bytes) -> None:  # type: ignore[override]
        self.done.append(data)

    def abort(self) -> None:
        self.done.append("abort")

    def close(self) -> None:
        self.done.append("close")

    def pause_reading(self) -> None:
        self.done.append("pause")

    def is_closing(self) -> bool:
        return "abort" in self.done

    def get_write_buffer_size(self) -> int:
        return 0


class Asks:
    """Who asks an engine."""

    unchunked = False

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __getattr__(self, name: str):
        return lambda *_, **__: self.heard.append(name)


class Home:
    def __init__(self) -> None:
        self.given: list[EngineConnection] = []

    def give(self, connection: EngineConnection) -> None:
        self.given.append(connection)

    def forget(self, connection: EngineConnection) -> None: ...


async def asked() -> tuple[EngineConnection, Wire, Asks, Home]:
    home, wire, asks = Home(), Wire(), Asks()
    outbox = Outbox(asyncio.get_running_loop(), at_once_s=0)
    endpoint = Endpoint(engine_id="e1", host="x", port=1, served_name="m")
    engine = EngineConnection(home, endpoint, limits=LIMITS, outbox=outbox)
    engine.connection_made(wire)
    engine.ask(asks, endpoint, b"head\r\n", b"body")
    assert wire.done == []
    return engine, wire, asks, home


def test_a_request_is_written_when_the_turn_ends() -> None:
    async def test() -> None:
        _engine, wire, _asks, _home = await asked()
        await asyncio.sleep(0)
        assert wire.done == [b"head\r\nhost: x:1\r\ncontent-length: 4\r\n\r\nbody"]

    asyncio.run(test())


def test_a_client_that_goes_in_the_same_turn_asks_nobody() -> None:
    async def test() -> None:
        engine, wire, _asks, _home = await asked()
        engine.abandon()
        await asyncio.sleep(0)
        assert wire.done == ["abort"]

    asyncio.run(test())


def test_an_engine_that_answers_before_it_was_asked_is_not_asked_again_on_that_connection() -> None:
    async def test() -> None:
        engine, wire, asks, home = await asked()
        engine.data_received(b"HTTP/1.1 400 Bad\r\ncontent-length: 2\r\n\r\nno")
        assert asks.heard == ["whole"]
        assert home.given == []
        await asyncio.sleep(0)
        assert wire.done == ["abort"]

    asyncio.run(test())


def test_who_is_stalled_by_an_answer_that_is_all_there_pauses_nobody_who_asks_next() -> None:
    async def test() -> None:
        engine, wire, asks, home = await asked()
        await asyncio.sleep(0)
        asks.whole = lambda *_: engine.pause()  # type: ignore[attr-defined]
        engine.data_received(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno")
        assert home.given == [engine]
        assert "pause" not in wire.done

    asyncio.run(test())


class Broken(Wire):
    def write(self, data: bytes) -> None:  # type: ignore[override]
        raise RuntimeError("a connection that cannot be written to")


def test_where_turns_have_little_to_write_it_is_written_at_once_and_later_tried_again() -> None:
    async def test() -> None:
        outbox = Outbox(asyncio.get_running_loop(), at_once_s=0.01)

        async def turn(writes: int) -> int:
            """How many were collected."""
            wire = Wire()
            collected = [outbox.write(wire, b"%d" % number) for number in range(writes)]
            assert collected.count(WRITTEN) == len(wire.done)
            await asyncio.sleep(0)
            assert wire.done == [b"%d" % number for number in range(writes)]
            return writes - collected.count(WRITTEN)

        assert await turn(LITTLE) == LITTLE
        assert await turn(LITTLE - 1) == LITTLE - 1  # that is little
        assert await turn(10) == 0
        await until(lambda: outbox.collects, "it is tried again")
        assert await turn(10) == 10
        assert await turn(1) == 1
        assert await turn(10) == 0

    asyncio.run(test())


def test_what_is_written_while_others_are_comes_behind_them() -> None:
    async def test() -> None:
        outbox, wire = Outbox(asyncio.get_running_loop(), at_once_s=60), Wire()

        class Another(Wire):
            def write(self, data: bytes) -> None:  # type: ignore[override]
                outbox.flush()  # as whoever closes a connection does
                assert outbox.write(wire, b"3") != WRITTEN

        outbox.write(wire, b"1")
        outbox.write(Another(), b"")
        outbox.write(wire, b"2")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert wire.done == [b"1", b"2", b"3"]

    asyncio.run(test())


def test_what_is_to_go_before_something_else_is_written_once() -> None:
    async def test() -> None:
        outbox, wire = Outbox(asyncio.get_running_loop(), at_once_s=60), Wire()
        turn = outbox.write(wire, b"1")
        outbox.flush()
        assert wire.done == [b"1"]
        await asyncio.sleep(0)
        assert outbox.collects  # that says nothing of how much a turn has to write
        assert outbox.write(wire, b"2") > turn
        await asyncio.sleep(0)
        assert wire.done == [b"1", b"2"]

    asyncio.run(test())


def test_one_that_cannot_be_written_to_holds_nobody_else_up() -> None:
    async def test() -> None:
        outbox, wire = Outbox(asyncio.get_running_loop(), at_once_s=0), Wire()
        for each in (wire, Broken(), wire):
            outbox.write(each, b"x")
        await asyncio.sleep(0)
        assert wire.done == [b"x", b"x"]

    asyncio.run(test())
