"""Engines on other machines: which key they see, and what becomes of a request when the network or a machine fails."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.gateway.access.test_log import log_to, read
from tests.gateway.house import CHAT, LIMITS, MODEL, SPEC, House, live, until
from tests.gateway.upstream import Exchange
from tests.gateway.wire.ear import a_mouth, an_ear
from tests.waiting import wait_until
from vllama.controller.demand import Endpoint
from vllama.gateway.wire import far

KEY = "the-engines-own-key-0123456789abcdefgh"
CLIENTS = {"authorization": "Bearer sk-mine", "x-api-key": "sk-mine"}
SECOND = f"{MODEL}#2"


def at(port: int, engine_id: str = "e1", *, key: str | None = KEY) -> Endpoint:
    return Endpoint(engine_id=engine_id, host="127.0.0.1", port=port, served_name=MODEL, api_key=key, far=True)


@pytest.fixture
def nobody() -> Iterator[int]:
    """A port at which nobody listens, and nobody else will."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def shown(exchange: Exchange) -> list[tuple[str, str]]:
    return [(name, value) for name, value in exchange.headers if name.lower() in {"authorization", "x-api-key"}]


@pytest.mark.parametrize(("key", "wanted"), [(KEY, [("authorization", f"Bearer {KEY}")]), (None, [])])
def test_it_sees_its_own_key_and_never_the_clients(key: str | None, wanted: list) -> None:
    async def test(here: House) -> None:
        here.control.board.open(MODEL, at(here.upstream.port, key=key))
        for _ in range(2):  # on a new connection, and on one that was used before
            await here.chat(headers=CLIENTS)
        said = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}], "stream": False}
        await here.http.post("/api/chat", json=said, headers=CLIENTS)
        assert [shown(exchange) for exchange in here.upstream.exchanges] == [wanted] * 3
        assert here.upstream.exchanges[0].header("host") == f"127.0.0.1:{here.upstream.port}"
        assert here.upstream.connections == 1

    live(test)


def test_a_websocket_shows_it_too() -> None:
    async def test(here: House) -> None:
        async with an_ear(here, opened=False) as ear:
            here.control.board.open(MODEL, at(ear.port))
            mouth = await a_mouth(here, "?model=tiny", more="Authorization: Bearer sk-mine\r\n")
            sent = ear.heads[0].decode().split("\r\n")
            assert [line for line in sent if line.lower().startswith("authorization")] == [
                f"authorization: Bearer {KEY}"
            ]
            mouth.writer.close()

    live(test)


def test_what_is_asked_about_a_response_in_the_background_shows_it() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            status = "queued" if exchange.line.startswith("POST") else "completed"
            exchange.answer(json.dumps({"id": "resp_1", "object": "response", "status": status}).encode())

        here.upstream.script = script
        here.control.board.open(MODEL, at(here.upstream.port))
        await here.http.post("/v1/responses", json={"model": MODEL, "input": "x", "background": True}, headers=CLIENTS)
        await until(lambda: len(here.upstream.exchanges) == 2, "it to be asked about")
        assert [shown(each) for each in here.upstream.exchanges] == [[("authorization", f"Bearer {KEY}")]] * 2

    live(test, limits=replace(LIMITS, background_poll_s=0.01))


def test_no_log_and_no_answer_tells_it(nobody: int) -> None:
    reading, writing = os.pipe()
    os.set_blocking(reading, False)

    async def test(here: House) -> None:
        here.control.board.open(MODEL, at(here.upstream.port))
        said = (await here.chat(headers=CLIENTS)).text
        here.control.board.open(MODEL, at(nobody, "e2"))
        here.control.specs[0] = replace(here.control.specs[0], queue_timeout_s=0.01)
        said += (await here.chat(headers=CLIENTS)).text
        for path in ("/metrics", "/admin/events", "/admin/models", "/v1/models"):
            said += (await here.http.get(path)).text
        assert KEY not in said
        assert KEY not in repr(at(1))

    live(test, log=lambda _: log_to(writing))
    told = read(reading).decode()
    os.close(reading)
    os.close(writing)
    assert CHAT in told
    assert KEY not in told


