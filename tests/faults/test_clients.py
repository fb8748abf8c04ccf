"""Clients who leave, who crowd, who are slow, who lie, and who want what is not theirs."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

from tests.faults.clients import Kind
from tests.faults.house import RIVAL, VICTIM
from tests.faults.rows import row
from tests.faults.scene import Scene
from tests.waiting import async_wait_until
from vllama.domain.units import MIB
from vllama.gateway.paths import _MANAGEMENT_PATHS

MANY = 150  # tests/whole/test_a_thousand.py has a thousand

# Crowds


@row(39)
async def test_many_clients_that_wait_for_a_cold_model_and_leave_leave_nothing_behind(scene: Scene):
    await scene.stop()
    await scene.configure(VICTIM, env={"VLLAMA_SIM_LOAD_S": "600"})
    async with scene.trouble():
        clients = scene.ask_many(MANY)
        await _until_waiting(scene, MANY)
        for client in scene.dice.sample(clients, MANY):
            client.cancel()
            if scene.dice.random() < 0.05:
                await scene.moment(0.05)
        await asyncio.gather(*clients, return_exceptions=True)
        await scene.until_it_is("Stopped")
        assert not [each for each in scene.outcomes if each.model == VICTIM and each.kind is not Kind.LEFT]


@row(40)
async def test_many_clients_wait_half_leave_and_the_others_are_told_why_the_load_failed(scene: Scene):
    await scene.stop()
    await scene.configure(VICTIM, env={"VLLAMA_SIM_LOAD_S": "3", "VLLAMA_SIM_FAULTS": "kv_error_at_load"})
    async with scene.trouble():
        clients = scene.ask_many(MANY, may={Kind.TOLD})
        await _until_waiting(scene, MANY)
        leaving = scene.dice.sample(clients, MANY // 2)
        for client in leaving:
            client.cancel()
        told = [await client for client in clients if client not in leaving]
        assert {(each.status, each.code) for each in told} == {(503, "engine_failed")}
        assert len({each.said for each in told}) == 1
        scene.notes["told_after_s"] = max(each.ended for each in told) - _failed_at(scene)


def _failed_at(scene: Scene) -> float:
    """When vllama knew of its last failure, in seconds of time.monotonic()."""
    lines = (json.loads(line) for line in scene.house.log().splitlines() if line.startswith("{"))
    last = [each["timestamp"] for each in lines if each["event"] == "Crashed" and each["model"] == VICTIM][-1]
    return datetime.fromisoformat(last).timestamp() - time.time() + time.monotonic()


async def _until_waiting(scene: Scene, count: int) -> None:
    async def so() -> bool:
        return (await scene.status())["waiting"] == count

    await async_wait_until(so, deadline_s=60, what=f"{count} to wait")


@row(49)
async def test_a_flood_for_one_model_does_not_starve_another_that_waits_for_its_place(scene: Scene):
    await scene.answer(RIVAL)
    over = asyncio.Event()

    async def hot() -> None:
        while not over.is_set():
            await scene.answer(RIVAL, tokens=scene.dice.randint(5, 30))

    flood = [asyncio.create_task(hot()) for _ in range(6)]
    async with scene.trouble():
        await scene.moment()
        cold = scene.ask_many(2)
        await asyncio.gather(*cold)
        over.set()
        await asyncio.gather(*flood)


# Slow ones


@row(41)
async def test_clients_that_read_nothing_for_a_while_hold_nobody_up_and_have_all_of_it_later(scene: Scene):
    await scene.stop()
    await scene.configure(VICTIM, env={"VLLAMA_SIM_TOKEN_S": "0.001", "VLLAMA_SIM_MAX_MODEL_LEN": "8192"})
    await scene.answer()
    memory = scene.house.memory_bytes()
    reads = asyncio.Event()
    async with scene.trouble():
        slow = [scene.ask(stream=True, tokens=1500, reads_after=reads) for _ in range(8)]
        await scene.moment(2.0)
        quick = scene.ask_many(3)
        await asyncio.gather(*quick)
        assert scene.house.memory_bytes() < memory + 64 * MIB
        gone = slow.pop()
        gone.cancel()
        reads.set()
        await asyncio.gather(*slow)


@row(42)
async def test_clients_that_send_a_byte_now_and_then_hold_nobody_up(scene: Scene):
    async with scene.trouble():
        async with _slow_loris(scene, 30) as sent:
            await asyncio.gather(*scene.ask_many(4))
            status = await scene.status()
            assert (status["waiting"], status["in_flight"]) == (0, 0)
        answer = await scene.raw(sent)
        assert answer.startswith(b"HTTP/1.1 200 ")


@asynccontextmanager
async def _slow_loris(scene: Scene, count: int) -> AsyncIterator[bytes]:
    """`count` connections over which a request comes letter by letter. Yields that request."""
    body = json.dumps({"model": VICTIM, "prompt": "hello", "max_tokens": 4}).encode()
    head = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nconnection: close\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    host, _, port = scene.house.up.url.removeprefix("http://").partition(":")
    writers = [(await asyncio.open_connection(host, int(port)))[1] for _ in range(count)]

    async def dribble(writer: asyncio.StreamWriter) -> None:
        for byte in request[: scene.dice.randint(1, len(request) - 1)]:
            writer.write(bytes([byte]))
            await asyncio.sleep(scene.dice.uniform(0.01, 0.1))

    dribbling = [asyncio.create_task(dribble(writer)) for writer in writers]
    try:
        yield request
    finally:
        for task in dribbling:
            task.cancel()
        await asyncio.gather(*dribbling, return_exceptions=True)
        for writer in writers:
            writer.transport.abort()


# Liars

_JSON = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
_ASKS = json.dumps({"model": VICTIM, "prompt": "smuggled", "max_tokens": 1}).encode()
_INNER = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\nx-request-id: smuggled\r\ncontent-length: %d\r\n\r\n%b" % (
    len(_ASKS), _ASKS,
)  # fmt: skip
LIES = {
    "100 MB announced": (_JSON + b"content-length: 100000000\r\n\r\n" + b"x" * 100_000, b"413"),
    "1 GB announced": (_JSON + b"content-length: 1000000000\r\n\r\n", b"413"),
    "a length and chunks": (
        _JSON + b"content-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n" + _INNER, b"400",
    ),
    "two lengths": (_JSON + b"content-length: 3\r\ncontent-length: 30\r\n\r\n{}\n" + _INNER, b"400"),
    "chunks that are longer than they say": (
        _JSON + b"transfer-encoding: chunked\r\n\r\n2\r\n{}" + _INNER + b"\r\n0\r\n\r\n", b"400",
    ),
    "a chunk of no number": (_JSON + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n", b"400"),
    "chunks by another name": (_JSON + b"transfer-encoding: xchunked\r\n\r\n0\r\n\r\n" + _INNER, b"400"),
    "a bare line break in a header": (
        _JSON + b"x-a: 1\nx-b: 2\r\ncontent-length: 0\r\n\r\n", b"400",
    ),
    "a null in a header": (_JSON + b"x-a: \x00\r\ncontent-length: 0\r\n\r\n", b"400"),
    "10,000 headers": (_JSON + b"".join(b"x-%d: 1\r\n" % n for n in range(10_000)) + b"\r\n", b"431"),
    "a header of 1 MB": (_JSON + b"x-a: " + b"a" * 1_000_000 + b"\r\n\r\n", b"431"),
    "a space before the colon": (_JSON + b"content-length : 0\r\n\r\n" + _INNER, b"400"),
}  # fmt: skip


@row(43)
async def test_lies_about_a_bodys_length_and_heads_without_measure_reach_no_engine(scene: Scene):
    await scene.answer()
    memory = scene.house.memory_bytes()
    async with scene.trouble():
        for name in scene.dice.sample(sorted(LIES), len(LIES)):
            data, status = LIES[name]
            cut = scene.dice.randint(1, len(data) - 1) if len(data) < 1000 else len(data)
            answer = await _in_two(scene, data[:cut], data[cut:])
            assert answer.startswith(b"HTTP/1.1 " + status), (name, answer[:200])
            assert answer.count(b"HTTP/1.1 ") == 1, (name, answer)
        assert "smuggled" not in scene.house.times_served()
        assert scene.house.memory_bytes() < memory + 64 * MIB


async def _in_two(scene: Scene, first: bytes, rest: bytes) -> bytes:
    host, _, port = scene.house.up.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        async with asyncio.timeout(20):
            with contextlib.suppress(OSError):
                writer.write(first)
                await writer.drain()
                await scene.moment(0.02)
                writer.write(rest)
                await writer.drain()
            return await reader.read()
    finally:
        writer.transport.abort()


# Names

NAMES = (
    "../../x", "/etc/passwd", "..\\..\\x", "org/../../x", "org/vic\0tim", "\0", "x" * 10_000, "org/v\u0456ctim",
    "ORG/VICTIM\u200b", "org/victim\n", "%2e%2e%2fx", "; touch /tmp/x", "~root", ".", "..", "CON", "org/victim/../../x",
)  # fmt: skip


@row(44)
async def test_names_that_are_paths_or_look_like_others_are_nobodys(scene: Scene):
    async with scene.trouble():
        for name in scene.dice.sample(NAMES, len(NAMES)):
            told = await scene.told(name)
            assert (told.status, told.code) == (404, "model_not_found"), (name, told)
        for name in ("../../x", "..%2f..%2fx", "/etc/passwd"):
            for verb in ("start", "stop", "sleep", "logs"):
                answer = await scene.post(f"/admin/models/{name}/{verb}")
                assert answer.status_code in {404, 405}, (name, verb, answer.status_code)


@row(45)
async def test_a_name_that_is_an_address_is_called_by_nobody(scene: Scene):
    with trap() as (port, called):
        async with scene.trouble():
            for name in (f"http://127.0.0.1:{port}/v1", f"127.0.0.1:{port}", f"//127.0.0.1:{port}", f"localhost:{port}",
                         f"http://127.0.0.1:{port}/v1/completions#{VICTIM}", f"{VICTIM}@127.0.0.1:{port}"):  # fmt: skip
                told = await scene.told(name)
                assert told.status == 404, told
            for target in (f"http://127.0.0.1:{port}/v1/completions", f"//127.0.0.1:{port}/v1/completions"):
                request = (
                    f"POST {target} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\ncontent-length: 2\r\n"
                )
                answer = await scene.raw(f"{request}\r\n{{}}".encode())
                assert answer.startswith(b"HTTP/1.1 4"), answer
        assert not called()


@contextlib.contextmanager
def trap() -> Iterator[tuple[int, object]]:
    """A port that nobody is to call, and whether somebody has."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)

        def called() -> bool:
            try:
                listening.accept()[0].close()
            except BlockingIOError:
                return False
            return True

        yield listening.getsockname()[1], called


