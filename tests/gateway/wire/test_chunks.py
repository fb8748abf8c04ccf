"""Tokens come one whole chunk at a time, and have a shorter way: what is heard is the same as without it."""

import asyncio
import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from tests.gateway.wire.test_outbox import Home, Wire
from vllama.controller.demand import Endpoint
from vllama.gateway.wire.answer import Answer
from vllama.gateway.wire.engine import EngineConnection
from vllama.gateway.wire.limits import Limits
from vllama.gateway.wire.outbox import Outbox

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
EVENTS = st.lists(st.sampled_from([b"x", b"data: 1\n\n", b"\r\n", b"d" * 300, b"e" * 5000]), min_size=1, max_size=6)
CUTS = st.lists(st.integers(0, 6000), max_size=8)
TAILS = st.sampled_from([b"0\r\n\r\n", b"0\r\nx: 1\r\n\r\n", b"5\r\n12345\n\n", b"zz\r\n"])


class Hears:
    """An exchange, as far as its engine knows it. `short`: takes whole chunks the short way."""

    def __init__(self, engine: EngineConnection, *, short: bool, unchunked: bool = False) -> None:
        self.engine, self.short, self.unchunked = engine, short, unchunked
        self.body, self.end = b"", ""
        self.chunks: list[bytes] = []

    def answered(self, head: Answer, length: int, data: bytes) -> None: ...

    def whole(self, head: Answer, length: int, data: bytes) -> None: ...

    def piece(self, data: bytes) -> None:
        self.body += data
        if self.short:
            self.engine.pass_chunks(self)

    def chunk(self, data: bytes, size: int) -> None:
        assert size == len(data)
        self.chunks.append(data)
        self.body += data

    def complete(self) -> None:
        self.end = "complete"

    def broken(self, why: str, *, stale: bool) -> None:
        self.end = f"broken: {why} {stale}"

    def silent(self, limit_s: float) -> None: ...


async def heard(pieces: list[bytes], *, short: bool) -> tuple[Hears, Home, Wire]:
    home, wire = Home(), Wire()
    outbox = Outbox(asyncio.get_running_loop(), at_once_s=0)
    endpoint = Endpoint(engine_id="e1", host="x", port=1, served_name="m")
    engine = EngineConnection(home, endpoint, limits=Limits(), outbox=outbox)
    engine.connection_made(wire)
    hears = Hears(engine, short=short)
    engine.ask(hears, endpoint, b"head\r\n", b"body")
    await asyncio.sleep(0)
    for piece in (HEAD, *pieces):
        if not wire.is_closing():
            engine.data_received(piece)
    return hears, home, wire


def chunk(event: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(event), event)


@given(EVENTS, CUTS, TAILS, st.booleans())
@example([b"x", b"y", b"z"], [], b"0\r\n\r\n", True)
def test_the_short_way_tells_the_same(events: list[bytes], cuts: list[int], tail: bytes, by_themselves: bool) -> None:
    chunks = [*map(chunk, events), tail]
    if by_themselves:
        pieces = chunks
    else:
        stream = b"".join(chunks)
        at = sorted({0, len(stream), *(one for one in cuts if one < len(stream))})
        pieces = [stream[start:end] for start, end in itertools.pairwise(at)]

    async def test() -> None:
        (short, home, wire), (long, home_too, wire_too) = [await heard(pieces, short=way) for way in (True, False)]
        assert (short.body, short.end) == (long.body, long.end)
        assert len(home.given) == len(home_too.given)
        assert wire.done == wire_too.done
        assert not long.chunks
        for each in short.chunks:  # nothing but what is one chunk by itself
            size, _, rest = each.partition(b"\r\n")
            assert len(rest) == int(size, 16) + 2
        if by_themselves:
            assert short.chunks == [each for each in chunks[1:-1] if len(each) < 2048]

    asyncio.run(test())


def test_who_left_hears_no_chunk_and_neither_does_who_asks_next() -> None:
    async def test() -> None:
        hears, home, wire = await heard([chunk(b"data: 1\n\n")] * 2 + [b"0\r\n\r\n"], short=True)
        (engine,) = home.given
        after = Hears(engine, short=False)
        engine.ask(after, Endpoint(engine_id="e1", host="x", port=1, served_name="m"), b"head\r\n", b"body")
        engine.data_received(HEAD)
        engine.data_received(chunk(b"data: 2\n\n"))
        assert (after.body, len(hears.chunks)) == (chunk(b"data: 2\n\n"), 1)
        engine.pass_chunks(after)
        engine.data_received(chunk(b"data: 3\n\n"))
        engine.abandon()
        engine.data_received(chunk(b"data: 4\n\n"))
        assert after.body.endswith(chunk(b"data: 3\n\n"))
        assert "abort" in wire.done

    asyncio.run(test())