def test_what_was_not_sent_goes_to_another_replica(nobody: int) -> None:
    async def test(here: House) -> None:
        board, told = here.control.board, []
        board.on_unreachable = lambda engine_id, why: told.append((engine_id, why))
        board.open(MODEL, at(nobody, "gone"))
        board.open(SECOND, at(here.upstream.port, "there"), replica_of=MODEL)
        for _ in range(3):
            assert (await here.chat()).status_code == 200
        assert told == [("gone", "Connection refused")]  # and nobody was sent there again
        assert len(here.upstream.exchanges) == 3

    live(test)


def test_what_was_not_sent_waits_until_one_can_be_reached(nobody: int) -> None:
    async def test(here: House) -> None:
        board = here.control.board
        board.open(MODEL, at(nobody))
        asked = [asyncio.create_task(here.chat({"model": name})) for name in (MODEL, "tiny")]
        await until(lambda: here.waiting == 2, "both to wait")
        assert not board.is_open(MODEL)
        board.open(MODEL, at(nobody))  # it seemed to be back, and was not
        await until(lambda: not board.is_open(MODEL), "that to be found out")
        await until(lambda: here.waiting == 2, "both to wait again")
        board.open(MODEL, at(here.upstream.port, "e2"))
        assert [(await each).status_code for each in asked] == [200, 200]
        assert [json.loads(each.body)["model"] for each in here.upstream.exchanges] == [MODEL] * 2

    live(test)


def test_a_stream_that_was_given_signs_of_life_waits_on(nobody: int) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            exchange.chunk(b"data: 1\n\n")
            exchange.end_chunks()

        here.upstream.script = script
        asked = here.http.stream(
            "POST", CHAT, json={"model": MODEL, "stream": True}, headers={"x-keep-alive": "0.1"}
        )  # fmt: skip
        async with asked as answer:
            text = answer.aiter_text()
            assert (await anext(text)).startswith(": vllama ")
            here.control.board.open(MODEL, at(nobody))
            await until(lambda: here.waiting == 1 and not here.control.board.is_open(MODEL), "it to wait again")
            assert (await anext(text)).startswith(": vllama ")
            here.control.board.open(MODEL, at(here.upstream.port, "e2"))
            rest = "".join([piece async for piece in text])
        assert answer.status_code == 200
        assert "HTTP/1.1" not in rest
        assert rest.endswith("data: 1\n\n")

    live(test)


def test_a_websocket_waits_too(nobody: int) -> None:
    async def test(here: House) -> None:
        async with an_ear(here, opened=False) as ear:
            here.control.board.open(MODEL, at(nobody))
            opening = asyncio.create_task(a_mouth(here, "?model=tiny"))
            await until(lambda: here.waiting == 1, "it to wait")
            here.control.board.open(MODEL, at(ear.port, "ear"))
            (await opening).writer.close()

    live(test)


def test_not_for_longer_than_anybody_waits(nobody: int) -> None:
    async def test(here: House) -> None:
        here.control.board.open(MODEL, at(nobody))
        answer = await here.chat()
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_gone")

    live(test, replace(SPEC, queue_timeout_s=0.0))


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("used_before", [False, True])
def test_what_was_sent_is_never_sent_again(begun: bool, used_before: bool) -> None:
    async def test(here: House) -> None:
        doubted: list[str] = []
        board = here.control.board
        board.on_doubt = doubted.append

        async def script(exchange: Exchange) -> None:
            if b"first" in exchange.body:
                exchange.answer(b"{}")
                return
            if begun:
                exchange.send(
                    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
                )
                exchange.chunk(b"data: 1\n\n")
            exchange.transport.abort()

        here.upstream.script = script
        board.open(MODEL, at(here.upstream.port, "one"))
        if used_before:
            assert (await here.chat({"model": MODEL, "first": 1})).status_code == 200
        board.open(SECOND, at(here.upstream.port, "two"), replica_of=MODEL)
        answer = await here.chat({"model": MODEL, "stream": begun})
        assert answer.status_code == (200 if begun else 502)
        assert answer.text.count("engine_gone") == 1
        assert len(here.upstream.exchanges) == 1 + used_before
        assert doubted == ["one"]  # and it is asked how it is
        assert board.is_open(MODEL)

    live(test)


