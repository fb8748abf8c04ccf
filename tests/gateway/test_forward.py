"""What the engine gets and what the client gets, byte for byte."""

import asyncio
import gzip
import json

import httpx
import pytest

from tests.gateway.house import CHAT, MODEL, House, live, post, until
from tests.gateway.upstream import Exchange, echo
from vllama.domain.spec import ModelSpec
from vllama.gateway.wire.limits import Limits

EVENTS = (
    'data: {"choices":[{"delta":{"content":"héé 🦙"}}]}\n\n: a comment\r\n\r\ndata: {"x": 1.10}\n\ndata: [DONE]\n\n'
).encode()
ODD_BODY = b' {"messages" : [ {"model":"other"} ],\n"temperature":1.10,"model"\t:"%s","temperature":1.10 }\r\n'


def test_the_body_arrives_as_it_was_sent_and_the_answer_too() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.answer(
                b"\x00\xff{not json", headers="Content-Type: x/y\r\nX-Mine: a\r\nx-mine: b\r\nServer: u\r\n"
            )

        here.upstream.script = script
        here.open()
        body = ODD_BODY % MODEL.replace("/", "\\/").encode()  # the same name, spelled its own way
        answer = await here.http.post(CHAT, content=body, headers={"x-mine": "k"})
        (exchange,) = here.upstream.exchanges
        assert (exchange.line, exchange.body) == (f"POST {CHAT} HTTP/1.1", body)
        assert exchange.header("x-mine") == "k"
        assert exchange.header("host") == f"127.0.0.1:{here.upstream.port}"
        assert answer.content == b"\x00\xff{not json"
        assert answer.headers.get_list("x-mine") == ["a", "b"]
        assert (answer.headers["content-type"], answer.headers["server"]) == ("x/y", "u")
        assert answer.headers["content-length"] == str(len(answer.content))

    live(test)


def test_the_engine_gets_no_header_that_the_client_did_not_send() -> None:
    async def test(here: House) -> None:
        here.open()
        reader, writer = await here.raw(
            post(b'{"model":"%s"}' % MODEL.encode(), headers="connection: close, x-a\r\nx-a: 1\r\n")
        )
        await reader.read()
        writer.close()
        (exchange,) = here.upstream.exchanges
        assert {key.lower() for key, _ in exchange.headers} == {"host", "content-length"}

    live(test)


@pytest.mark.parametrize("name", ["tiny", "small one"])
def test_an_alias_is_replaced_and_nothing_else_is(name: str) -> None:
    async def test(here: House) -> None:
        here.open(served="org/Tiny-1B")
        await here.http.post(CHAT, content=ODD_BODY % name.encode())
        assert here.upstream.exchanges[0].body == ODD_BODY % MODEL.encode()

    live(test)


@pytest.mark.parametrize("path", [CHAT, "/v1/messages", "/tokenize"])
def test_an_adapter_keeps_its_name(path: str) -> None:
    async def test(here: House) -> None:
        here.open(served="org/Tiny-1B")
        await here.http.post(path, content=ODD_BODY % b"sql")
        assert here.upstream.exchanges[0].body == ODD_BODY % b"sql"

    live(test, ModelSpec(model=MODEL, aliases=("tiny",), lora=(("chat", "/c"), ("sql", "/s"))))


def test_a_long_body_is_renamed_beside_the_loop() -> None:
    async def test(here: House) -> None:
        here.open()
        image = b"A" * 5_000_000
        answer = await here.http.post(CHAT, content=b'{"model":"tiny","image":"%s"}' % image)
        assert answer.content == b'{"model":"%s","image":"%s"}' % (MODEL.encode(), image)

    live(test)


@pytest.mark.parametrize("step", [1, 7, 10_000])
def test_a_stream_arrives_byte_for_byte_however_it_is_cut(step: int) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            for start in range(0, len(EVENTS), step):
                exchange.chunk(EVENTS[start : start + step])
                await asyncio.sleep(0)
            exchange.end_chunks()

        here.upstream.script = script
        here.open()
        answer = await here.chat()
        assert answer.content == EVENTS
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"

    live(test)


def test_each_piece_is_passed_on_before_the_next_one_exists() -> None:
    async def test(here: House) -> None:
        following = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            for start in range(len(EVENTS)):
                exchange.chunk(EVENTS[start : start + 1])
                await following.wait()
                following.clear()
            exchange.end_chunks()

        here.upstream.script = script
        here.open()
        got = b""
        async with here.http.stream("POST", CHAT, json={"model": MODEL}) as answer:
            async for piece in answer.aiter_raw():
                got += piece
                assert here.in_flight == 1
                following.set()
        assert got == EVENTS

    live(test)


def test_a_compressed_answer_stays_compressed() -> None:
    packed = gzip.compress(b"hello" * 100)

    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.answer(packed, headers="content-encoding: gzip\r\n")

        here.upstream.script = script
        here.open()
        async with here.http.stream("POST", CHAT, json={"model": MODEL}) as answer:
            assert b"".join([piece async for piece in answer.aiter_raw()]) == packed

    live(test)


@pytest.mark.parametrize("status", [201, 307, 400, 404, 422, 429, 500, 503])
def test_the_status_of_the_engine_is_the_status_of_the_answer(status: int) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.answer(b'{"error":{"message":"too long"}}', status=status)

        here.upstream.script = script
        here.open()
        answer = await here.chat({"model": MODEL, "stream": True})
        assert (answer.status_code, answer.content) == (status, b'{"error":{"message":"too long"}}')
        assert len(here.upstream.exchanges) == 1

    live(test)


