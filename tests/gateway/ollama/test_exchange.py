"""Ollama's words on the data path: what the engine gets, what the client gets, and what becomes of both."""

import asyncio
import base64
import json
import threading

import pytest

from tests.gateway.house import MODEL, House, live, post, until
from tests.gateway.upstream import Exchange
from vllama.domain.demand import KeepAlive
from vllama.domain.units import MIB
from vllama.gateway.ollama import lines

CHAT, GENERATE = "/api/chat", "/api/generate"
HI = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
WORDS = ["hé", "é 🦙", " end"]


def event(**chunk) -> bytes:
    return b"data: %b\n\n" % json.dumps(chunk, ensure_ascii=False).encode()


def word(text, finish_reason=None) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish_reason}])


USAGE = event(choices=[], usage={"prompt_tokens": 5, "total_tokens": 8, "completion_tokens": 3})
DONE = b"data: [DONE]\n\n"
STREAM = b"".join(map(word, WORDS)) + word("", "stop") + USAGE + DONE


def streaming(stream=STREAM, *, step=10_000):
    async def script(exchange: Exchange) -> None:
        exchange.start_events()
        for start in range(0, len(stream), step):
            exchange.chunk(stream[start : start + step])
            await asyncio.sleep(0)
        exchange.end_chunks()

    return script


def lines_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize(("step", "streamed"), [(1, True), (7, False), (10_000, True)])
def test_a_chat_however_the_engines_answer_is_cut(step, streamed):
    async def test(here: House) -> None:
        here.upstream.script = streaming(step=step)
        here.open()
        answer = await here.http.post(CHAT, json=HI | {"stream": streamed})
        found = lines_of(answer.text)
        assert answer.status_code == 200
        assert "".join(line["message"]["content"] for line in found) == "".join(WORDS)
        assert len(found) == (4 if streamed else 1)
        assert (found[-1]["done"], found[-1]["done_reason"], found[-1]["eval_count"]) == (True, "stop", 3)
        assert {line["model"] for line in found} == {"tiny"}
        kind = "application/x-ndjson" if streamed else "application/json; charset=utf-8"
        assert (answer.headers["content-type"], answer.headers["x-vllama-state"]) == (kind, "hit")
        (exchange,) = here.upstream.exchanges
        assert exchange.line == "POST /v1/chat/completions HTTP/1.1"
        assert json.loads(exchange.body)["model"] == MODEL

    live(test)


def test_the_engine_gets_what_it_needs_of_the_headers_and_nothing_else():
    async def test(here: House) -> None:
        here.upstream.script = streaming()
        here.open()
        headers = {"content-type": "application/x-www-form-urlencoded", "x-request-id": "7", "cookie": "a=b",
                   "accept-encoding": "gzip", "authorization": "Bearer k", "traceparent": "00-1"}  # fmt: skip
        assert (await here.http.post(f"{CHAT}?x=1", json=HI, headers=headers)).status_code == 200
        (exchange,) = here.upstream.exchanges
        assert exchange.line == "POST /v1/chat/completions HTTP/1.1"
        assert {name.lower(): value for name, value in exchange.headers} == {
            "content-type": "application/json", "x-request-id": "7",
            "traceparent": "00-1", "host": f"127.0.0.1:{here.upstream.port}", "content-length": str(len(exchange.body)),
        }  # fmt: skip

    live(test)


def test_each_line_is_passed_on_before_the_next_word_exists():
    async def test(here: House) -> None:
        following = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            for text in WORDS:
                exchange.chunk(word(text))
                await following.wait()
                following.clear()
            exchange.chunk(word("", "stop") + USAGE + DONE)
            exchange.end_chunks()

        here.upstream.script = script
        here.open()
        got = []
        async with here.http.stream("POST", CHAT, json=HI) as answer:
            async for line in answer.aiter_lines():
                said = json.loads(line)
                got.append(said["message"]["content"])
                assert said["done"] or here.in_flight == 1
                following.set()
        assert got == [*WORDS, ""]

    live(test)


def test_several_requests_on_one_connection_and_an_engine_connection_that_is_used_again():
    async def test(here: House) -> None:
        here.upstream.script = streaming()
        here.open()
        body = json.dumps(HI).encode()
        request = post(body, target=CHAT, headers="")
        reader, writer = await here.raw(request + request + post(body, target=CHAT))
        answer = await reader.read()
        writer.close()
        assert answer.count(b"HTTP/1.1 200 OK\r\n") == 3
        assert answer.count(b'"done":true') == 3
        assert [exchange.connection for exchange in here.upstream.exchanges] == [1, 1, 1]

    live(test)


