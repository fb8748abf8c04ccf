"""What a client of each dialect reads when something is wrong; the real clients are the judges where there is one."""

import json

import anthropic
import httpx
import openai
import pytest

from tests.gateway.house import MODEL, House, live, post
from tests.gateway.upstream import Exchange
from vllama.controller.demand import Failure
from vllama.gateway import errors
from vllama.gateway.dialects import Dialect, dialect_of, render, render_event, rendered

GONE = errors.engine_broke_off("m", "reset")


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        (b"/v1/messages", Dialect.ANTHROPIC),
        (b"/v1/messages/count_tokens", Dialect.ANTHROPIC),
        (b"/v1/messages/nothing", Dialect.ANTHROPIC),
        (b"/v1/responses", Dialect.RESPONSES),
        (b"/v1/responses/resp_1/cancel", Dialect.RESPONSES),
        (b"/v1/chat/completions", Dialect.OPENAI),
        (b"/rerank", Dialect.OPENAI),
        (b"/api/chat", Dialect.OLLAMA),
        (b"/nothing", Dialect.OPENAI),
    ],
)
def test_the_path_tells_the_dialect(path: bytes, dialect: Dialect) -> None:
    assert dialect_of(path) is dialect


@pytest.mark.parametrize("dialect", Dialect)
def test_what_many_are_told_is_made_once(dialect: Dialect) -> None:
    failure = Failure(status=503, code="engine_failed", message="it failed", retry_after_s=10.0)
    lines, body = rendered(errors.failed(failure), dialect)
    assert rendered(errors.failed(failure), dialect)[1] is body
    assert body == render(errors.failed(failure), dialect)[1]
    assert lines == b"content-type: application/json\r\ncontent-length: %d\r\nretry-after: 10\r\n" % len(body)


@pytest.mark.parametrize("dialect", Dialect)
def test_who_has_no_key_reads_so_in_every_dialect(dialect: Dialect) -> None:
    answer = errors.unauthorized(b"/v1/models")
    headers, body = render(answer, dialect)
    assert dict(headers)[b"www-authenticate"] == b"Bearer"
    match dialect:
        case Dialect.ANTHROPIC:
            assert json.loads(body)["error"]["type"] == "authentication_error"
        case Dialect.OLLAMA:
            assert json.loads(body) == {"error": answer.message}
        case Dialect.OPENAI | Dialect.RESPONSES:
            assert json.loads(body)["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
    ],
)
def test_anthropic_has_its_own_words(status: int, kind: str) -> None:
    answer = errors.failed(Failure(status=status, code="c", message="m.", retry_after_s=3.0))
    headers, body = render(answer, Dialect.ANTHROPIC)
    assert json.loads(body) == {"type": "error", "error": {"type": kind, "message": "m."}}
    assert {(b"content-length", b"%d" % len(body)), (b"retry-after", b"3")} <= set(headers)


@pytest.mark.parametrize(
    ("sent", "gap"),
    [(b"", b""), (b"}\n\n", b""), (b"\r\n\r\n", b""), (b"\n", b"\n"), (b"}\r\n", b"\n"), (b'{"ch', b"\n\n")],
)
@pytest.mark.parametrize("dialect", [Dialect.OPENAI, Dialect.RESPONSES, Dialect.ANTHROPIC])
def test_the_last_event_of_a_broken_stream_is_one_of_its_own(dialect: Dialect, sent: bytes, gap: bytes) -> None:
    event = render_event(GONE, dialect, sent)
    name = b"" if dialect is Dialect.OPENAI else b"event: error\n"
    assert event.startswith(gap + name + b"data: {")
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n\n") == 1 + (gap == b"\n\n")
    assert b"[DONE]" not in event


def test_ollama_has_lines_and_one_word() -> None:
    assert render(GONE, Dialect.OLLAMA)[1] == json.dumps({"error": GONE.message}, separators=(",", ":")).encode()
    assert render_event(GONE, Dialect.OLLAMA, b'{"done":false}\n') == render(GONE, Dialect.OLLAMA)[1] + b"\n"


async def broken_stream(exchange: Exchange) -> None:
    exchange.start_events()
    exchange.chunk(b'event: message_start\ndata: {"type":"message_start","message":{"content":[]}}\n\n')
    exchange.close()


def test_the_client_of_anthropic_raises_what_is_meant() -> None:
    async def test(here: House) -> None:
        def client() -> anthropic.AsyncAnthropic:
            return anthropic.AsyncAnthropic(base_url=f"http://127.0.0.1:{here.port}", api_key="none", max_retries=0)

        asked = {"max_tokens": 4, "messages": [{"role": "user", "content": "hello"}]}
        async with client() as one:
            with pytest.raises(anthropic.NotFoundError, match="There is no model 'nope'"):
                await one.messages.create(model="nope", **asked)
            here.upstream.script = broken_stream
            here.open()
            with pytest.raises(anthropic.APIStatusError, match="broke off in the middle"):
                async for _ in await one.messages.create(model=MODEL, stream=True, **asked):
                    pass

    live(test)


def test_the_client_of_openai_reads_the_error_event_of_responses() -> None:
    async def test(here: House) -> None:
        here.upstream.script = broken_stream
        here.open()
        base_url = f"http://127.0.0.1:{here.port}/v1"
        async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
            stream = await client.responses.create(model=MODEL, input="hello", stream=True)
            *_, last = [event async for event in stream]
            assert (last.type, last.code) == ("error", "engine_gone")
            asked = [{"role": "user", "content": "hello"}]
            with pytest.raises(openai.APIError, match="broke off in the middle"):
                async for _ in await client.chat.completions.create(model=MODEL, messages=asked, stream=True):
                    pass

    live(test)


@pytest.mark.parametrize("refused", ["wrong method", "unknown path", "too large"])
def test_what_never_reaches_a_model_is_refused_in_the_dialect_too(refused: str) -> None:
    async def test(here: House) -> None:
        match refused:
            case "wrong method":
                answer = await here.http.get("/v1/messages")
                assert answer.headers["allow"] == "POST"
            case "unknown path":
                answer = await here.http.post("/v1/messages/batches")
            case _:
                head = f"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: {1 << 40}\r\n\r\n"
                reader, writer = await here.raw(head.encode())
                body = (await reader.read()).partition(b"\r\n\r\n")[2]
                writer.close()
                answer = httpx.Response(413, content=body)
        said = answer.json()
        assert set(said) == {"type", "error"}
        assert set(said["error"]) == {"type", "message"}

    live(test)


def test_a_head_of_which_nothing_was_understood_is_refused_as_openai_does() -> None:
    async def test(here: House) -> None:
        reader, writer = await here.raw(post(b"{}", target="/v1/messages").replace(b"host: x\r\n", b""))
        body = (await reader.read()).partition(b"\r\n\r\n")[2]
        writer.close()
        assert json.loads(body)["error"]["code"] == "malformed_request"

    live(test)
