"""The log of requests as it is written: all of it, in whole lines, and without ever holding up who serves."""

import asyncio
import json
import os

import pytest

from tests.gateway.house import CHAT, MODEL, House, live, post, until
from vllama.gateway.access.line import Json, Lines
from vllama.gateway.access.log import AccessLog
from vllama.gateway.access.outlet import Outlet
from vllama.gateway.forwarded import Proxies
from vllama.gateway.guard import Guard
from vllama.gateway.keys.ring import Keyring
from vllama.gateway.metrics.finished import Finished

ONE = Finished(request=None, client="10.0.0.9", model="org/A", outcome="ok", status=200)
LINES = Lines(keyring=Keyring(), proxies=Proxies())


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    yield reading, writing
    for each in (reading, writing):
        os.close(each)


def read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 20)
    except BlockingIOError:
        return b""


def log_to(fd: int, **more) -> AccessLog:
    return AccessLog(Outlet(fd), Json(), LINES, **({"every_s": 0.01} | more))


async def lines(fd: int, count: int) -> list[dict]:
    found = bytearray()

    def enough() -> bool:
        found.extend(read(fd))
        return found.count(b"\n") >= count

    await until(enough, f"{count} lines")
    return [json.loads(line) for line in found.splitlines()]


def test_lines_come_in_their_order(pipe):
    async def test():
        log = log_to(pipe[1])
        for status in range(100, 400):
            log.add(Finished(request=None, client="", model="", outcome="ok", status=status))
        assert [line["status"] for line in await lines(pipe[0], 300)] == list(range(100, 400))
        log.add(ONE)
        assert len(await lines(pipe[0], 1)) == 1
        log.close()

    asyncio.run(test())


def test_a_pipe_that_nobody_empties_holds_up_nobody_and_what_is_dropped_is_counted(pipe):
    async def test():
        log = log_to(pipe[1], most_bytes=100_000)
        added = 0
        while log.dropped < 10:  # returns at once, however full it is
            log.add(ONE)
            added += 1
            if added % 1000 == 0:
                await asyncio.sleep(0.01)  # as a loop that serves: its timers run
        found = await lines(pipe[0], added - log.dropped)
        assert len(found) == added - log.dropped
        log.add(ONE)
        assert len(await lines(pipe[0], 1)) == 1
        log.close()

    asyncio.run(test())


def test_what_is_kept_at_the_end_is_written(pipe):
    async def test():
        log = log_to(pipe[1], every_s=60)
        log.add(ONE)
        log.close()
        assert read(pipe[0]).count(b"\n") == 1

    asyncio.run(test())


def test_the_end_does_not_wait_for_ever_for_a_pipe_that_is_full(pipe):
    async def test():
        log = log_to(pipe[1], every_s=0.001)
        for _ in range(1000):
            log.add(ONE)
        await until(lambda: not log._outlet.wait(0), "the pipe full")
        log.add(ONE)
        log.close()

    asyncio.run(test())


def test_nobody_reads_any_more():
    async def test():
        reading, writing = os.pipe()
        os.close(reading)
        log = log_to(writing)
        for _ in range(3):
            log.add(ONE)
            await until(lambda: log._timer is None and log._outlet.wait(0), "given up")
        log.close()
        os.close(writing)

    asyncio.run(test())


def test_a_pipe_gets_whole_lines_at_once(pipe):
    outlet = Outlet(pipe[1])
    data = b"".join(b"%d %b\n" % (i, b"x" * 300) for i in range(100))
    pieces = list(outlet._pieces(data))
    assert b"".join(pieces) == data
    assert all(piece.endswith(b"\n") and len(piece) <= 4096 for piece in pieces)
    assert list(outlet._pieces(b"y" * 5000 + b"\n")) == [b"y" * 5000 + b"\n"]


def test_a_file_gets_it_all_at_once(tmp_path):
    with (tmp_path / "log").open("wb") as file:
        data = b"line\n" * 5000
        assert list(Outlet(file.fileno())._pieces(data)) == [data]


def test_every_request_has_its_line(pipe):
    def log(guard: Guard) -> AccessLog:
        return AccessLog(Outlet(pipe[1]), Json(), Lines(keyring=guard.keyring, proxies=guard.proxies), every_s=0.01)

    async def test(here: House) -> None:
        here.open()
        agent = {"user-agent": "me"}
        await here.http.post(f"{CHAT}?secret=1", json={"model": "tiny"}, headers=agent)
        await here.http.get("/v1/models?secret=1", headers=agent)
        await here.http.get("/no/such?secret=1", headers=agent)
        await here.http.post("/api/generate", content=b"{", headers=agent)
        await here.http.get(CHAT, headers=agent)
        reader, writer = await here.raw(post(b"{}", headers="bad\r\n"))
        await reader.read()
        writer.close()
        found = await lines(pipe[0], 6)
        told = [(line["method"], line["path"], line["model"], line["status"], line["outcome"]) for line in found]
        assert told == [
            ("POST", CHAT, MODEL, 200, "ok"),
            ("GET", "/v1/models", "", 200, "ok"),
            ("GET", "/no/such", "", 404, "refused"),
            ("POST", "/api/generate", "", 400, "refused"),
            ("GET", CHAT, "", 405, "refused"),
            ("", "", "", 400, "refused"),
        ]
        assert {line["client"] for line in found} == {"127.0.0.1"}
        assert [line["user_agent"] for line in found] == ["me"] * 5 + [None]

    live(test, log=log)