def test_a_client_of_http_1_0_gets_lines_without_chunks():
    async def test(here: House) -> None:
        here.upstream.script = streaming()
        here.open()
        body = json.dumps(HI).encode()
        reader, writer = await here.raw(b"POST /api/chat HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        head, _, answer = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert b"transfer-encoding" not in head
        assert len(lines_of(answer.decode())) == 4

    live(test)


@pytest.mark.parametrize("when", ["waiting", "asked", "answering"])
def test_a_client_that_goes_takes_its_request_along(when):
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            if when == "answering":
                exchange.start_events()
                exchange.chunk(word("a"))
            await exchange.gone.wait()

        here.upstream.script = script
        if when != "waiting":
            here.open()
        reader, writer = await here.raw(post(json.dumps(HI).encode(), target=CHAT))
        if when == "waiting":
            await until(lambda: here.waiting == 1)
        elif when == "asked":
            await until(lambda: here.upstream.exchanges)
        else:
            await reader.readuntil(b'"done":false}\n')
            assert here.in_flight == 1
        writer.transport.abort()
        if when == "waiting":
            await until(lambda: here.waiting == 0)
        else:
            await until(here.upstream.exchanges[0].gone.is_set)

    live(test)


def test_a_client_that_stalls_pauses_the_engine_and_then_gets_it_all():
    async def test(here: House) -> None:
        paused, most = asyncio.Event(), 0
        piece = word("x" * 100_000)

        async def script(exchange: Exchange) -> None:
            nonlocal most
            exchange.start_events()
            for _ in range(400):
                exchange.chunk(piece)
                while exchange.transport.get_write_buffer_size() > MIB and not exchange.transport.is_closing():
                    paused.set()
                    await asyncio.sleep(0)
                    connections = here.server.server_state.connections
                    most = max(most, *(one.transport.get_write_buffer_size() for one in connections))
            exchange.chunk(word("", "stop") + DONE)
            exchange.end_chunks()

        here.upstream.script = script
        here.open()
        reader, writer = await here.raw(post(json.dumps(HI).encode(), target=CHAT))
        writer.transport.pause_reading()
        await asyncio.wait_for(paused.wait(), 10)
        writer.transport.resume_reading()
        size = 0
        while read := await asyncio.wait_for(reader.read(MIB), 10):
            size += len(read)
        writer.close()
        assert size > 400 * 100_000
        assert most < MIB

    live(test)


@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"", "it closed the connection"),
        (b'data: {"choices":', "it closed the connection"),
        (b"data: nonsense\n\n", "one of its events cannot be read"),
        (b'data: {"choices":[{"delta":{"content":"\xff"}}]}\n\n', "one of its events cannot be read"),
        (event(error={"message": "the core died", "code": 500}), "the core died"),
    ],
)
def test_a_stream_that_breaks_ends_with_a_line_that_says_so(sent, said, streamed):
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            exchange.chunk(word("a") + sent)
            if said == "it closed the connection":
                exchange.close()
            else:
                await exchange.gone.wait()  # who talks nonsense is not listened to any longer

        here.upstream.script = script
        here.open()
        answer = await here.http.post(CHAT, json=HI | {"stream": streamed})
        last = lines_of(answer.text)[-1]
        assert said in last["error"]
        assert list(last) == ["error"]
        assert answer.status_code == (200 if streamed else 500 if "core" in said else 502)
        await until(here.upstream.exchanges[0].gone.is_set)
        assert (await here.http.get("/livez")).status_code == 200

    live(test)


def test_an_engine_that_ends_its_stream_too_early_is_told_of():
    async def test(here: House) -> None:
        here.upstream.script = streaming(word("a"))
        here.open()
        found = lines_of((await here.http.post(CHAT, json=HI)).text)
        assert [list(line) for line in found[1:]] == [["error"]]
        assert "it ended without saying so" in found[1]["error"]

    live(test)


def test_an_error_that_comes_first_has_its_own_status():
    async def test(here: House) -> None:
        here.upstream.script = streaming(event(error={"message": "bad words", "code": 400}) + DONE)
        here.open()
        answer = await here.http.post(CHAT, json=HI)
        assert (answer.status_code, answer.json()) == (400, {"error": "bad words"})

    live(test)


REFUSALS = [
    (400, b'{"error":{"message":"too long","type":"BadRequestError","code":400}}', 400, "too long"),
    (404, b'{"detail":"Not Found"}', 404, "Not Found"),
    (503, b"busy", 503, f"The engine of {MODEL!r} answered 503."),
    (307, b"", 502, f"The engine of {MODEL!r} answered 307."),
    (599, b'{"error":"x"}', 502, "x"),
]