@pytest.mark.parametrize("query", ["a=1&b=%2f..%20&c=é&'[]|", "x", "a=/../sleep"])
def test_the_query_passes(query: str) -> None:
    sent = query.encode("ascii", "ignore").decode()

    async def test(here: House) -> None:
        here.open()
        reader, writer = await here.raw(post(b'{"model":"tiny"}', target=f"/tokenize?{sent}"))
        assert (await reader.read()).startswith(b"HTTP/1.1 200 ")
        writer.close()
        assert here.upstream.exchanges[0].line == f"POST /tokenize?{sent} HTTP/1.1"

    live(test)


def test_a_request_in_chunks_is_taken() -> None:
    async def test(here: House) -> None:
        here.open()

        async def pieces() -> object:
            for piece in (b'{"mod', b'el":"ti', b'ny"}'):
                yield piece

        answer = await here.http.post(CHAT, content=pieces())  # type: ignore[arg-type]
        assert answer.json() == {"model": MODEL}
        assert here.upstream.exchanges[0].header("transfer-encoding") is None

    live(test)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("content-length: 1001\r\n", b""),  # before the first byte of it
        ("transfer-encoding: chunked\r\n", b"3e9\r\n" + b"x" * 1001 + b"\r\n"),  # before its end
    ],
)
def test_a_body_over_the_limit_is_refused(headers: str, body: bytes) -> None:
    async def test(here: House) -> None:
        here.open()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n".encode()
        reader, writer = await here.raw(head + body)
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'"code":"body_too_large"' in answer
        assert here.upstream.exchanges == []

    live(test, limits=Limits(body_bytes=1000))


def test_an_engine_that_is_not_there_is_a_502() -> None:
    async def test(here: House) -> None:
        here.upstream.port = 1
        here.open()
        answer = await here.chat()
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_gone")
        assert answer.headers["retry-after"] == "1"
        assert MODEL in answer.json()["error"]["message"]

    live(test)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\ncontent-ty", b"rubbish\r\n\r\n"])
def test_an_engine_that_goes_before_its_answer_is_a_502_and_is_asked_once(said: bytes) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.send(said)
            exchange.close()

        here.upstream.script = script
        here.open()
        answer = await here.chat()
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_gone")
        assert len(here.upstream.exchanges) == 1

    live(test)


@pytest.mark.parametrize("recovers", [True, False])
def test_a_connection_that_went_stale_is_replaced_once(recovers: bool) -> None:
    async def test(here: House) -> None:
        here.open()
        assert (await here.chat()).status_code == 200

        async def script(exchange: Exchange) -> None:
            if recovers and exchange.connection > 1:
                await echo(exchange)
            else:
                exchange.close()

        here.upstream.script = script
        answer = await here.chat()
        assert answer.status_code == (200 if recovers else 502)
        assert [exchange.connection for exchange in here.upstream.exchanges] == [1, 1, 2]

    live(test)


@pytest.mark.parametrize("sent", [b"", b"data: {}\n\n", b'data: {"cho'])
def test_a_stream_that_breaks_ends_with_an_error_event_and_no_done(sent: bytes) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            if sent:
                exchange.chunk(sent)
            exchange.close()

        here.upstream.script = script
        here.open()
        answer = await here.chat()
        assert answer.status_code == 200
        assert answer.content.startswith(sent)
        last = answer.content.removeprefix(sent).strip()
        assert last.startswith(b"data: ")
        assert json.loads(last.removeprefix(b"data: "))["error"]["code"] == "engine_gone"
        assert b"[DONE]" not in answer.content

    live(test)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_stream_that_breaks_behind_its_last_word_is_whole(version: str) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            exchange.chunk(EVENTS)
            exchange.close()

        here.upstream.script = script
        here.open()
        request = post(b'{"model":"%s"}' % MODEL.encode(), headers="connection: close\r\n")
        reader, writer = await here.raw(request.replace(b"HTTP/1.1", f"HTTP/{version}".encode()))
        _, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert body == (EVENTS if version == "1.0" else b"%x\r\n%b\r\n0\r\n\r\n" % (len(EVENTS), EVENTS))
        assert here.in_flight == 0

    live(test)


@pytest.mark.parametrize("framing", ["content-length: 100\r\n", "transfer-encoding: chunked\r\n"])
def test_any_other_answer_that_breaks_is_seen_to_be_cut(framing: str) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.send(f"HTTP/1.1 200 OK\r\n{framing}\r\n5\r\n12345\r\n".encode())
            await until(lambda: here.in_flight == 1)
            exchange.close()

        here.upstream.script = script
        here.open()
        with pytest.raises(httpx.RemoteProtocolError):
            await here.chat()

    live(test)


def test_nothing_is_answered_before_the_engine_answered() -> None:
    async def test(here: House) -> None:
        asked, answering = asyncio.Event(), asyncio.Event()

        async def script(exchange: Exchange) -> None:
            asked.set()
            await answering.wait()
            exchange.answer(b"{}", status=404)

        here.upstream.script = script
        here.open()
        reader, writer = await here.raw(post(b'{"model":"tiny","stream":true}'))
        await asked.wait()
        assert here.in_flight == 1
        first = asyncio.ensure_future(reader.read(1))
        await here.http.get("/livez")  # a whole exchange beside it: had anything been answered, it would be there
        assert not first.done()
        answering.set()
        assert (await first) + (await reader.readline()) == b"HTTP/1.1 404 Not Found\r\n"
        writer.close()

    live(test)


def test_a_client_without_keep_alive_and_one_of_http_1_0_are_served() -> None:
    async def test(here: House) -> None:
        here.open()
        body = b'{"model":"tiny"}'
        reader, writer = await here.raw(b"POST /score HTTP/1.0\r\ncontent-length: 16\r\n\r\n" + body)
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b'\r\n\r\n{"model":"%s"}' % MODEL.encode())

    live(test)
