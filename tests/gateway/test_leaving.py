"""A client that leaves: nothing waits for it, nothing is generated for it, nothing is counted for it."""

import asyncio

import pytest

from tests.gateway.house import CHAT, MODEL, House, live, post, until
from tests.gateway.upstream import Exchange

BODY = b'{"model":"%s"}' % MODEL.encode()


async def leave(writer: asyncio.StreamWriter, *, abruptly: bool) -> None:
    if abruptly:
        writer.transport.abort()
    else:
        writer.close()


@pytest.fixture(params=[True, False], ids=["reset", "closed"])
def abruptly(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_while_queued(abruptly: bool) -> None:
    async def test(here: House) -> None:
        clients = [await here.raw(post(BODY)) for _ in range(3)]
        await until(lambda: here.waiting == 3)
        await leave(clients[1][1], abruptly=abruptly)
        await until(lambda: here.waiting == 2, "out of the queue")
        here.open()
        for reader, writer in (clients[0], clients[2]):
            assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
            writer.close()
        assert len(here.upstream.exchanges) == 2

    live(test)


def test_while_its_body_is_still_coming(abruptly: bool) -> None:
    async def test(here: House) -> None:
        here.open()
        _, writer = await here.raw(post(BODY)[:-4])
        await here.http.get("/livez")
        await leave(writer, abruptly=abruptly)
        assert (await here.chat()).status_code == 200
        assert len(here.upstream.exchanges) == 1

    live(test)


def test_while_the_engine_has_said_nothing_yet(abruptly: bool) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.gone.wait()

        here.upstream.script = script
        here.open()
        _, writer = await here.raw(post(BODY))
        await until(lambda: here.upstream.exchanges)
        assert here.in_flight == 1
        await leave(writer, abruptly=abruptly)
        await asyncio.wait_for(here.upstream.exchanges[0].gone.wait(), 10)
        await until(lambda: here.in_flight == 0)
        assert len(here.upstream.exchanges) == 1

    live(test)


def test_in_the_middle_of_a_stream(abruptly: bool) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            exchange.chunk(b"data: 1\n\n")
            await exchange.gone.wait()

        here.upstream.script = script
        here.open()
        reader, writer = await here.raw(post(BODY))
        await reader.readuntil(b"data: 1\n\n")
        assert here.in_flight == 1
        await leave(writer, abruptly=abruptly)
        await asyncio.wait_for(here.upstream.exchanges[0].gone.wait(), 10)
        await until(lambda: here.in_flight == 0)

    live(test)


def test_while_it_does_not_read_what_comes(abruptly: bool) -> None:
    async def test(here: House) -> None:
        full = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            while not exchange.gone.is_set():
                exchange.chunk(b"x" * 100_000)
                await asyncio.sleep(0)
                if exchange.transport.get_write_buffer_size() > 1_000_000:
                    full.set()
                    await exchange.gone.wait()

        here.upstream.script = script
        here.open()
        _, writer = await here.raw(post(BODY))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.wait_for(full.wait(), 10)
        assert here.in_flight == 1
        await leave(writer, abruptly=abruptly)
        await asyncio.wait_for(here.upstream.exchanges[0].gone.wait(), 10)
        await until(lambda: here.in_flight == 0)

    live(test)


def test_a_hundred_that_come_and_go_at_every_moment_leave_nothing() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            for _ in range(20):
                exchange.chunk(b"data: 1\n\n")
                await asyncio.sleep(0)
            exchange.end_chunks()

        async def come_and_go(turns: int) -> None:
            _, writer = await here.raw(post(BODY))
            for _ in range(turns):
                await asyncio.sleep(0)
            writer.transport.abort()

        here.upstream.script = script
        here.open(max_concurrency=4)
        await asyncio.gather(*(come_and_go(turns) for turns in range(100)))
        await until(lambda: (here.waiting, here.in_flight) == (0, 0), "all gone")
        answer = await here.http.post(CHAT, content=BODY)
        assert answer.content == b"data: 1\n\n" * 20

    live(test)
