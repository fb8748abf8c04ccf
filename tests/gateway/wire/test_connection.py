"""One connection, many requests: for engines and for vllama itself, in order, and closed when it should be."""

import asyncio
import json

import httptools
import pytest

from tests.gateway.house import CHAT, MODEL, House, live, post, until
from tests.gateway.upstream import Exchange

BODY = b'{"model":"%s"}' % MODEL.encode()
CHAT_REQUEST = post(BODY, headers="")
LIVEZ = b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n"
STATUS = b"GET /admin/status HTTP/1.1\r\nhost: localhost\r\n\r\n"
UNKNOWN = post(b'{"model":"nope"}', headers="")
CHUNKED = b"POST /score HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
    len(BODY),
    BODY,
)
SLEEP = post(b'{"level":1}', target="/admin/models/tiny/sleep", headers="content-type: application/json\r\n")
SLEEP = SLEEP.replace(b"host: x", b"host: localhost")
CLOSE = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"
PREFLIGHT = f"HEAD {CHAT} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


class Answers:
    """Statuses and bodies, in order."""

    def __init__(self, whole: bytes, *, heads: tuple[int, ...] = ()) -> None:
        self.all: list[tuple[int, bytes]] = []
        while whole:
            self.ended, self.body = False, b""
            head, _, rest = whole.partition(b"\r\n\r\n")
            parser = httptools.HttpResponseParser(self)
            parser.feed_data(head + b"\r\n\r\n")
            size = next((int(v) for k, v in self.headers if k == b"content-length"), None)
            if len(self.all) in heads:
                rest_used = 0
            elif size is not None:
                rest_used, self.body = size, rest[:size]
            elif (b"transfer-encoding", b"chunked") in self.headers:
                end = rest.index(b"0\r\n\r\n") + 5
                rest_used = end
                parser.feed_data(rest[:end])
            else:
                rest_used = 0
            self.all.append((parser.get_status_code(), self.body))
            whole = rest[rest_used:]

    def on_message_begin(self) -> None:
        self.headers: list[tuple[bytes, bytes]] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))

    def on_body(self, body: bytes) -> None:
        self.body += body


async def told(
    here: House, requests: list[bytes], *, step: int = 100_000, heads: tuple[int, ...] = ()
) -> list[tuple[int, bytes]]:
    """All answers to `requests` and one that closes, sent in pieces of `step` bytes."""
    reader, writer = await here.raw(b"")
    whole = b"".join([*requests, CLOSE])
    for start in range(0, len(whole), step):
        writer.write(whole[start : start + step])
        await asyncio.sleep(0)
    answers = Answers(await asyncio.wait_for(reader.read(), 10), heads=heads).all
    writer.close()
    assert answers.pop() == (200, b'{"status":"ok"}')
    return answers


@pytest.mark.parametrize("step", [1, 7, 100_000])
def test_requests_to_engines_and_to_vllama_are_answered_in_their_order(step: int) -> None:
    async def test(here: House) -> None:
        here.open()
        requests = [CHAT_REQUEST, LIVEZ, UNKNOWN, CHUNKED, SLEEP, PREFLIGHT, STATUS, CHAT_REQUEST, CHAT_REQUEST, LIVEZ]
        answers = await told(here, requests, step=step, heads=(5,))
        assert [status for status, _ in answers] == [200, 200, 404, 200, 202, 405, 200, 200, 200, 200]
        assert answers[0][1] == answers[3][1] == answers[8][1] == BODY
        assert json.loads(answers[2][1])["error"]["code"] == "model_not_found"
        assert json.loads(answers[6][1])["version"] == "1.2.3"
        assert [exchange.body for exchange in here.upstream.exchanges] == [BODY] * 4
        assert [name for name, *_ in here.control.asked] == ["sleep"]
        assert here.upstream.connections == 1

    live(test)


def test_many_that_are_refused_at_once_are_all_answered() -> None:
    async def test(here: House) -> None:
        answers = await told(here, [UNKNOWN] * 3000)
        assert [status for status, _ in answers] == [404] * 3000

    live(test)


def test_a_pipelined_request_waits_for_the_slow_one_before_it() -> None:
    async def test(here: House) -> None:
        answering = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            await answering.wait()
            exchange.answer(b"slow")

        here.upstream.script = script
        here.open()
        reader, writer = await here.raw(CHAT_REQUEST + LIVEZ + CLOSE)
        await until(lambda: here.upstream.exchanges)
        await here.http.get("/livez")
        answering.set()
        assert [body for _, body in Answers(await reader.read()).all] == [b"slow"] + [b'{"status":"ok"}'] * 2
        writer.close()

    live(test)


