"""Responses that were made before: whoever made one is asked about it, and kept awake while it goes on."""

import asyncio
import json
from dataclasses import replace

import openai
import pytest

from tests.gateway.house import LIMITS, MODEL, House, live, post, until
from tests.gateway.upstream import Exchange
from vllama.gateway.makers import Makers

PATH = "/v1/responses"
QUICK = replace(LIMITS, background_poll_s=0.01)


class Store:
    """An engine's, with one response that is `status`."""

    def __init__(self, status: str = "completed", *, id_: str = "resp_1", pieces: int = 1) -> None:
        self.status, self.id, self.pieces = status, id_, pieces
        self.asked: list[str] = []

    def response(self) -> bytes:
        head = {"id": self.id, "object": "response", "status": self.status, "output": [{"status": "completed"}]}
        return json.dumps(head).encode()

    async def script(self, exchange: Exchange) -> None:
        self.asked.append(exchange.line.removesuffix(" HTTP/1.1"))
        if json.loads(exchange.body or b"{}").get("stream"):
            exchange.start_events()
            event = {"response": json.loads(self.response()), "sequence_number": 0, "type": "response.created"}
            exchange.chunk(b"event: response.created\ndata: %b\n\n" % json.dumps(event, separators=(",", ":")).encode())
            exchange.end_chunks()
            return
        if exchange.line.startswith(f"POST {PATH}/"):
            self.status = "cancelled"
        whole = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(self.response()), self.response())
        step = max(1, len(whole) // self.pieces)
        for start in range(0, len(whole), step):
            exchange.send(whole[start : start + step])
            await asyncio.sleep(0)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("pieces", [1, 20, 1000])
def test_whoever_made_a_response_is_asked_about_it(stream: bool, pieces: int) -> None:
    async def test(here: House) -> None:
        store = Store(pieces=pieces)
        here.upstream.script = store.script
        here.open()
        made = await here.http.post(PATH, json={"model": "tiny", "input": "hello", "stream": stream})
        assert b"resp_1" in made.content
        read = await here.http.get(f"{PATH}/resp_1?stream=false&include=x")
        assert read.content == store.response()
        cancelled = await here.http.post(f"{PATH}/resp_1/cancel")
        assert cancelled.json()["status"] == "cancelled"
        assert store.asked == [
            f"POST {PATH}", f"GET {PATH}/resp_1?stream=false&include=x", f"POST {PATH}/resp_1/cancel",
        ]  # fmt: skip
        assert here.in_flight == 0

    live(test)


def test_one_that_nobody_made_is_a_404_and_starts_nothing() -> None:
    async def test(here: House) -> None:
        for method, path in (("GET", f"{PATH}/resp_9"), ("POST", f"{PATH}/resp_9/cancel")):
            error = (await here.http.request(method, path)).json()["error"]
            assert (error["code"], error["param"]) == ("response_not_found", "response_id")
            assert error["message"].startswith("Response with id 'resp_9' not found.")
        answer = await here.http.delete(f"{PATH}/resp_9")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
        assert here.control.board.demand() == {}

    live(test)


def test_an_engine_that_is_gone_took_its_responses_along() -> None:
    async def test(here: House) -> None:
        store = Store()
        here.upstream.script = store.script
        here.open()
        await here.http.post(PATH, json={"model": "tiny", "input": "hello"})
        here.control.board.close(MODEL)
        asking = asyncio.ensure_future(here.http.get(f"{PATH}/resp_1"))
        await until(lambda: here.waiting == 1, "asleep, it is waited for")
        here.open(engine_id="e2")
        assert (await asking).json()["error"]["code"] == "response_not_found"
        here.control.gone.add("e1")
        here.control.board.close(MODEL)
        assert (await here.http.get(f"{PATH}/resp_1")).status_code == 404  # and nobody is woken for it
        assert len(store.asked) == 1

    live(test)


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        ({"store": False}, b'{"id":"resp_1"}'),
        ({}, b'{"object":"response","text":"%b"}' % (b"x" * 5000 + b'"id":"resp_1"')),
        ({}, b'{"id":"resp\\"_1"}'),
        ({}, b""),
    ],
)
def test_an_answer_without_an_id_is_passed_on_all_the_same(body: dict[str, object], answer: bytes) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.answer(answer)

        here.upstream.script = script
        here.open()
        assert (await here.http.post(PATH, json={"model": "tiny", "background": True} | body)).content == answer
        assert here.in_flight == 0
        assert (await here.http.get(f"{PATH}/resp_1")).status_code == 404

    live(test)


