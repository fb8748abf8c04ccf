"""The data path over TLS: the same, but for the end of a connection, which has no half-close there."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import certificates
from tests.gateway.house import CHAT, MODEL, House, live, post, until
from tests.gateway.upstream import Exchange
from vllama.controller.events import Events
from vllama.domain.units import MIB
from vllama.gateway.tls import Certificate
from vllama.gateway.wire.limits import Limits

BODY = b'{"model":"%s"}' % MODEL.encode()
PIECE = b"data: " + b"x" * 99_992 + b"\n\n"
QUICK = Limits(linger_s=0.3)

Live = Callable[..., None]


@pytest.fixture
def live_tls(tmp_path: Path) -> Live:
    certificate = Certificate(*certificates.write(tmp_path, certificates.issued()), events=Events())

    def run(test: Callable[[House], Coroutine[Any, Any, None]], **doors: Any) -> None:
        live(test, tls=(certificate.context, certificates.trusting()), **doors)

    return run


def test_requests_to_engines_and_to_vllama_and_streams(live_tls: Live) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            exchange.chunk(b"data: 1\n\n")
            exchange.chunk(b"data: 2\n\n")
            exchange.end_chunks()

        here.open()
        assert (await here.chat()).json() == {"model": MODEL}
        assert (await here.http.get("/livez")).json() == {"status": "ok"}
        assert (await here.http.get("/admin/status")).status_code == 200
        assert (await here.chat({"model": "nope"})).status_code == 404
        here.upstream.script = script
        assert (await here.chat()).content == b"data: 1\n\ndata: 2\n\n"
        assert len(here.server.server_state.connections) == 1

    live_tls(test)


def test_a_client_that_stalls_pauses_the_engine_and_then_gets_it_all(live_tls: Live) -> None:
    async def test(here: House) -> None:
        most = 0
        paused = asyncio.Event()

        def held() -> int:
            return sum(one.transport.get_write_buffer_size() for one in here.server.server_state.connections)  # type: ignore[attr-defined]

        async def script(exchange: Exchange) -> None:
            nonlocal most
            exchange.start_events()
            for _ in range(200):
                exchange.chunk(PIECE)
                while exchange.transport.get_write_buffer_size() > MIB and not exchange.transport.is_closing():
                    paused.set()
                    await asyncio.sleep(0)
                    most = max(most, held())
            exchange.end_chunks()

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
        assert size > 200 * len(PIECE)
        assert most < 2 * MIB

    live_tls(test)


@pytest.mark.parametrize("leave", ["close", "abort"])
def test_a_client_that_goes_takes_its_request_along(live_tls: Live, leave: str) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            exchange.chunk(b"data: 1\n\n")
            await exchange.gone.wait()

        here.upstream.script = script
        here.open()
        reader, writer = await here.raw(post(BODY))
        await reader.readuntil(b"data: 1\n\n")
        getattr(writer.transport, leave)()
        await asyncio.wait_for(here.upstream.exchanges[0].gone.wait(), 10)
        await until(lambda: not here.server.server_state.connections)

    live_tls(test)


def test_who_says_that_it_sends_no_more_has_left(live_tls: Live) -> None:
    """With close_notify, and the socket still open: what half-close is without TLS."""

    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.gone.wait()

        here.upstream.script = script
        here.open()
        forwarded, ended = threading.Event(), threading.Event()

        def half_close() -> None:
            with socket.create_connection(("127.0.0.1", here.port)) as plain:
                connection = certificates.trusting().wrap_socket(plain, server_hostname="localhost")
                connection.sendall(post(BODY))
                forwarded.wait(10)  # who leaves together with the request is not forwarded at all
                connection.unwrap()
                ended.wait(10)
                connection.close()

        leaving = asyncio.create_task(asyncio.to_thread(half_close))
        await until(lambda: here.upstream.exchanges)
        forwarded.set()
        await asyncio.wait_for(here.upstream.exchanges[0].gone.wait(), 10)
        await until(lambda: here.in_flight == 0)
        ended.set()
        await leaving

    live_tls(test)


def test_who_uploads_too_much_reads_the_413_although_it_goes_on_sending(live_tls: Live) -> None:
    async def test(here: House) -> None:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-length: {1 << 40}\r\n\r\n".encode()
        reader, writer = await here.raw(head)

        async def upload() -> None:
            while not writer.is_closing():
                writer.write(b"x" * 100_000)
                await writer.drain()

        uploading = asyncio.ensure_future(upload())
        answer = await asyncio.wait_for(reader.read(), 10)
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b'"code":"body_too_large"' in answer
        writer.close()
        await asyncio.gather(uploading, return_exceptions=True)

    live_tls(test)


def test_the_last_answer_of_a_connection_is_whole(live_tls: Live) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.answer(b"x" * 5_000_000)

        here.upstream.script = script
        here.open()
        reader, writer = await here.raw(post(BODY))
        whole = await asyncio.wait_for(reader.read(), 10)
        assert whole.endswith(b"\r\n\r\n" + b"x" * 5_000_000)
        writer.close()

    live_tls(test)


def test_a_client_that_does_not_answer_the_end_is_let_go(live_tls: Live) -> None:
    """It neither reads nor closes: TLS would wait for its close_notify."""

    async def test(here: House) -> None:
        reader, idle = await here.raw(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"ok")
        idle.transport.pause_reading()  # type: ignore[attr-defined]
        _, last = await here.raw(b"GET /livez HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        last.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: len(here.server.server_state.connections) == 2)
        await until(lambda: len(here.server.server_state.connections) == 1)
        here.stop_listening()
        await until(lambda: not here.server.server_state.connections)
        last.transport.abort()
        idle.transport.abort()

    live_tls(test, limits=QUICK)


def test_who_does_not_speak_tls_gets_nothing_and_does_no_harm(live_tls: Live) -> None:
    async def test(here: House) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
        writer.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")
        assert b"HTTP" not in await asyncio.wait_for(reader.read(), 10)
        writer.close()
        strangers = ssl.create_default_context()
        async with httpx.AsyncClient(verify=strangers, trust_env=False) as client:
            with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
                await client.get(f"https://localhost:{here.port}/livez")
        assert (await here.http.get("/livez")).status_code == 200

    live_tls(test)


@pytest.mark.parametrize(("offered", "agreed"), [(["h2", "http/1.1"], "http/1.1"), (["h2"], None), ([], None)])
def test_http_2_is_never_agreed_on(live_tls: Live, offered: list[str], agreed: str | None) -> None:
    async def test(here: House) -> None:
        context = certificates.trusting()
        if offered:
            context.set_alpn_protocols(offered)
        connect = partial(asyncio.open_connection, "127.0.0.1", here.port, server_hostname="localhost")
        reader, writer = await connect(ssl=context)
        assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == agreed
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 400 ")
        writer.close()

    live_tls(test)
