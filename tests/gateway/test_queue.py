"""Waiting for a model to be ready, and being told when that is in vain."""

import asyncio
import json

import pytest

from tests.gateway.house import CHAT, MODEL, House, live, post, until
from vllama.controller.demand import Failure
from vllama.domain.spec import ModelSpec

IMPATIENT = ModelSpec(model=MODEL, queue_timeout_s=0.05)
NARROW = ModelSpec(model=MODEL, max_queue=2)


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> tuple[bytes, bytes]:
    whole = await reader.read()
    writer.close()
    head, _, body = whole.partition(b"\r\n\r\n")
    return head, body


def test_a_thousand_that_wait_are_each_answered_once() -> None:
    async def test(here: House) -> None:
        bodies = [b'{"model":"%s","n":%d}' % (MODEL.encode(), n) for n in range(1000)]
        clients = await asyncio.gather(*(here.raw(post(body)) for body in bodies))
        await until(lambda: here.waiting == 1000, "1000 waiting")
        here.open()
        assert here.waiting == 0
        assert here.in_flight == 1000
        answers = await asyncio.gather(*(answered(*client) for client in clients))
        assert all(head.startswith(b"HTTP/1.1 200 ") for head, _ in answers)
        assert [body for _, body in answers] == bodies
        assert sorted(json.loads(exchange.body)["n"] for exchange in here.upstream.exchanges) == list(range(1000))

    live(test)


def test_they_are_served_in_the_order_in_which_they_came() -> None:
    async def test(here: House) -> None:
        clients = []
        for n in range(200):
            clients.append(await here.raw(post(b'{"model":"%s","n":%d}' % (MODEL.encode(), n))))
            await until(lambda n=n: here.waiting == n + 1)
        here.open(max_concurrency=1)
        for client in clients:
            assert (await answered(*client))[0].startswith(b"HTTP/1.1 200 ")
        assert [json.loads(exchange.body)["n"] for exchange in here.upstream.exchanges] == list(range(200))

    live(test)


def test_max_concurrency_lets_so_many_through_at_a_time() -> None:
    async def test(here: House) -> None:
        most = 0

        async def script(exchange: object) -> None:
            nonlocal most
            most = max(most, here.in_flight)
            await asyncio.sleep(0)
            exchange.answer(b"{}")  # type: ignore[attr-defined]

        here.upstream.script = script
        here.open(max_concurrency=3)
        answers = await asyncio.gather(*(here.chat() for _ in range(40)))
        assert {answer.status_code for answer in answers} == {200}
        assert most == 3

    live(test)


def test_the_answer_says_whether_it_waited() -> None:
    async def test(here: House) -> None:
        waiting = asyncio.ensure_future(here.chat())
        await until(lambda: here.waiting == 1)
        here.open()
        waited, hit = await waiting, await here.chat()
        assert waited.headers["x-vllama-state"] == "started"
        assert int(waited.headers["x-vllama-wait-ms"]) >= 0
        assert (hit.headers["x-vllama-state"], hit.headers["x-vllama-wait-ms"]) == ("hit", "0")

    live(test)


def test_a_full_queue_is_a_429() -> None:
    async def test(here: House) -> None:
        waiting = [asyncio.ensure_future(here.chat()) for _ in range(2)]
        await until(lambda: here.waiting == 2)
        third = await here.chat()
        assert (third.status_code, third.json()["error"]["code"]) == (429, "queue_full")
        assert third.json()["error"]["type"] == "rate_limit_error"
        assert int(third.headers["retry-after"]) > 0
        here.open()
        assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [200, 200]

    live(test, NARROW)


def test_waiting_too_long_is_a_503() -> None:
    async def test(here: House) -> None:
        answer = await here.chat()
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "queue_timeout")
        assert "retry-after" in answer.headers
        assert here.waiting == 0

    live(test, IMPATIENT)


def test_what_the_controller_says_is_what_the_waiters_are_told() -> None:
    async def test(here: House) -> None:
        waiting = asyncio.ensure_future(here.chat())
        await until(lambda: here.waiting == 1)
        message = "CUDA out of memory. Tried to allocate 2.00 GiB."
        failure = Failure(status=503, code="load_failed", message=message, retry_after_s=7.5)
        here.control.board.fail_waiters(MODEL, failure)
        answer = await waiting
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "8"
        assert answer.json() == {
            "error": {"message": message, "type": "server_error", "param": None, "code": "load_failed"}
        }

    live(test)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "invalid_json"),
        (b'{"model": "tiny"', 400, "invalid_json"),
        (b"[1]", 400, "invalid_json"),
        (b'{"messages":[]}', 400, "missing_model"),
        (b'{"model":"nope"}', 404, "model_not_found"),
    ],
)
def test_a_body_that_names_no_model_waits_for_nothing(body: bytes, status: int, code: str) -> None:
    async def test(here: House) -> None:
        answer = await here.http.post(CHAT, content=body)
        assert answer.status_code == status
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["error"]["code"] == code
        assert here.waiting == 0

    live(test)