@pytest.mark.parametrize("line_break", [b"\r\n", b"\r\n\r\n"])
def test_empty_lines_between_requests_are_overlooked(line_break: bytes) -> None:
    async def test(here: House) -> None:
        here.open()
        for step in (1, 100_000):
            answers = await told(here, [CHAT_REQUEST + line_break, line_break, LIVEZ + line_break], step=step)
            assert [status for status, _ in answers] == [200, 200]

    live(test)


@pytest.mark.parametrize("target", [CHAT, "/livez", "/nothing"])
def test_expect_is_answered_before_the_body_comes(target: str) -> None:
    async def test(here: House) -> None:
        here.open()
        head, body = post(BODY, target=target, headers="expect: 100-continue\r\nconnection: close\r\n"), BODY
        reader, writer = await here.raw(head.removesuffix(body))
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(body)
        (answer,) = Answers(await reader.read()).all
        assert answer[0] == {CHAT: 200, "/livez": 405, "/nothing": 404}[target]
        writer.close()
        for exchange in here.upstream.exchanges:
            assert exchange.header("expect") is None

    live(test)


def test_expect_of_a_body_that_is_too_long_is_answered_by_that() -> None:
    async def test(here: House) -> None:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: {1 << 40}\r\n\r\n"
        reader, writer = await here.raw(head.encode())
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 413 ")
        writer.close()
        reader, writer = await here.raw(head.replace("100-continue", "wonders").encode())
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 417 ")
        writer.close()

    live(test)


def test_who_uploads_too_much_reads_the_413_although_it_goes_on_sending() -> None:
    async def test(here: House) -> None:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {1 << 40}\r\n\r\n".encode()
        reader, writer = await here.raw(head)

        async def upload() -> None:
            while not writer.is_closing():
                writer.write(b"x" * 100_000)
                await writer.drain()

        uploading = asyncio.ensure_future(upload())
        answer = await asyncio.wait_for(reader.read(), 10)
        assert b'"code":"body_too_large"' in answer
        writer.close()
        await asyncio.gather(uploading, return_exceptions=True)

    live(test)


@pytest.mark.parametrize("status", [204, 304])
@pytest.mark.parametrize("length", ["", "content-length: 5\r\n"])
def test_an_answer_without_a_body_has_none(status: int, length: str) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.send(f"HTTP/1.1 {status} X\r\n{length}\r\n".encode())

        here.upstream.script = script
        here.open()
        answers = await told(here, [CHAT_REQUEST, CHAT_REQUEST], heads=(0, 1))
        assert answers == [(status, b"")] * 2
        assert here.upstream.connections == 1

    live(test)


def test_what_an_engine_says_before_its_answer_is_kept_back() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n")
            exchange.answer(b"{}")

        here.upstream.script = script
        here.open()
        assert await told(here, [CHAT_REQUEST, CHAT_REQUEST]) == [(200, b"{}")] * 2

    live(test)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_an_engine_that_ends_its_answer_by_closing(version: str) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.send(f"HTTP/{version} 200 OK\r\n\r\nhello".encode())
            await until(lambda: here.in_flight == 1)
            exchange.send(b" world")
            exchange.close()

        here.upstream.script = script
        here.open()
        reader, writer = await here.raw(CHAT_REQUEST)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert body == b"hello world"
        assert b"connection: close" in head
        assert (await here.chat()).content == b"hello world"

    live(test)


def test_an_old_client_gets_a_stream_without_chunks_and_its_end() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            exchange.chunk(b"data: 1\n\n")
            exchange.chunk(b"data: 2\n\n")
            exchange.end_chunks()

        here.upstream.script = script
        here.open()
        reader, writer = await here.raw(CHAT_REQUEST.replace(b"HTTP/1.1", b"HTTP/1.0"))
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert body == b"data: 1\n\ndata: 2\n\n"
        assert b"transfer-encoding" not in head

    live(test)


def test_a_stop_of_the_server_lets_an_answer_finish_and_closes_behind_it() -> None:
    async def test(here: House) -> None:
        answering = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            await answering.wait()
            exchange.answer(b"whole")

        here.upstream.script = script
        here.open()
        reader, writer = await here.raw(CHAT_REQUEST)
        idle_reader, idle_writer = await here.raw(b"")
        await until(lambda: here.upstream.exchanges)
        here.stop_listening()
        assert await asyncio.wait_for(idle_reader.read(), 10) == b""
        answering.set()
        whole = await asyncio.wait_for(reader.read(), 10)
        assert whole.endswith(b"\r\n\r\nwhole")
        assert b"connection: close" in whole
        writer.close()
        idle_writer.close()

    live(test)
