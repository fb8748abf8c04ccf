"""Signs of life for the client of a stream while its model comes up, and what becomes of the stream then."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from tests.gateway.house import CHAT, MODEL, House, live, post, until
from tests.gateway.upstream import Exchange
from vllama.controller.demand import Failure
from vllama.planner.outlook import Doing, Outlook

STREAM = b'{"model":"%s","stream":true}' % MODEL.encode()
OFTEN = "x-keep-alive: 0.1\r\nconnection: close\r\n"
COMMENT = b": vllama loading " + MODEL.encode() + b", about 40s\n\n"
FAILED = Failure(status=503, code="engine_failed", message="CUDA out of memory.", retry_after_s=10.0)
Client = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def events(exchange: Exchange) -> None:
    exchange.start_events()
    exchange.chunk(b"data: 1\n\ndata: 2")
    await asyncio.sleep(0)
    exchange.chunk(b"\n\n")
    exchange.chunk(b"data: [DONE]\n\n")
    exchange.end_chunks()


async def begun(here: House, request: bytes) -> tuple[bytes, Client]:
    """The head, once the first comment has come after it, and the connection."""
    here.control.board._ready_in = lambda _: Outlook(doing=Doing.LOADING, ready_in_s=39.5)
    reader, writer = await here.raw(request)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    await asyncio.wait_for(reader.readuntil(COMMENT), 10)
    assert here.waiting == 1
    return head, (reader, writer)


async def rest_of(client: Client) -> bytes:
    reader, writer = client
    rest = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return rest


def unchunked(data: bytes) -> bytes:
    """Without comments. Fails where the chunks are not whole, or not ended."""
    whole = b""
    data = data.removeprefix(b"\r\n")  # of the comment that was read
    while True:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        piece, data = data[:length], data[length:]
        assert data.startswith(b"\r\n")
        data = data[2:]
        if not length:
            assert data == b""
            return whole
        whole += b"" if piece == COMMENT else piece


def error_in(events: bytes) -> dict[str, str]:
    """Of the last event."""
    *_, last, nothing = events.split(b"\n\n")
    assert nothing == b""
    error: dict[str, str] = json.loads(last.removeprefix(b"data: "))["error"]
    return error


def test_the_head_and_comments_come_while_it_waits_and_then_the_stream() -> None:
    async def test(here: House) -> None:
        here.upstream.script = events
        head, client = await begun(here, post(STREAM, headers=OFTEN))
        assert head.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream")
        for line in (b"x-vllama-state: queued", b"transfer-encoding: chunked", b"connection: close", b"server: vllama"):
            assert line in head.split(b"\r\n")
        await client[0].readuntil(COMMENT)  # and again
        here.open()
        assert unchunked(await rest_of(client)) == b"data: 1\n\ndata: 2\n\ndata: [DONE]\n\n"
        assert here.upstream.exchanges[0].header("x-keep-alive") is None

    live(test)


def test_the_connection_serves_the_next_request_too() -> None:
    async def test(here: House) -> None:
        here.upstream.script = events
        _, (reader, writer) = await begun(here, post(STREAM, headers="X-Keep-Alive: 0.1\r\n"))
        here.open()
        await asyncio.wait_for(reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n"), 10)
        writer.write(post(STREAM))
        assert b"x-vllama-state: hit" in await rest_of((reader, writer))

    live(test)


def test_an_old_client_gets_them_without_chunks() -> None:
    async def test(here: House) -> None:
        here.upstream.script = events
        request = post(STREAM, headers=OFTEN).replace(b"HTTP/1.1", b"HTTP/1.0")
        head, client = await begun(here, request)
        assert b"transfer-encoding" not in head
        here.open()
        rest = (await rest_of(client)).replace(COMMENT, b"")
        assert rest == b"data: 1\n\ndata: 2\n\ndata: [DONE]\n\n"

    live(test)


def test_a_load_that_fails_ends_it_with_an_event() -> None:
    async def test(here: House) -> None:
        _, client = await begun(here, post(STREAM, headers=OFTEN))
        here.control.board.fail_waiters(MODEL, FAILED)
        error = error_in(unchunked(await rest_of(client)))
        assert (error["code"], error["message"]) == ("engine_failed", "CUDA out of memory.")

    live(test)


async def refuses(exchange: Exchange) -> None:
    exchange.answer(b'{"error":{\n"message":"max_tokens is too large","code":"x"}}', status=400)


async def answers_no_events(exchange: Exchange) -> None:
    exchange.answer(b'{"error":{"message":"no stream here","code":"x"}}')


async def breaks_off(exchange: Exchange) -> None:
    exchange.start_events()
    exchange.chunk(b"data: 1\n\nda")
    exchange.close()


async def goes_at_once(exchange: Exchange) -> None:
    exchange.close()


async def answers_bytes(exchange: Exchange) -> None:
    exchange.answer(b"\xff\xfe")


async def answers_endlessly(exchange: Exchange) -> None:
    exchange.answer(b"x" * 3_000_000)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        (refuses, "max_tokens is too large"),
        (answers_no_events, "no stream here"),
        (breaks_off, "broke off in the middle"),
        (goes_at_once, "went away before it answered"),
        (answers_bytes, "neither a stream of events"),
        (answers_endlessly, "neither a stream of events"),
    ],
)
def test_whatever_comes_instead_of_a_stream_is_told_in_an_event(
    script: Callable[[Exchange], Awaitable[None]], message: str
) -> None:
    async def test(here: House) -> None:
        here.upstream.script = script
        _, client = await begun(here, post(STREAM, headers=OFTEN))
        here.open()
        whole = unchunked(await rest_of(client)).replace(b'\ndata: "', b'"')
        assert message in error_in(whole)["message"]

    live(test)


@pytest.mark.parametrize("fails_at", ["load", "engine"])
@pytest.mark.parametrize(("target", "event"), [("/v1/messages", b"event: error\ndata: "), (CHAT, b"data: ")])
def test_errors_are_events_of_the_clients_dialect(fails_at: str, target: str, event: bytes) -> None:
    async def test(here: House) -> None:
        here.upstream.script = answers_no_stream_but_an_error
        _, client = await begun(here, post(STREAM, target=target, headers=OFTEN))
        if fails_at == "load":
            here.control.board.fail_waiters(MODEL, FAILED)
        else:
            here.open()
        assert unchunked(await rest_of(client)).startswith(event + b"{")

    async def answers_no_stream_but_an_error(exchange: Exchange) -> None:
        exchange.answer(b'{"type":"error","error":{"type":"invalid_request_error","message":"no"}}', status=400)

    live(test)


def test_who_is_served_before_the_first_comment_gets_the_engines_own_head() -> None:
    async def test(here: House) -> None:
        here.upstream.script = refuses
        waiting = asyncio.ensure_future(here.chat({"model": MODEL, "stream": True}, headers={"X-Keep-Alive": "60"}))
        await until(lambda: here.waiting == 1)
        here.open()
        answer = await waiting
        assert (answer.status_code, answer.headers["x-vllama-state"]) == (400, "started")

    live(test)


@pytest.mark.parametrize("asked", [{"model": MODEL}, {"model": MODEL, "stream": False}, {"model": MODEL, "stream": 1}])
def test_an_answer_without_a_stream_never_begins_before_its_engines(asked: dict[str, object]) -> None:
    async def test(here: House) -> None:
        waiting = asyncio.ensure_future(here.http.post(CHAT, json=asked, headers={"X-Keep-Alive": "0.1"}))
        await until(lambda: here.waiting == 1)
        reader, writer = await here.raw(post(STREAM, headers=OFTEN))  # came later, and has had its comment
        await asyncio.wait_for(reader.readuntil(b"\n\n"), 10)
        here.control.board.fail_waiters(MODEL, FAILED)
        assert (await waiting).status_code == 503
        await rest_of((reader, writer))

    live(test)


@pytest.mark.parametrize("abruptly", [True, False])
def test_who_leaves_while_comments_come_is_out_of_the_queue(abruptly: bool) -> None:
    async def test(here: House) -> None:
        _, (_, writer) = await begun(here, post(STREAM, headers=OFTEN))
        if abruptly:
            writer.transport.abort()
        else:
            writer.close()
        await until(lambda: here.waiting == 0)
        assert here.upstream.exchanges == []

    live(test)


def test_who_leaves_in_the_stream_takes_it_along() -> None:
    async def script(exchange: Exchange) -> None:
        exchange.start_events()
        exchange.chunk(b"data: 1\n\n")
        await exchange.gone.wait()

    async def test(here: House) -> None:
        here.upstream.script = script
        _, (reader, writer) = await begun(here, post(STREAM, headers=OFTEN))
        here.open()
        await asyncio.wait_for(reader.readuntil(b"data: 1\n\n"), 10)
        writer.close()
        await asyncio.wait_for(here.upstream.exchanges[0].gone.wait(), 10)

    live(test)