def test_a_connection_rests_so_briefly_that_its_engine_never_ends_it_first() -> None:
    """vLLM ends one after 5 s, and deadlines here are looked at once a second."""

    async def test(here: House) -> None:
        here.control.board.open(MODEL, at(here.upstream.port))
        assert (await here.chat()).status_code == 200
        [exchange] = here.upstream.exchanges
        await asyncio.wait_for(exchange.gone.wait(), 10)
        here.control.board.open(MODEL, replace(at(here.upstream.port, "near"), far=False))
        assert (await here.chat()).status_code == 200
        assert not here.upstream.exchanges[1].gone.is_set()

    assert LIMITS.pooled_far_s + LIMITS.tick_s < 4.0
    live(test, limits=replace(LIMITS, pooled_s=60.0, pooled_far_s=0.2))


def test_the_kernel_watches_the_other_host() -> None:
    async def run() -> list[int]:
        server = await asyncio.start_server(lambda _r, w: w.close(), "127.0.0.1", 0)
        transport, _ = await asyncio.get_running_loop().create_connection(
            asyncio.Protocol, *server.sockets[0].getsockname()
        )
        far.end_with_its_host(transport)
        end = transport.get_extra_info("socket")
        found = [end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)]
        found += [end.getsockopt(socket.IPPROTO_TCP, name) for name in (socket.TCP_KEEPIDLE, socket.TCP_USER_TIMEOUT)]
        transport.close()
        server.close()
        return found

    assert asyncio.run(run()) == [1, 2, 5000]


HOLD = """
import socket
with socket.create_server(("10.213.77.2", 8000)) as server:
    print("up", flush=True)
    end, _ = server.accept()
    end.recv(1 << 16)
    print("asked", flush=True)
    end.recv(1)
"""


@pytest.fixture
def cable() -> Iterator[list[str]]:
    """Another host, at the far end of a cable that can be cut: what runs a command there."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("a host of its own takes root and `ip` (iproute2): nothing was tried")
    name = f"vf{os.getpid() % 100_000}"

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespace can be made here: {error.stderr.decode().strip()}")
    try:
        ip("link", "add", f"{name}a", "type", "veth", "peer", "name", f"{name}b")
        ip("link", "set", f"{name}b", "netns", name)
        ip("addr", "add", "10.213.77.1/30", "dev", f"{name}a")
        ip("link", "set", f"{name}a", "up")
        ip("-n", name, "addr", "add", "10.213.77.2/30", "dev", f"{name}b")
        ip("-n", name, "link", "set", f"{name}b", "up")
        yield ["ip", "netns", "exec", name]
    finally:
        subprocess.run(["ip", "link", "del", f"{name}a"], check=False, capture_output=True)
        ip("netns", "del", name)


def test_a_request_whose_host_vanishes_ends_in_one_clean_error(cable: list[str]) -> None:
    """Not a byte comes back, not even a reset; without the kernel's watch it would wait for ever."""
    with subprocess.Popen([*cable, sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as other:
        out = other.stdout
        assert out is not None
        assert out.readline() == "up\n"

        async def test(here: House) -> None:
            endpoint = replace(at(8000), host="10.213.77.2")
            here.control.board.open(MODEL, endpoint)
            asked = asyncio.create_task(here.chat())
            assert await asyncio.to_thread(out.readline) == "asked\n"
            cut = ["ip", "-n", cable[-1], "link", "set", f"{cable[-1]}b", "down"]
            await asyncio.to_thread(subprocess.run, cut, check=True)
            answer = await asked
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "engine_gone")
            later = asyncio.create_task(here.chat())  # this one is not even sent
            await until(lambda: here.waiting == 1, "the next to wait")
            here.control.board.open(MODEL, at(here.upstream.port, "e2"))
            assert (await later).status_code == 200

        live(test)
        other.kill()
        wait_until(lambda: other.poll() is not None, what="the other host's program to end")
