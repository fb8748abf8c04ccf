"""What bodies hold together while they come in."""

import asyncio

import pytest

from tests.gateway.house import CHAT, MODEL, House, live, post, until
from vllama.domain.units import KIB, MIB
from vllama.gateway.inference import Refused
from vllama.gateway.wire.limits import Limits
from vllama.gateway.wire.uploads import SMALL_BYTES, LargeBody, Uploads

BODY = b'{"model":"%s"}' % MODEL.encode()
LIMITS = Limits(uploads_bytes=MIB, body_bytes=MIB, at_once_s=0)
PART = 600 * KIB
HEAD = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n".encode()
COUNTED = HEAD + b"content-length: %d\r\n\r\n" % MIB
CHUNKED = HEAD + b"transfer-encoding: chunked\r\n\r\n%x\r\n" % MIB


def uploads_of(here: House) -> Uploads:
    return next(iter(here.server.server_state.connections))._shared.uploads  # type: ignore[attr-defined]


async def answer_to(here: House, request: bytes) -> bytes:
    reader, writer = await here.raw(b"")
    writer.write(request)  # of which not all may be read
    answer = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return answer


@pytest.mark.parametrize("head", [COUNTED, CHUNKED])
def test_beyond_the_bound_large_newcomers_are_refused_and_small_ones_pass(head: bytes) -> None:
    async def test(here: House) -> None:
        here.open()
        _, first = await here.raw(head + bytes(PART))
        uploads = uploads_of(here)
        await until(lambda: uploads.held_bytes == PART, "all of it read")
        refused = await answer_to(here, head + bytes(PART))
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1\r\n" in refused
        assert b'"code":"upload_memory_full"' in refused
        assert uploads.held_bytes == PART
        assert (await answer_to(here, post(BODY))).startswith(b"HTTP/1.1 200 ")
        small = post(b" " * (200 * KIB) + BODY)
        assert (await answer_to(here, small)).startswith(b"HTTP/1.1 200 ")
        first.transport.abort()
        await until(lambda: uploads.held_bytes == 0, "its memory free")
        large = post(b" " * PART + BODY)
        assert (await answer_to(here, large)).startswith(b"HTTP/1.1 200 ")
        assert uploads.held_bytes == 0

    live(test, limits=LIMITS)


def test_it_is_refused_before_it_is_told_to_go_on() -> None:
    async def test(here: House) -> None:
        _, first = await here.raw(COUNTED + bytes(PART))
        uploads = uploads_of(here)
        await until(lambda: uploads.held_bytes == PART, "all of it read")
        expects = COUNTED.replace(b"\r\n\r\n", b"\r\nexpect: 100-continue\r\n\r\n")
        assert (await answer_to(here, expects)).startswith(b"HTTP/1.1 503 ")
        first.transport.abort()
        await until(lambda: uploads.held_bytes == 0, "its memory free")

    live(test, limits=LIMITS)


def test_one_that_takes_too_long_gives_back_what_it_held() -> None:
    async def test(here: House) -> None:
        reader, writer = await here.raw(COUNTED + bytes(PART))
        uploads = uploads_of(here)
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 408 ")
        assert uploads.held_bytes == 0
        writer.close()

    live(test, limits=Limits(uploads_bytes=MIB, body_bytes=MIB, at_once_s=0, body_idle_s=0.2, linger_s=0.1))


def test_those_who_came_in_time_are_bounded_too_and_what_one_lost_the_others_may_use() -> None:
    uploads = Uploads(LIMITS)
    one, other = (uploads.body(MIB, chunked=False) for _ in range(2))
    assert isinstance(one, LargeBody)
    assert isinstance(other, LargeBody)
    one.feed(bytes(PART))
    with pytest.raises(Refused):
        other.feed(bytes(PART))
    other.drop()
    assert uploads.held_bytes == PART
    one.feed(bytes(MIB - PART))
    assert (one.done, len(one.whole()), uploads.held_bytes) == (True, MIB, 0)


def test_what_is_small_or_came_at_once_is_not_counted() -> None:
    uploads = Uploads(LIMITS)
    assert not isinstance(uploads.body(SMALL_BYTES, chunked=False), LargeBody)
    chunked, whole = uploads.body(0, chunked=True), uploads.body(MIB, chunked=False)
    chunked.feed(b"%x\r\n" % MIB + bytes(SMALL_BYTES))
    whole.feed(bytes(MIB))
    assert uploads.held_bytes == 0
    chunked.feed(b"x")
    assert uploads.held_bytes == SMALL_BYTES + 1