@pytest.mark.parametrize("path", [CHAT, "/api/embed"])
def test_what_the_engine_refuses_is_refused_in_ollamas_shape(path):
    async def test(here: House) -> None:
        here.open()
        for status, body, expected, sentence in REFUSALS:

            async def script(exchange: Exchange, status=status, body=body) -> None:
                exchange.answer(body, status=status)

            here.upstream.script = script
            answer = await here.http.post(path, json=HI | {"input": "x"})
            assert (answer.status_code, answer.json()) == (expected, {"error": sentence})

    live(test)


def test_an_engine_that_is_not_there_and_one_that_goes_before_it_answers():
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            exchange.close()

        here.upstream.script = script
        here.open()
        gone = await here.http.post(CHAT, json=HI)
        port, here.upstream.port = here.upstream.port, 1
        here.open()
        absent = await here.http.post(CHAT, json=HI)
        here.upstream.port = port
        for answer in (gone, absent):
            assert (answer.status_code, list(answer.json())) == (502, ["error"])
            assert "went away before it answered" in answer.json()["error"]
            assert answer.headers["retry-after"] == "1"

    live(test)


def test_a_connection_that_went_stale_is_replaced_once():
    async def test(here: House) -> None:
        here.upstream.script = streaming()
        here.open()
        await here.http.post(CHAT, json=HI)
        answering = streaming()

        async def script(exchange: Exchange) -> None:
            if exchange.connection == 1:
                exchange.close()
            else:
                await answering(exchange)

        here.upstream.script = script
        answer = await here.http.post(CHAT, json=HI)
        assert (answer.status_code, len(lines_of(answer.text))) == (200, 4)
        assert [exchange.connection for exchange in here.upstream.exchanges] == [1, 1, 2]

    live(test)


def test_a_picture_of_some_megabytes_is_translated_beside_the_loop():
    async def test(here: House) -> None:
        here.upstream.script = streaming()
        here.open()
        image = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(3 * MIB)).decode()
        message = {"role": "user", "content": "what?", "images": [image]}
        answer = await here.http.post(CHAT, json={"model": "tiny", "messages": [message]})
        assert answer.status_code == 200
        content = json.loads(here.upstream.exchanges[0].body)["messages"][0]["content"]
        assert content[1]["image_url"]["url"] == f"data:image/png;base64,{image}"

    live(test)


def vectors(rows: int, columns: int):
    data = [{"index": n, "object": "embedding", "embedding": [n + 0.5] * columns} for n in range(rows)]
    body = json.dumps({"data": data, "usage": {"prompt_tokens": 9, "total_tokens": 9}}).encode()

    async def script(exchange: Exchange) -> None:
        exchange.answer(body)

    return script


@pytest.mark.parametrize("columns", [4, 100_000])  # the latter beside the loop
def test_embeddings(columns):
    async def test(here: House) -> None:
        here.upstream.script = vectors(3, columns)
        here.open()
        answer = await here.http.post("/api/embed", json={"model": "tiny", "input": ["a", "b", "c"]})
        found = answer.json()
        assert found["embeddings"] == [[n + 0.5] * columns for n in range(3)]
        assert (found["model"], found["prompt_eval_count"]) == ("tiny", 9)
        assert found["total_duration"] > 0
        older = await here.http.post("/api/embeddings", json={"model": "tiny", "prompt": "a"})
        assert older.json() == {"embedding": [0.5] * columns}

    live(test)


def test_a_client_that_goes_while_its_long_answer_is_translated_does_not_take_anothers_along(monkeypatch):
    translating, go_on = threading.Event(), threading.Event()

    def slowly(*args, **kwargs):
        translating.set()
        go_on.wait(10)
        return b"{}"

    async def test(here: House) -> None:
        here.upstream.script = vectors(3, 100_000)
        here.open()
        _, writer = await here.raw(post(b'{"model":"tiny","input":"x"}', target="/api/embed"))
        await until(translating.is_set)
        answering = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            await answering.wait()
            exchange.answer(b"{}")

        here.upstream.script = script
        other = asyncio.ensure_future(here.chat())
        await until(lambda: len(here.upstream.exchanges) == 2)
        writer.transport.abort()
        await until(lambda: here.in_flight == 1)
        answering.set()
        assert (await other).status_code == 200
        assert [exchange.connection for exchange in here.upstream.exchanges] == [1, 1]
        go_on.set()

    monkeypatch.setattr(lines, "embeddings", slowly)
    live(test)