@row(46)
async def test_an_engines_management_is_reached_by_nobody(scene: Scene):
    await scene.answer()
    port = (await scene.status())["port"]
    async with scene.trouble():
        for path in (*scene.dice.sample(sorted(_MANAGEMENT_PATHS - {b"/metrics"}), 12), b"/sleep", b"/wake_up"):
            for spelled in (path, path.replace(b"/", b"//", 1), path + b"/", path.upper(), b"/v1/../" + path[1:],
                            b"/%73leep", path + b"?level=1", b"/v1/completions/.." + path):  # fmt: skip
                body = b'{"model": "%b", "level": 1}' % VICTIM.encode()
                head = b"POST %b HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % (
                    spelled, len(body),
                )  # fmt: skip
                answer = await scene.raw(head + body)
                assert answer.startswith((b"HTTP/1.1 404", b"HTTP/1.1 405", b"HTTP/1.1 400")), (spelled, answer[:200])
        status = await scene.status()
        assert (status["phase"], status["sleep_level"]) == ("Ready", None)
        assert _listens_at(port) == {"0100007F"}


def _listens_at(port: int) -> set[str]:
    """The addresses, in the kernel's spelling."""
    lines = [
        line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]
    ]
    local = (line[1].split(":") for line in lines if line[3] == "0A")
    return {address for address, number in local if int(number, 16) == port}


def told(pid: int) -> tuple[list[str], list[str]]:
    """A process's arguments and environment."""
    return tuple(Path(f"/proc/{pid}/{name}").read_text().split("\0") for name in ("cmdline", "environ"))


@row(47)
async def test_addresses_of_pictures_are_fetched_by_nobody(scene: Scene):
    """vLLM itself fetches: its engine is told of no domain, and to follow no redirect."""
    await scene.answer()
    leader, _ = await scene.pids()
    argv, environ = await asyncio.to_thread(told, leader)
    assert argv[argv.index("--allowed-media-domains") + 1].endswith(".invalid")
    assert "VLLM_MEDIA_URL_ALLOW_REDIRECTS=0" in environ
    with trap() as (port, called):
        async with scene.trouble():
            picture = {"type": "image_url", "image_url": {"url": f"http://127.0.0.1:{port}/{scene.dice.random()}.png"}}
            message = {"role": "user", "content": [picture, {"type": "text", "text": "what is it?"}]}
            body = {"model": VICTIM, "max_tokens": 4, "messages": [message]}
            await scene.post("/v1/chat/completions", json=body)
        assert not called()
