"""What is behind the door, and what stays outside."""

import asyncio
import json
import logging

import openai
import pytest

from tests.gateway.house import CHAT, MODEL, House, live, post, until
from tests.gateway.upstream import Exchange

OUTSIDE = [
    "/sleep",
    "/sleep?level=1",
    "/wake_up",
    "/collective_rpc",
    "/pause",
    "/v1/load_lora_adapter",
    "/METRICS",
    "/server_info",
    "//sleep",
    "/%73leep",
    "/SLEEP",
    "/sleep/",
    "/v1/chat/completions/../../../sleep",
    "/v1/%2e%2e/sleep",
    "/v1%2fchat%2fcompletions",
    "/v1/chat/completions/",
    "//v1/chat/completions",
    "/V1/CHAT/COMPLETIONS",
    "/v1/chat/completions%2f..%2f..%2fsleep",
    "/v1/audio/speech",
    "/v1/models/../../sleep",
    "/docs",
    "/openapi.json",
    "/redoc",
    "/admin",
    "/%61dmin/../sleep",
]


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_no_other_path_reaches_an_engine(method: str) -> None:
    async def test(here: House) -> None:
        here.open()
        statuses = {}
        for target in OUTSIDE:
            request = post(b'{"model":"tiny"}', target=target).replace(b"POST", method.encode(), 1)
            reader, writer = await here.raw(request.replace(b"host: x", b"host: localhost"))
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            writer.close()
            statuses[target] = int(head.split()[1])
            assert json.loads(body)["error"]["type"] == "invalid_request_error", target
        # A name of ours that the client cannot mean: there is a GET for it, and no such model.
        odd = statuses.pop("/v1/models/../../sleep")
        assert odd == (405 if method == "POST" else 404)
        assert set(statuses.values()) == {404}
        assert here.upstream.exchanges == []

    live(test)


def test_management_is_told_what_does_pass() -> None:
    async def test(here: House) -> None:
        error = (await here.http.post("/wake_up", json={"model": "tiny"})).json()["error"]
        assert error["code"] == "not_passed_on"
        assert CHAT in error["message"]

    live(test)


def test_another_method_is_a_405() -> None:
    async def test(here: House) -> None:
        for method in ("GET", "PUT", "OPTIONS"):
            answer = await here.http.request(method, CHAT)
            assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
            assert answer.json()["error"]["code"] == "method_not_allowed"
        answer = await here.http.post("/v1/models")
        assert (answer.status_code, answer.headers["allow"]) == (405, "GET")
        assert answer.json()["error"]["code"] == "method_not_allowed"

    live(test)


def test_no_other_site_may_call_from_a_browser() -> None:
    async def test(here: House) -> None:
        here.open()
        answer = await here.chat(headers={"origin": "http://evil.example"})
        assert "access-control-allow-origin" not in answer.headers

    live(test)


def test_a_fault_of_ours_is_a_500_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def test(here: House) -> None:
        here.control.specs = None  # type: ignore[assignment]
        answers = [await here.chat(), await here.http.get("/v1/models")]
        here.control.specs = []
        for answer in answers:
            assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal_error")
            assert "NoneType" not in answer.text

    with caplog.at_level(logging.CRITICAL, logger="uvicorn.error"):
        live(test)


def test_the_openai_client_reads_answers_and_errors() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            exchange.chunk(b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n')
            exchange.close()

        here.upstream.script = script
        url = f"http://127.0.0.1:{here.port}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key="k", max_retries=0) as client:
            assert [model.id async for model in client.models.list()] == [MODEL, "tiny", "small one"]
            assert (await client.models.retrieve(MODEL)).owned_by == "vllama"
            with pytest.raises(openai.NotFoundError) as unknown:
                await client.chat.completions.create(model="nope", messages=[])
            assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
            here.open()
            chunks = aiter(await client.chat.completions.create(model="tiny", messages=[], stream=True))
            assert (await anext(chunks)).choices[0].delta.content == "hi"
            with pytest.raises(openai.APIError, match="in the middle of its answer"):
                await anext(chunks)

    live(test)


def test_a_second_request_on_the_same_connection_is_served() -> None:
    async def test(here: House) -> None:
        here.open()
        request = post(b'{"model":"tiny"}', headers="")
        reader, writer = await here.raw(request)
        for _ in range(3):
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
            assert head.startswith(b"HTTP/1.1 200 ")
            await reader.readexactly(len(b'{"model":"%s"}' % MODEL.encode()))
            writer.write(request)
        writer.close()
        await until(lambda: len(here.upstream.exchanges) >= 3)

    live(test)
