"""Who would wait longer than it wants to is told so at once, and when to come back."""

import asyncio

import pytest

from tests.gateway.house import CHAT, MODEL, House, live, post, until
from vllama.controller.board import Board
from vllama.domain.spec import ModelSpec, Policy
from vllama.planner.outlook import Doing, Outlook

OUTLOOK = Outlook(doing=Doing.MAKING_ROOM, ready_in_s=39.5, why="b makes room.")


def slow(here: House, outlook: Outlook = OUTLOOK) -> Board:
    """The models of this house take as long as `outlook` says."""
    here.control.board._ready_in = lambda _: outlook
    return here.control.board


async def come_back(here: House) -> None:
    """What stands in for clients that were told to come back is let go."""
    here.open()
    await until(lambda: (here.waiting, here.in_flight) == (0, 0))


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Max-Wait": "39"},
        {"x-max-wait": "0.5"},
        {"Prefer": "wait=5"},
        {"prefer": "return=minimal, WAIT = 5"},
        {"X-Max-Wait": "100", "Prefer": "wait=5"},
    ],
)
def test_too_long_is_a_503_with_the_time_it_takes(headers: dict[str, str]) -> None:
    async def test(here: House) -> None:
        slow(here)
        answer = await here.chat(headers=headers)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "40")
        assert answer.json()["error"]["code"] == "max_wait"
        assert "b makes room." in answer.json()["error"]["message"]
        assert here.waiting == 1  # stands in for who comes back
        await come_back(here)

    live(test)


@pytest.mark.parametrize("headers", [{"X-Max-Wait": "40"}, {"Prefer": "wait=40"}, {"Prefer": "handling=strict"}, {}])
def test_who_has_the_patience_waits(headers: dict[str, str]) -> None:
    async def test(here: House) -> None:
        slow(here)
        waiting = asyncio.ensure_future(here.chat(headers=headers))
        await until(lambda: here.waiting == 1)
        here.open()
        assert (await waiting).status_code == 200
        assert here.upstream.exchanges[0].header("x-max-wait") is None
        assert here.upstream.exchanges[0].header("prefer") == headers.get("Prefer")

    live(test)


def test_who_waited_as_long_as_it_wants_to_is_told_so_then() -> None:
    async def test(here: House) -> None:
        slow(here, Outlook(doing=Doing.LOADING, ready_in_s=0.01))
        answer = await here.chat(headers={"X-Max-Wait": "0.05"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "max_wait")
        assert answer.headers["retry-after"] == "1"
        await come_back(here)

    live(test)


def test_a_model_that_is_ready_is_not_waited_for() -> None:
    async def test(here: House) -> None:
        slow(here)
        here.open()
        assert (await here.chat(headers={"X-Max-Wait": "0"})).status_code == 200

    live(test)


@pytest.mark.parametrize("header", ["X-Max-Wait", "X-Keep-Alive"])
@pytest.mark.parametrize("value", ["soon", "-1", "1e3", "", "1,2"])
def test_what_is_no_number_of_seconds_is_a_400(header: str, value: str) -> None:
    async def test(here: House) -> None:
        here.open()
        answer = await here.chat(headers={header: value})
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_header")
        assert f"write for example {header}: 15" in answer.json()["error"]["message"]

    live(test)


def test_a_full_queue_and_one_that_takes_too_long_say_when_to_come_back() -> None:
    async def test(here: House) -> None:
        slow(here)
        _, writer = await here.raw(post(b'{"model":"%s"}' % MODEL.encode()))
        await until(lambda: here.waiting == 1)
        full = await here.chat()
        assert (full.status_code, full.headers["retry-after"]) == (429, "40")
        writer.close()
        await until(lambda: here.waiting == 0)
        late = await here.chat()
        assert (late.status_code, late.headers["retry-after"]) == (503, "40")
        assert "It takes about 40 s more. b makes room." in late.json()["error"]["message"]

    live(test, ModelSpec(model=MODEL, max_queue=1, queue_timeout_s=0.5))


def test_what_waits_may_hold_so_many_bytes_and_no_more() -> None:
    async def test(here: House) -> None:
        board = slow(here)
        body = b'{"model":"%s","x":"%s"}' % (MODEL.encode(), b"x" * 3000)
        clients = [await here.raw(post(body)) for _ in range(3)]
        await until(lambda: here.waiting == 3)
        assert board.queued_bytes == 3 * len(body)
        answer = await here.http.post(CHAT, content=body)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "40")
        assert answer.json()["error"]["code"] == "queue_memory_full"
        clients[0][1].transport.abort()  # leaves
        await until(lambda: board.queued_bytes == 2 * len(body))
        waiting = asyncio.ensure_future(here.http.post(CHAT, content=body))
        await until(lambda: here.waiting == 3)
        here.open()  # served
        assert board.queued_bytes == 0
        assert (await waiting).content == body
        for reader, writer in clients[1:]:
            assert (await reader.read()).endswith(body)
            writer.close()
        assert (await here.http.post(CHAT, content=body)).status_code == 200

    live(test, policy=Policy(queue_memory_bytes=10_000))
