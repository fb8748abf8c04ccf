"""More clients than there are file descriptors for."""

import asyncio

import pytest

from tests.gateway.house import MODEL, House, live, post, until
from vllama.gateway.wire.limits import Limits, connections_within

BODY = b'{"model":"%s"}' % MODEL.encode()
LIVEZ = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"


def test_who_comes_when_there_is_no_more_room_is_told_so_and_may_still_ask_how_it_is() -> None:
    async def test(here: House) -> None:
        here.open()
        first = await here.raw(b"")  # of two that there may be, as the client of the house has none yet
        second = await here.raw(b"")
        await until(lambda: len(here.server.server_state.connections) == 2)
        third, other = await here.raw(post(BODY))
        answer = await asyncio.wait_for(third.read(), 10)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in answer
        assert b'"code":"too_many_connections"' in answer
        other.close()
        await until(lambda: len(here.server.server_state.connections) == 2)
        third, other = await here.raw(LIVEZ)
        assert (await asyncio.wait_for(third.read(), 10)).startswith(b"HTTP/1.1 200 ")
        other.close()
        first[1].write(post(BODY))  # who was there before is served
        assert (await asyncio.wait_for(first[0].read(), 10)).startswith(b"HTTP/1.1 200 ")
        for _, writer in (first, second):
            writer.close()

    live(test, limits=Limits(connections=2))


def test_at_the_very_end_nobody_is_heard() -> None:
    async def test(here: House) -> None:
        held = [await here.raw(b"") for _ in range(3)]
        await until(lambda: len(here.server.server_state.connections) == 3)
        reader, writer = await here.raw(LIVEZ)
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 503 ")
        for _, each in (*held, (reader, writer)):
            each.close()

    live(test, limits=Limits(connections=2, spare_connections=1))


def test_who_came_late_stays_when_there_is_room_again() -> None:
    async def test(here: House) -> None:
        here.open()
        _, first = await here.raw(b"")
        await until(lambda: len(here.server.server_state.connections) == 1)
        reader, late = await here.raw(b"")
        await until(lambda: len(here.server.server_state.connections) == 2)
        first.close()
        await until(lambda: len(here.server.server_state.connections) == 1)
        late.write(post(BODY))
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 200 ")
        late.close()

    live(test, limits=Limits(connections=1))


@pytest.mark.parametrize(("descriptors", "clients"), [(1024, 384), (1 << 20, 524_032), (32, 16)])
def test_half_of_what_is_left_is_for_engines(descriptors: int, clients: int) -> None:
    assert connections_within(descriptors) == clients
