"""What could be read in two ways is read by nobody."""

import asyncio
import json

import pytest

from tests.gateway.house import CHAT, MODEL, House, live, post, until
from tests.gateway.upstream import Exchange
from tests.gateway.wire.corpus import BROKEN_ANSWERS, SMUGGLING


def test_such_a_request_is_a_400_that_closes_and_reaches_no_engine() -> None:
    async def test(here: House) -> None:
        here.open()
        smuggled = post(b'{"model":"tiny","smuggled":true}', headers="")
        for name, request in SMUGGLING.items():
            for step in (len(request), 1):
                reader, writer = await here.raw(b"")
                for start in range(0, len(request), step):
                    writer.write(request[start : start + step])
                    if step == 1 and start < 200:
                        await asyncio.sleep(0)
                writer.write(smuggled)
                whole = await asyncio.wait_for(reader.read(), 10)
                writer.close()
                head, _, body = whole.partition(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 400 "), (name, step, whole)
                assert b"\r\nconnection: close" in head, name
                error = json.loads(body)["error"]  # and nothing behind it
                assert (error["code"], error["type"]) == ("malformed_request", "invalid_request_error"), name
                assert here.upstream.exchanges == [], name

    live(test)


@pytest.mark.parametrize("method", ["TRACE", "BREW", "PROPFIND"])
def test_a_method_that_nobody_knows_is_a_501(method: str) -> None:
    async def test(here: House) -> None:
        for target in (CHAT, "/livez"):
            reader, writer = await here.raw(f"{method} {target} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
            answer = await asyncio.wait_for(reader.read(), 10)
            writer.close()
            assert answer.startswith(b"HTTP/1.1 501 ")
            assert b'"code":"unknown_method"' in answer

    live(test)


@pytest.mark.parametrize("headers", [b"x: " + b"a" * 70_000 + b"\r\n", b"x: a\r\n" * 101, b"x: a\r\n" * 20_000])
@pytest.mark.parametrize("ended", [True, False])
def test_too_many_or_too_long_headers_are_a_431(headers: bytes, ended: bool) -> None:
    async def test(here: House) -> None:
        here.open()
        request = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\n".encode() + headers + (b"\r\n" if ended else b"")
        if not ended and len(headers) < 64 * 1024:
            return  # that may still become a request
        reader, writer = await here.raw(request)
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert b'"code":"headers_too_large"' in answer

    live(test)


def test_a_client_cannot_take_away_what_vllama_says() -> None:
    async def test(here: House) -> None:
        here.open()
        named = "connection: close, content-length, host, x-vllama-state\r\n"
        reader, writer = await here.raw(post(b'{"model":"tiny"}', headers=named))
        assert b"\r\nx-vllama-state: hit\r\n" in await reader.read()
        writer.close()
        (exchange,) = here.upstream.exchanges
        assert exchange.header("host") == f"127.0.0.1:{here.upstream.port}"
        assert exchange.body == b'{"model":"%s"}' % MODEL.encode()

    live(test)


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("name", BROKEN_ANSWERS)
def test_such_an_answer_is_a_502_of_which_nothing_passes(name: str, cut: bool) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            said = BROKEN_ANSWERS[name]
            step = 1 if cut and len(said) < 500 else 30_000
            for start in range(0, len(said), step):
                if exchange.transport.is_closing():
                    return
                exchange.send(said[start : start + step])
                await asyncio.sleep(0)
            await exchange.gone.wait()

        here.upstream.script = script
        here.open()
        answer = await here.chat()
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_gone")
        assert len(here.upstream.exchanges) == 1

    live(test)


@pytest.mark.parametrize("rubbish", [b"zz\r\n", b"5\r\nabcdefgh", b"\x00", b"1;" + b"x" * 9999])
def test_an_answer_whose_chunks_break_is_cut_before_the_rubbish(rubbish: bytes) -> None:
    async def test(here: House) -> None:
        seen = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            exchange.chunk(b"data: 1\n\n")
            await seen.wait()
            exchange.send(rubbish)
            await exchange.gone.wait()

        here.upstream.script = script
        here.open()
        reader, writer = await here.raw(post(b'{"model":"tiny"}'))
        await reader.readuntil(b"9\r\ndata: 1\n\n\r\n")
        seen.set()
        assert rubbish not in await asyncio.wait_for(reader.read(), 10)
        writer.close()

    live(test)


def test_what_an_engine_says_behind_its_answer_goes_to_nobody() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.send(
                b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
            )

        here.upstream.script = script
        here.open()
        for _ in range(3):
            assert (await here.chat()).content == b"{}"
        assert [exchange.connection for exchange in here.upstream.exchanges] == [1, 2, 3]

    live(test)


def test_what_an_engine_says_unasked_closes_its_connection() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.answer(b"{}")
            await until(lambda: here.in_flight == 0)
            exchange.answer(b"evil")

        here.upstream.script = script
        here.open()
        for _ in range(3):
            assert (await here.chat()).content == b"{}"
            await asyncio.wait_for(here.upstream.exchanges[-1].gone.wait(), 10)

    live(test)


def test_one_date_one_server_and_nobody_elses_word_on_waiting() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            said = (
                "Date: a\r\nDATE: b\r\nServer: u\r\nserver: v\r\nX-Vllama-State: lie\r\nKeep-Alive: 5\r\nTrailer: x\r\n"
            )
            exchange.answer(b"{}", headers=said)

        here.open()
        answers = [await here.chat(), await here.http.get("/livez"), await here.http.get("/sleep")]
        here.upstream.script = script
        answers.append(await here.chat())
        for answer in answers:
            assert len(answer.headers.get_list("date")) == len(answer.headers.get_list("server")) == 1
        assert answers[-1].headers.get_list("x-vllama-state") == ["hit"]
        assert (answers[-1].headers["date"], answers[-1].headers["server"]) == ("a", "u")
        assert not {"keep-alive", "trailer"} & set(answers[-1].headers)

    live(test)
