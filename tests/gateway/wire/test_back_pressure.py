"""Whoever is slow slows down whoever is fast, and nothing piles up in between."""

import asyncio
import resource

import pytest

from tests.gateway.house import CHAT, MODEL, House, live, post, until
from tests.gateway.upstream import Exchange
from vllama.domain.units import MIB

BODY = b'{"model":"%s"}' % MODEL.encode()
PIECE = b"data: " + b"x" * 99_992 + b"\n\n"


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def in_user_space(here: House) -> int:
    """What vllama holds for its clients: the kernel's buffers are not ours."""
    return sum(one.transport.get_write_buffer_size() for one in here.server.server_state.connections)  # type: ignore[attr-defined]


@pytest.mark.parametrize("pieces", [400])
def test_a_client_that_stalls_pauses_the_engine_and_then_gets_it_all(pieces: int) -> None:
    async def test(here: House) -> None:
        most = 0

        async def script(exchange: Exchange) -> None:
            nonlocal most
            exchange.start_events()
            for _ in range(pieces):
                exchange.chunk(PIECE)
                while exchange.transport.get_write_buffer_size() > MIB and not exchange.transport.is_closing():
                    paused.set()
                    await asyncio.sleep(0)
                    most = max(most, in_user_space(here))
            exchange.end_chunks()

        paused = asyncio.Event()
        here.upstream.script = script
        here.open()
        reader, writer = await here.raw(post(BODY))
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.wait_for(paused.wait(), 10)
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        size = 0
        while piece := await asyncio.wait_for(reader.read(MIB), 10):
            size += len(piece)
        writer.close()
        assert size > pieces * len(PIECE)
        assert most < MIB

    live(test)


def test_a_client_that_asks_and_asks_and_never_reads_is_not_read_either() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.answer(b"x" * 200_000)

        here.upstream.script = script
        here.open()
        _, writer = await here.raw(b"")
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        request = post(BODY, headers="")
        while writer.transport.get_write_buffer_size() < MIB:  # the kernel takes no more of them
            writer.write(request * 100)
            await asyncio.sleep(0)
        count = len(here.upstream.exchanges)
        await here.http.get("/livez")
        assert in_user_space(here) < MIB
        assert sum(len(one._ahead) for one in here.server.server_state.connections) < MIB  # type: ignore[attr-defined]
        assert len(here.upstream.exchanges) <= count + 1
        writer.transport.abort()
        await until(lambda: here.in_flight == 0)

    live(test)


def test_who_sends_on_while_a_model_is_waited_for_is_held_back() -> None:
    async def test(here: House) -> None:
        _, writer = await here.raw(post(BODY, headers=""))
        await until(lambda: here.waiting == 1)
        sent = 0
        while writer.transport.get_write_buffer_size() < MIB:
            writer.write(b"x" * 100_000)
            sent += 100_000
            await asyncio.sleep(0)
        await here.http.get("/livez")
        assert sum(len(one._ahead) for one in here.server.server_state.connections) < MIB  # type: ignore[attr-defined]
        assert sent < 64 * MIB
        here.open()
        await until(lambda: not here.server.server_state.connections or here.in_flight == 0)
        writer.transport.abort()

    live(test)


def test_an_engine_that_reads_slowly_still_gets_a_long_body_whole() -> None:
    async def test(here: House) -> None:
        here.open()
        body = b'{"image":"%b","model":"%b"}' % (b"A" * (20 * MIB), MODEL.encode())
        before = peak_bytes()
        answer = await here.http.post(CHAT, content=body)
        assert answer.content == body
        assert here.upstream.exchanges[0].body == body
        assert peak_bytes() - before < 400 * MIB  # of which the two ends in this process hold most

    live(test)


def test_a_line_of_ten_megabytes_passes() -> None:
    async def test(here: House) -> None:
        line = b"data: " + b"y" * (10 * MIB) + b"\n\n"

        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            exchange.chunk(line)
            exchange.end_chunks()

        here.upstream.script = script
        here.open()
        assert (await here.chat()).content == line

    live(test)
