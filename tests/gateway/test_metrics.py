"""What is counted of each way that a request can end, through the real gateway."""

import asyncio
import json

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.gateway.house import CHAT, MODEL, House, live, post, until
from tests.gateway.upstream import Exchange
from tests.gateway.wire.ear import a_mouth, an_ear, offer
from vllama.controller.control import EngineAddress
from vllama.controller.demand import Failure
from vllama.domain.spec import ModelSpec
from vllama.engine.address import Address
from vllama.gateway.wire.limits import Limits

BODY = json.dumps({"model": MODEL}).encode()
USAGE = b'{"usage":{"prompt_tokens":5,"total_tokens":7,"completion_tokens":2}}'


def ends(here: House) -> dict[tuple[str, str, int], int]:
    """(model, outcome, status) -> how many."""
    meters = here.telling.meters.of
    return {(model, *key): count for model, meter in meters.items() for key, count in meter.outcomes.items()}


async def ended(here: House, *wanted: tuple[str, str, int]) -> None:
    """These and nothing else, each once."""
    await until(lambda: ends(here) == dict.fromkeys(wanted, 1), f"{wanted}, not {ends(here)}")


@pytest.mark.parametrize(
    ("status", "outcome"), [(200, "ok"), (400, "ok"), (404, "ok"), (500, "engine_error"), (503, "engine_error")]
)
def test_an_answer_of_the_engine(status: int, outcome: str) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.answer(USAGE, status=status)

        here.upstream.script = script
        here.open()
        answer = await here.chat()
        assert answer.status_code == status
        await ended(here, (MODEL, outcome, status))
        meter = here.telling.meters.of[MODEL]
        assert (meter.prompt_tokens, meter.completion_tokens) == ((5, 2) if status == 200 else (0, 0))
        assert (meter.at_once, sum(meter.waits), sum(meter.first_bytes), sum(meter.durations)) == (1, 0, 1, 1)
        assert meter.request_bytes == len(answer.request.content)
        assert meter.answer_bytes > len(USAGE)

    live(test)


