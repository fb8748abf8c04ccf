"""Nobody's slowness is for ever: each deadline has its answer."""

import asyncio

import pytest

from tests.gateway.house import CHAT, MODEL, House, live, post, until
from tests.gateway.upstream import Exchange, echo
from vllama.domain.spec import Policy
from vllama.gateway.wire.limits import Limits

BODY = b'{"model":"%s"}' % MODEL.encode()
SOON = 0.1


async def end_of(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    whole = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return whole


@pytest.mark.parametrize("begun", [b"P", b"POST /score HTTP/1.1\r\nhost: x\r\nx: "])
def test_a_head_that_does_not_come_is_a_408(begun: bytes) -> None:
    async def test(here: House) -> None:
        reader, writer = await here.raw(begun)
        dripping = asyncio.ensure_future(drip(writer))
        answer = await end_of(reader, writer)
        dripping.cancel()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"request_timeout"' in answer

    async def drip(writer: asyncio.StreamWriter) -> None:
        while True:  # however steadily it comes
            writer.write(b"a")
            await asyncio.sleep(SOON / 10)

    live(test, limits=Limits(head_s=SOON))


def test_a_body_that_stops_coming_is_a_408_and_one_that_comes_slowly_is_not() -> None:
    async def test(here: House) -> None:
        here.open()
        request = post(BODY)
        reader, writer = await here.raw(request[:-3])
        assert (await end_of(reader, writer)).startswith(b"HTTP/1.1 408 ")
        assert here.upstream.exchanges == []
        reader, writer = await here.raw(request[: -len(BODY)])
        for start in range(len(BODY)):
            writer.write(BODY[start : start + 1])
            await asyncio.sleep(SOON / 5)
        assert (await end_of(reader, writer)).startswith(b"HTTP/1.1 200 ")

    live(test, limits=Limits(body_idle_s=2 * SOON))


def test_a_connection_without_requests_is_closed_without_a_word() -> None:
    async def test(here: House) -> None:
        reader, writer = await here.raw(b"")
        assert await end_of(reader, writer) == b""
        reader, writer = await here.raw(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert (await end_of(reader, writer)).endswith(b'{"status":"ok"}')

    live(test, limits=Limits(keep_alive_s=SOON, head_s=SOON))


def test_no_deadline_runs_while_a_model_is_waited_for() -> None:
    async def test(here: House) -> None:
        answer = asyncio.ensure_future(here.chat())
        await until(lambda: here.waiting == 1)
        for _ in range(2):  # until others, which came later, were overdue
            assert await end_of(*await here.raw(b"")) == b""
        here.open()
        assert (await answer).status_code == 200

    live(test, limits=Limits(head_s=SOON, keep_alive_s=SOON, body_idle_s=SOON, first_byte_s=SOON))


def test_an_engine_that_says_nothing_is_a_504_where_there_is_a_limit() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.gone.wait()

        here.upstream.script = script
        here.open()
        answer = await here.chat()
        assert (answer.status_code, answer.json()["error"]["code"]) == (504, "engine_timeout")
        await asyncio.wait_for(here.upstream.exchanges[0].gone.wait(), 10)
        assert len(here.upstream.exchanges) == 1

    live(test, limits=Limits(first_byte_s=SOON))


def test_an_engine_that_stops_in_the_middle_is_given_up() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            exchange.chunk(b"data: 1\n\n")
            await exchange.gone.wait()

        here.upstream.script = script
        here.open()
        answer = await here.chat()
        assert answer.content.startswith(b"data: 1\n\n")
        assert b"nothing came for 0.1 s" in answer.content
        await asyncio.wait_for(here.upstream.exchanges[0].gone.wait(), 10)

    live(test, limits=Limits(engine_idle_s=SOON))


def test_an_engine_that_takes_no_connection_is_a_502() -> None:
    async def test(here: House) -> None:
        async with full_backlog() as port:
            here.upstream.port = port
            here.open()
            answer = await here.chat()
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_gone")
        assert "does not take connections" in answer.json()["error"]["message"]

    live(test, limits=Limits(connect_s=SOON))


class full_backlog:  # noqa: N801  # reads as a phrase
    """A port that listens and never accepts: with its queue full, a connect is not answered."""

    async def __aenter__(self) -> int:
        import socket

        self.listening = socket.socket()
        self.listening.bind(("127.0.0.1", 0))
        self.listening.listen(0)
        port = int(self.listening.getsockname()[1])
        self.others = []
        for _ in range(4):
            other = socket.socket()
            other.setblocking(False)
            other.connect_ex(("127.0.0.1", port))
            self.others.append(other)
        return port

    async def __aexit__(self, *_: object) -> None:
        for one in (self.listening, *self.others):
            one.close()


def test_a_connection_to_an_engine_is_not_used_when_it_is_old() -> None:
    async def test(here: House) -> None:
        here.upstream.script = echo
        here.open()
        await here.chat()
        await asyncio.wait_for(here.upstream.exchanges[0].gone.wait(), 10)
        assert (await here.chat()).status_code == 200
        assert here.upstream.connections == 2

    live(test, limits=Limits(pooled_s=SOON))


def test_a_client_that_takes_nothing_for_long_is_let_go() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            while not exchange.transport.is_closing():
                exchange.chunk(b"x" * 100_000)
                await asyncio.sleep(0)

        here.upstream.script = script
        here.open()
        _, writer = await here.raw(
            f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(BODY)}\r\n\r\n".encode() + BODY
        )
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: here.upstream.exchanges)
        await asyncio.wait_for(here.upstream.exchanges[0].gone.wait(), 10)
        await until(lambda: here.in_flight == 0)
        writer.transport.abort()

    live(test, policy=Policy(stalled_client_s=SOON))