@pytest.mark.parametrize("end", ["completed", "incomplete", "failed", "cancelled"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_background_response_is_in_flight_until_it_is_done(end: str, stream: bool) -> None:
    async def test(here: House) -> None:
        store = Store("queued")
        here.upstream.script = store.script
        here.open()
        await here.http.post(PATH, json={"model": "tiny", "input": "x", "background": True, "stream": stream})
        await until(lambda: store.asked.count(f"GET {PATH}/resp_1") >= 3)
        assert here.in_flight == 1
        store.status = "in_progress"
        count = len(store.asked)
        await until(lambda: len(store.asked) > count + 1)
        assert here.in_flight == 1
        store.status = end
        await until(lambda: here.in_flight == 0)
        assert here.control.board.close(MODEL)

    live(test, limits=QUICK)


def test_who_leaves_its_stream_leaves_a_background_response_in_flight() -> None:
    async def test(here: House) -> None:
        store = Store("queued")

        async def script(exchange: Exchange) -> None:
            if exchange.line.startswith("GET"):
                await store.script(exchange)
                return
            exchange.start_events()
            exchange.chunk(b'data: {"response":{"id":"resp_1"}}\n\n')
            await exchange.gone.wait()

        here.upstream.script = script
        here.open()
        reader, writer = await here.raw(post(b'{"model":"tiny","background":true,"stream":true}', target=PATH))
        await reader.readuntil(b"resp_1")
        writer.transport.abort()
        await until(lambda: len(store.asked) >= 3)
        assert here.in_flight == 1
        store.status = "completed"
        await until(lambda: here.in_flight == 0)

    live(test, limits=QUICK)


@pytest.mark.parametrize("how", ["it dies", "it forgets", "it never ends"])
def test_a_background_response_is_not_in_flight_for_ever(how: str) -> None:
    async def test(here: House) -> None:
        store = Store("queued")

        async def script(exchange: Exchange) -> None:
            if exchange.line.startswith("GET") and how == "it dies":
                exchange.close()
            elif exchange.line.startswith("GET") and how == "it forgets":
                exchange.answer(b'{"error":{"message":"not found"}}', status=404)
            else:
                await store.script(exchange)

        here.upstream.script = script
        here.open()
        await here.http.post(PATH, json={"model": "tiny", "input": "x", "background": True})
        await until(lambda: here.in_flight == 0)

    live(test, limits=replace(QUICK, background_s=0.2 if how == "it never ends" else 60.0))


def test_what_the_engine_does_not_say_is_not_done() -> None:
    async def test(here: House) -> None:
        store, saying = Store("queued"), asyncio.Event()

        async def script(exchange: Exchange) -> None:
            if exchange.line.startswith("GET"):
                await saying.wait()
            await store.script(exchange)

        here.upstream.script = script
        here.open()
        await here.http.post(PATH, json={"model": "tiny", "input": "x", "background": True})
        await until(lambda: len(here.upstream.exchanges) == 2)
        assert here.in_flight == 1
        store.status = "completed"
        saying.set()
        await until(lambda: here.in_flight == 0)

    live(test, limits=QUICK)


def test_the_client_of_openai_waits_for_a_background_response() -> None:
    async def test(here: House) -> None:
        store = Store("queued", id_="resp_af")
        here.upstream.script = store.script
        here.open()
        base_url = f"http://127.0.0.1:{here.port}/v1"
        async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
            made = await client.responses.create(model="tiny", input="hello", background=True)
            assert (await client.responses.retrieve(made.id)).status == "queued"
            assert (await client.responses.cancel(made.id)).status == "cancelled"
            with pytest.raises(openai.NotFoundError):
                await client.responses.retrieve("resp_0")

    live(test, limits=QUICK)


def test_only_so_many_are_remembered_and_only_for_so_long() -> None:
    now = 0.0
    makers = Makers(clock=lambda: now)
    for number in range(10_001):
        makers.remember(f"resp_{number}", model="m", engine_id="e")
    assert (makers.of("resp_0"), makers.of("resp_1") is not None) == (None, True)
    now = 25 * 3600.0
    makers.remember("resp_1", model="m", engine_id="e2")
    assert makers.of("resp_10000") is None
    found = makers.of("resp_1")
    assert found is not None
    assert found.engine_id == "e2"