@pytest.mark.parametrize("old", [False, True], ids=["chunked", "HTTP/1.0"])
def test_a_stream_has_its_tokens_at_the_end_and_its_first_byte_when_it_comes(*, old: bool) -> None:
    async def test(here: House) -> None:
        answered = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            await answered.wait()
            exchange.chunk(b"data: {}\n\n")
            exchange.chunk(b"data: " + USAGE + b"\n\n")
            exchange.chunk(b"data: [DONE]\n\n")
            exchange.end_chunks()

        here.upstream.script = script
        here.open()
        request = post(BODY)
        reader, writer = await here.raw(request.replace(b"HTTP/1.1", b"HTTP/1.0") if old else request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert not ends(here)
        answered.set()
        rest = await reader.read()
        writer.close()
        await ended(here, (MODEL, "ok", 200))
        meter = here.telling.meters.of[MODEL]
        assert (meter.prompt_tokens, meter.completion_tokens) == (5, 2)
        assert meter.answer_bytes == len(head + rest)
        assert meter.first_byte_s < meter.duration_s

    live(test)


def test_who_waited_is_counted_with_how_long() -> None:
    async def test(here: House) -> None:
        asked = asyncio.create_task(here.chat())
        await until(lambda: here.waiting == 1)
        here.open()
        assert (await asked).status_code == 200
        meter = here.telling.meters.of[MODEL]
        assert (meter.at_once, sum(meter.waits)) == (0, 1)
        assert 0 < meter.wait_s <= meter.duration_s

    live(test)


@pytest.mark.parametrize("when", ["waiting", "asked", "answering"])
def test_a_client_that_goes(when: str) -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            if when == "answering":
                exchange.start_events()
                exchange.chunk(b"data: {}\n\n")
            await exchange.gone.wait()

        here.upstream.script = script
        if when != "waiting":
            here.open()
        reader, writer = await here.raw(post(BODY))
        if when == "waiting":
            await until(lambda: here.waiting == 1)
        elif when == "asked":
            await until(lambda: here.upstream.exchanges)
        else:
            await reader.readuntil(b"data: {}")
        writer.close()
        await ended(here, (MODEL, "client_gone", 499))

    live(test)


def test_an_engine_that_goes_before_its_answer_and_within_it() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            if len(here.upstream.exchanges) == 2:
                exchange.start_events()
                exchange.chunk(b"data: {}\n\n")
            exchange.close()

        here.upstream.script = script
        here.open()
        assert (await here.chat()).status_code == 502
        assert "broke off" in (await here.chat()).text
        await ended(here, (MODEL, "engine_error", 502), (MODEL, "engine_error", 200))

    live(test)


def test_an_engine_that_says_nothing() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            await exchange.gone.wait()

        here.upstream.script = script
        here.open()
        assert (await here.chat()).status_code == 504
        await ended(here, (MODEL, "timeout", 504))

    live(test, limits=Limits(first_byte_s=0.1))


def test_a_queue_that_is_full_or_takes_too_long() -> None:
    async def test(here: House) -> None:
        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(here.chat())
            await until(lambda: here.waiting == 1)
            assert (await here.chat()).status_code == 429
        assert first.result().status_code == 503
        await ended(here, (MODEL, "refused", 429), (MODEL, "timeout", 503))

    live(test, ModelSpec(model=MODEL, max_queue=1, queue_timeout_s=0.2))


def test_a_model_that_does_not_start() -> None:
    async def test(here: House) -> None:
        asked = asyncio.create_task(here.chat())
        await until(lambda: here.waiting == 1)
        here.control.board.fail_waiters(MODEL, Failure(status=503, code="engine_failed", message="no"))
        assert (await asked).status_code == 503
        await ended(here, (MODEL, "engine_error", 503))

    live(test)


def test_what_clients_make_up_is_no_label() -> None:
    async def test(here: House) -> None:
        for i in range(3):
            assert (await here.chat({"model": f"made/up-{i}"})).status_code == 404
        assert (await here.http.post(CHAT, content=b"{")).status_code == 400
        reader, writer = await here.raw(b"BREW /pot HTTP/1.1\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 501 ")
        writer.close()
        assert ends(here) == {("", "refused", 404): 3, ("", "refused", 400): 1, ("", "refused", 501): 1}
        text = (await here.http.get("/metrics")).text
        assert "made" not in text

    live(test)


def test_ollamas_requests_count_too() -> None:
    async def test(here: House) -> None:
        here.open()
        assert (await here.http.post("/api/chat", json={"model": MODEL})).status_code == 200  # only to load it
        assert (await here.http.post("/api/chat", json={"model": "nope"})).status_code == 404
        assert (await here.http.post("/api/chat", content=b"{")).status_code == 400
        await ended(here, (MODEL, "ok", 200), ("", "refused", 404), ("", "refused", 400))

    live(test)


def test_a_websocket_is_in_flight_while_it_is_open_and_counts_when_it_ends() -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            mouth = await a_mouth(here, "?model=tiny")
            assert (await mouth.hear_event())["type"] == "session.created"
            assert here.in_flight == 1
            ear.say(b"x" * 1000)
            await mouth.hear()
            mouth.say(b"y" * 500)
            await until(lambda: any(message.payload == b"y" * 500 for message in ear.messages))
            assert ends(here) == {}
            mouth.writer.transport.abort()
            await ended(here, (MODEL, "ok", 101))
            meter = here.telling.meters.of[MODEL]
            assert 500 < meter.request_bytes < 600
            assert 1000 < meter.answer_bytes < 1200

    live(test)


def test_a_websocket_that_an_engine_cuts_or_that_comes_to_none() -> None:
    async def test(here: House) -> None:
        async with an_ear(here) as ear:
            mouth = await a_mouth(here, "?model=tiny")
            await mouth.hear_event()
            ear.writers[-1].transport.abort()
            await mouth.hear_end()
            await ended(here, (MODEL, "engine_error", 101))
        reader, writer = await here.raw(offer("?model=nope"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 404 ")
        writer.close()
        await ended(here, (MODEL, "engine_error", 101), ("", "refused", 404))

    live(test)


def test_metrics_are_what_prometheus_reads() -> None:
    async def test(here: House) -> None:
        here.open()
        await here.chat()
        waits = asyncio.create_task(here.http.post(CHAT, json={"model": "org/other"}))
        await until(lambda: here.control.board.demand_of("org/other").waiting == 1)
        answer = await here.http.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=")
        families = {family.name: family for family in text_string_to_metric_families(answer.text)}
        (count,) = families["vllama_requests"].samples
        assert (count.labels, count.value) == ({"model": MODEL, "outcome": "ok", "code": "2xx"}, 1.0)
        phases = [s.labels for s in families["vllama_model_phase"].samples if s.value]
        assert phases == [{"model": MODEL, "phase": "Ready"}, {"model": "org/other", "phase": "Stopped"}]
        assert [s.labels["type"] for s in families["vllama_condition"].samples] == ["LoopRuns"]
        here.control.board.fail_waiters("org/other", Failure(status=503, code="x", message="x"))
        await waits

    live(test, ModelSpec(model=MODEL), ModelSpec(model="org/other"))


def test_engines_are_asked_beside_each_other_and_one_that_hangs_costs_its_deadline() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            if "hung" in exchange.line:
                await exchange.gone.wait()
            elif "broken" in exchange.line:
                exchange.answer(b"broken", status=500)
            else:
                await until(lambda: len(here.upstream.exchanges) == 3, "all asked at once")
                exchange.answer(b"# TYPE vllm:x gauge\nvllm:x 1\n# TYPE http_x gauge\nhttp_x 1\n")

        here.upstream.script = script
        here.control.addresses = [
            EngineAddress(model=model, at=Address(base_url=f"http://127.0.0.1:{here.upstream.port}/{model}"))
            for model in ("well", "hung", "broken")
        ]
        here.control.addresses.append(EngineAddress(model="gone", at=Address(base_url="http://127.0.0.1:1")))
        text = (await here.http.get("/metrics/engines")).text
        families = {family.name: family for family in text_string_to_metric_families(text)}
        up = {sample.labels["model"]: sample.value for sample in families["vllama_engine_up"].samples}
        assert up == {"well": 1, "hung": 0, "broken": 0, "gone": 0}
        assert [sample.labels for sample in families["vllm:x"].samples] == [{"model": "well"}]
        assert "http_x" not in families

    live(test, metrics_within_s=1.0)
