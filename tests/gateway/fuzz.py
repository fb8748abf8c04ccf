"""Malformed requests by the thousand: whatever is sent, the answers are well-formed and the engine sees nothing odd.

    python -m tests.gateway.fuzz --count 1000000 [--seed N]

Never a hang, never a traceback to the client, never a request that reaches an engine twice or not as it must.
"""

import argparse
import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass, field

import httptools
import uvloop

from tests.gateway.house import MODEL, House, house
from tests.gateway.wire.corpus import SMUGGLING
from vllama.gateway.paths import INFERENCE_PATHS
from vllama.gateway.wire.limits import Limits

LIMITS = Limits(at_once_s=0, head_s=0.4, body_idle_s=0.4, keep_alive_s=0.4, linger_s=0.4, body_bytes=100_000)
AT_ONCE = 250
ANSWER_WITHIN_S = 20.0
_NASTY = [
    b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\x00", b" ", b"\t", b":", b";", b",", b"\xff", b"0", b"-", b"+",
    b"0x", b"\x0b",
    b"Content-Length: 3\r\n", b"content-length: 0\r\n", b"Transfer-Encoding: chunked\r\n",
    b"transfer-encoding: gzip\r\n",
    b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"Upgrade: h2c\r\nConnection: Upgrade\r\n", b"Host: y\r\n",
    b" HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"/../", b"%00", b"http://e/",
    b"x" * 5000,
    b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n", b"A: b\r\n" * 120,
]  # fmt: skip
_PATHS = [
    b"/v1/chat/completions",
    b"/score",
    b"/livez",
    b"/v1/models",
    b"/sleep",
    b"/admin/status",
    b"/v1/realtime",
    b"/x",
]


@dataclass
class Tally:
    sent: int = 0
    answered: dict[int, int] = field(default_factory=dict)
    unanswered: int = 0
    wrong: list[str] = field(default_factory=list)


class _Answers:
    """Counts the answers in what came back; raises httptools' errors where it is no HTTP."""

    def __init__(self, whole: bytes) -> None:
        self.statuses: list[int] = []
        self.parser = httptools.HttpResponseParser(self)
        self.parser.feed_data(whole)

    def on_headers_complete(self) -> None:
        self.statuses.append(self.parser.get_status_code())


def request(rng: random.Random, number: int) -> bytes:
    """A good one."""
    path = rng.choice(_PATHS)
    method = b"POST" if path in INFERENCE_PATHS else rng.choice([b"GET", b"GET", b"POST"])
    body = (
        b'{"model":"%b","n":%d}' % (rng.choice([MODEL.encode(), b"tiny", b"nope"]), number)
        if method == b"POST"
        else b""
    )
    head = [b"%b %b HTTP/1.1" % (method, path), b"Host: localhost", b"User-Agent: fuzz", b"X-Number: %d" % number]
    if method == b"POST" and rng.random() < 0.4:
        head.append(b"Transfer-Encoding: chunked")
        middle = rng.randrange(1, len(body))
        body = (
            b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (body[:middle], body[middle:])) + b"0\r\n\r\n"
        )
    elif method == b"POST":
        head.append(b"Content-Length: %d" % len(body))
    rng.shuffle(head[1:])
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def spoiled(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.choice([1, 1, 1, 2, 3, 8])):
        at = rng.randrange(len(data) + 1)
        match rng.randrange(5):
            case 0:
                data = data[:at] + rng.choice(_NASTY) + data[at:]
            case 1:
                data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
            case 2:
                data = data[:at] + data[at + rng.randrange(1, 9) :]
            case 3:
                data = data[:at] + data[max(0, at - rng.randrange(1, 30)) : at] + data[at:]
            case _:
                data = (
                    data[:at] if rng.random() < 0.3 else data.replace(b"\r\n", rng.choice([b"\n", b"\r", b"\r\n "]), 1)
                )
    return data


async def one(here: House, tally: Tally, seed: int, number: int) -> None:
    rng = random.Random(seed * 10_000_019 + number)
    data = spoiled(rng, request(rng, number)) if rng.random() < 0.95 else rng.choice(list(SMUGGLING.values()))
    reader, writer = await here.raw(b"")
    try:
        for piece in (data[: (at := rng.randrange(len(data) + 1))], data[at:]) if rng.random() < 0.5 else (data,):
            writer.write(piece)
            await asyncio.sleep(0)
        whole = await asyncio.wait_for(reader.read(), ANSWER_WITHIN_S)
        statuses = _Answers(whole).statuses
    except TimeoutError:
        tally.wrong.append(f"{number}: no end to {data!r}")
    except ConnectionError:
        tally.unanswered += 1
    except httptools.HttpParserError as error:
        tally.wrong.append(f"{number}: {error} in the answer to {data!r}: {whole!r}")
    else:
        if b"Traceback" in whole or b"text/plain" in whole or 500 in statuses:
            tally.wrong.append(f"{number}: a fault of ours at {data!r}: {whole!r}")
        tally.unanswered += not statuses
        for status in statuses:
            tally.answered[status] = tally.answered.get(status, 0) + 1
    finally:
        writer.close()
        tally.sent += 1


def check_engine(here: House, tally: Tally) -> None:
    """What reached the engine is what vllama itself would write, and each request once."""
    seen: dict[object, int] = {}
    for exchange in here.upstream.exchanges:
        method, _, rest = exchange.line.partition(" ")
        path = rest.partition(" ")[0].partition("?")[0].encode()
        names = [name.lower() for name, _ in exchange.headers]
        try:
            body = json.loads(
                exchange.body.decode(errors="replace")
            )  # what is not UTF-8 passes, for the engine to judge
        except ValueError:
            tally.wrong.append(f"the engine got no JSON: {exchange}")
            continue
        if method != "POST" or path not in INFERENCE_PATHS or body.get("model") != MODEL:
            tally.wrong.append(f"the engine got {exchange}")
        if names.count("content-length") != 1 or names.count("host") != 1 or "transfer-encoding" in names:
            tally.wrong.append(f"the engine got {exchange.headers}")
        number = exchange.header("x-number"), body.get("n")
        seen[number] = seen.get(number, 0) + ("n" in body and exchange.header("x-number") is not None)
    tally.wrong += [f"{number} reached the engine {count} times" for number, count in seen.items() if count > 1]
    here.upstream.exchanges.clear()
    here.upstream.tasks = {task for task in here.upstream.tasks if not task.done()}


async def fuzz(*, count: int, seed: int, say: bool = False) -> Tally:
    tally = Tally()
    async with house(limits=LIMITS) as here:
        here.open()
        numbers = iter(range(count))

        async def some() -> None:
            for number in numbers:
                await one(here, tally, seed, number)

        began = time.monotonic()
        working = [asyncio.ensure_future(some()) for _ in range(min(AT_ONCE, count))]
        while (await asyncio.wait(working, timeout=5))[1]:
            check_engine(here, tally)
            if say:
                print(f"{tally.sent} in {time.monotonic() - began:.0f} s, {len(tally.wrong)} wrong", file=sys.stderr)
        check_engine(here, tally)
        for task in working:
            task.result()
        if here.in_flight or here.waiting:
            tally.wrong.append(f"{here.in_flight} in flight and {here.waiting} waiting at the end")
    return tally


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        result = runner.run(fuzz(count=asked.count, seed=asked.seed, say=True))
    print(f"{result.sent} sent; answers {dict(sorted(result.answered.items()))}; {result.unanswered} without an answer")
    print("\n".join(result.wrong[:20]))
    sys.exit(1 if result.wrong else 0)