def test_a_name_may_have_a_tag_where_it_is_the_latest():
    async def test(here: House) -> None:
        here.upstream.script = streaming()
        here.open()
        for name in (MODEL, f"{MODEL}:latest", "tiny:latest", "small one"):
            found = lines_of((await here.http.post(GENERATE, json={"model": name, "prompt": "x"})).text)
            assert {line["model"] for line in found} == {name}
        assert {json.loads(one.body)["model"] for one in here.upstream.exchanges} == {MODEL}

    live(test)


MISTAKES = [
    (b'{"model":"tiny:8b"}', 404, "model 'tiny:8b' not found"),
    (b'{"model":"no:latest"}', 404, "model 'no:latest' not found"),
    (b"{}", 400, "model is required"),
    (b'{"model":""}', 400, "model is required"),
    (b"{", 400, "The body is not a JSON object that vllama can read: Input data was truncated."),
]


@pytest.mark.parametrize("path", [CHAT, GENERATE, "/api/embed", "/api/embeddings"])
def test_what_is_refused_at_once(path):
    async def test(here: House) -> None:
        for body, status, error in MISTAKES:
            answer = await here.http.post(path, content=body)
            assert (answer.status_code, answer.json()) == (status, {"error": error})
        assert here.upstream.exchanges == []

    live(test)


def test_a_request_for_nothing_waits_for_the_model_and_counts_as_a_use():
    async def test(here: House) -> None:
        asking = asyncio.ensure_future(here.http.post(GENERATE, json={"model": "tiny"}))
        await until(lambda: here.waiting == 1)
        here.open()
        answer = await asking
        assert answer.json() | {"created_at": ""} == {
            "model": "tiny", "created_at": "", "response": "", "done": True, "done_reason": "load",
        }  # fmt: skip
        empty = await here.http.post(CHAT, json={"model": "tiny", "messages": []})
        assert empty.json()["message"] == {"role": "assistant", "content": ""}
        assert here.control.board.demand()[MODEL].last_used_at is not None
        assert here.upstream.exchanges == []

    live(test)


def test_a_client_that_goes_while_a_model_is_only_loaded_leaves_the_queue():
    async def test(here: House) -> None:
        _, writer = await here.raw(post(b'{"model":"tiny"}', target=GENERATE))
        await until(lambda: here.waiting == 1)
        writer.transport.abort()
        await until(lambda: here.waiting == 0)

    live(test)


@pytest.mark.parametrize(("said", "idle_s"), [("10m", 600), (90, 90), (-1, None), (0, 0), ("0s", 0)])
def test_keep_alive_holds_from_then_on_and_no_engine_sees_it(said, idle_s):
    async def test(here: House) -> None:
        here.upstream.script = streaming()
        here.open()
        for body in (HI, {"model": "tiny"}):
            assert (await here.http.post(CHAT, json=body | {"keep_alive": said})).status_code == 200
            assert here.control.board.demand()[MODEL].keep_alive == KeepAlive(idle_s=idle_s)
        (exchange,) = here.upstream.exchanges
        assert b"keep_alive" not in exchange.body

    live(test)


def test_to_be_let_go_a_model_is_not_woken_first():
    async def test(here: House) -> None:
        answer = await here.http.post(GENERATE, json={"model": "tiny", "keep_alive": 0})
        assert answer.json()["done_reason"] == "unload"
        assert here.waiting == 0

    live(test)


def test_a_keep_alive_that_is_none_is_refused():
    async def test(here: House) -> None:
        here.open()
        for body in (HI, {"model": "tiny"}):
            answer = await here.http.post(CHAT, json=body | {"keep_alive": "a while"})
            assert (answer.status_code, list(answer.json())) == (400, ["error"])
            assert "keep_alive is not a duration" in answer.json()["error"]

    live(test)


def test_signs_of_life_are_no_lines_and_so_are_not_sent():
    async def test(here: House) -> None:
        here.upstream.script = streaming()
        asking = asyncio.ensure_future(here.http.post(CHAT, json=HI, headers={"x-keep-alive": "0.001"}))
        await until(lambda: here.waiting == 1)
        for _ in range(5):  # each of them takes longer than that
            await here.http.get("/livez")
        here.open()
        answer = await asking
        assert len(lines_of(answer.text)) == 4

    live(test)


def test_a_fault_of_ours_is_a_500_in_ollamas_shape(monkeypatch):
    def broken(*args, **kwargs):
        raise RuntimeError("a bug")

    async def test(here: House) -> None:
        here.open()
        answer = await here.http.post(CHAT, json=HI)
        assert (answer.status_code, answer.json()) == (
            500,
            {"error": "vllama failed at this request; its log says where."},
        )

    monkeypatch.setattr("vllama.gateway.ollama.exchange.translate", broken)
    live(test)
