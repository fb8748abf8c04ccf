"""Byte for byte, wherever the network cuts."""

import asyncio
import json

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.gateway.house import CHAT, MODEL, House, live
from tests.gateway.upstream import Exchange
from tests.gateway.wire.test_connection import Answers
from tests.gateway.wire.test_framing import chunked, cut

TEXT = st.text(max_size=60)
HEADERS = st.lists(
    st.sampled_from([b"X-A: 1\r\n", b"Accept: */*\r\n", b"x-b:\xc3\xa9 \r\n", b"User-Agent: t\r\n"]), max_size=4
)
CUTS = st.lists(st.integers(min_value=0, max_value=600), max_size=15)


async def in_pieces(write, data: bytes, cuts: list[int]) -> None:
    for piece in cut(data, cuts):
        write(piece)
        await asyncio.sleep(0)


@settings(max_examples=40)
@given(st.lists(st.tuples(TEXT, HEADERS, st.booleans(), CUTS), min_size=1, max_size=4), CUTS)
def test_requests_reach_the_engine_as_they_were_sent(requests, cuts) -> None:
    async def test(here: House) -> None:
        here.open()
        wire, bodies = b"", []
        for text, headers, in_chunks, body_cuts in requests:
            body = b'{"model":"%b","text":%b}' % (
                MODEL.encode(),
                json.dumps(text, ensure_ascii=False).encode("utf-8", "replace"),
            )
            bodies.append(body)
            framing = b"Transfer-Encoding: chunked\r\n" if in_chunks else b"Content-Length: %d\r\n" % len(body)
            wire += f"POST {CHAT} HTTP/1.1\r\nHost: x\r\n".encode() + b"".join(headers) + framing + b"\r\n"
            wire += chunked([piece for piece in cut(body, body_cuts) if piece]) if in_chunks else body
        wire += b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        reader, writer = await here.raw(b"")
        await in_pieces(writer.write, wire, cuts)
        answers = Answers(await asyncio.wait_for(reader.read(), 10)).all
        writer.close()
        assert answers == [*((200, body) for body in bodies), (200, b'{"status":"ok"}')]
        assert [exchange.body for exchange in here.upstream.exchanges] == bodies

    live(test)


@settings(max_examples=40)
@given(st.lists(st.tuples(st.lists(TEXT, min_size=1, max_size=5), st.booleans(), CUTS, CUTS), min_size=1, max_size=3))
def test_answers_reach_the_client_as_the_engine_cut_them(said) -> None:
    async def test(here: House) -> None:
        wires, bodies = [], []
        for texts, in_chunks, body_cuts, cuts in said:
            body = "".join(f"data: {text}é🦙\n\n" for text in texts).encode()
            bodies.append(body)
            if in_chunks:  # also in the middle of a character
                framing, wire = (
                    b"transfer-encoding: chunked",
                    chunked([piece for piece in cut(body, body_cuts) if piece]),
                )
            else:
                framing, wire = b"content-length: %d" % len(body), body
            wires.append(
                (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + b"\r\n\r\n" + wire, cuts)
            )

        async def script(exchange: Exchange) -> None:
            wire, cuts = wires[len(here.upstream.exchanges) - 1]
            await in_pieces(exchange.send, wire, cuts)

        here.upstream.script = script
        here.open()
        for body in bodies:
            assert (await here.chat()).content == body
        assert here.upstream.connections == 1

    live(test)
