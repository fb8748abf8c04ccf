import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.simulator.engines import CHAT, Engine, sse_events
from tests.waiting import wait_until

USAGE = ["prompt_tokens", "total_tokens", "completion_tokens"]
JSON = {"content-type": "application/json"}


def error_of(response: httpx.Response) -> dict:
    assert response.headers["content-type"] == "application/json"
    error = response.json()["error"]
    assert list(error) == ["message", "type", "param", "code"]
    assert error["code"] == response.status_code
    return error


def test_chat(shared_chat: Engine) -> None:
    response = shared_chat.chat(model="alias", max_tokens=4)
    answer = response.json()
    assert (response.status_code, response.headers["server"], response.headers["vary"]) == (200, "uvicorn", "Origin")
    head = "id object created model choices service_tier system_fingerprint usage prompt_logprobs prompt_token_ids"
    assert list(answer) == [*head.split(), "prompt_text", "kv_transfer_params", "ec_transfer_params", "metrics"]
    assert (answer["object"], answer["model"]) == ("chat.completion", "chat")  # the first name
    choice = answer["choices"][0]
    keys = "index message logprobs finish_reason stop_reason token_ids routed_experts"
    assert list(choice) == keys.split()
    message = choice["message"]
    assert list(message) == ["role", "content", "refusal", "annotations", "audio", "function_call", "reasoning"]
    assert (message["role"], len(message["content"].split()), choice["finish_reason"]) == ("assistant", 4, "length")
    usage = answer["usage"]
    assert list(usage) == [*USAGE, "prompt_tokens_details", "completion_tokens_details"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["completion_tokens"] == 4


def test_the_same_question_has_the_same_answer(shared_chat: Engine) -> None:
    first = shared_chat.text()
    assert first == shared_chat.text()
    assert len(first.split()) == 16
    assert first != shared_chat.text(messages=[{"role": "user", "content": "another thing"}])
    assert shared_chat.chat().json()["choices"][0]["finish_reason"] == "stop"


def test_the_model_may_be_left_out_and_the_request_id_chosen(shared_chat: Engine) -> None:
    response = shared_chat.http.post("/v1/chat/completions", json=CHAT, headers={"X-Request-Id": "my-id-1"})
    assert (response.json()["model"], response.json()["id"]) == ("chat", "chatcmpl-my-id-1")


def test_chat_stream(shared_chat: Engine) -> None:
    body = CHAT | {"stream": True, "max_tokens": 3}
    with shared_chat.http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        *events, done = sse_events(response)
    assert done == "[DONE]"
    first, *middle, last = map(json.loads, events)
    assert list(first) == ["id", "object", "created", "model", "choices", "prompt_token_ids", "prompt_text"]
    assert first["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    ]
    assert [list(chunk) for chunk in middle] == [["id", "object", "created", "model", "choices"]] * 2
    assert list(middle[0]["choices"][0]) == ["index", "delta", "logprobs", "finish_reason", "token_ids"]
    assert list(last) == ["id", "object", "created", "model", "choices", "system_fingerprint"]
    assert list(last["choices"][0]) == ["index", "delta", "logprobs", "finish_reason", "stop_reason", "token_ids"]
    assert last["choices"][0]["finish_reason"] == "length"
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in [first, *middle, last])
    assert text == shared_chat.text(max_tokens=3)


@pytest.mark.parametrize("continuous", [False, True])
def test_stream_usage(shared_chat: Engine, continuous: bool) -> None:
    options = {"include_usage": True, "continuous_usage_stats": continuous}
    for path, body in (("chat/completions", CHAT), ("completions", {"prompt": "once upon"})):
        more = {"stream": True, "max_tokens": 3, "stream_options": options}
        response = shared_chat.http.post(f"/v1/{path}", json=body | more)
        *chunks, last = [json.loads(event) for event in sse_events(response) if event != "[DONE]"]
        assert last["choices"] == []
        assert list(last["usage"]) == USAGE
        assert last["usage"]["completion_tokens"] == 3
        assert "system_fingerprint" in last
        assert all(("usage" in chunk) == continuous and "system_fingerprint" not in chunk for chunk in chunks)


def test_completions(shared_chat: Engine) -> None:
    answer = shared_chat.http.post("/v1/completions", json={"prompt": "once upon"}).json()
    head = "id object created model choices service_tier system_fingerprint usage"
    assert list(answer) == [*head.split(), "kv_transfer_params", "ec_transfer_params", "metrics"]
    keys = "index text logprobs finish_reason stop_reason token_ids prompt_logprobs prompt_token_ids routed_experts"
    assert list(answer["choices"][0]) == keys.split()
    assert answer["id"].startswith("cmpl-")
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 16)


def test_completions_of_several_prompts_and_of_tokens(shared_chat: Engine) -> None:
    tokens = shared_chat.http.post("/tokenize", json={"prompt": "once upon"}).json()["tokens"]

    def texts(prompt: object) -> list[str]:
        answer = shared_chat.http.post("/v1/completions", json={"prompt": prompt, "max_tokens": 3}).json()
        return [choice["text"] for choice in answer["choices"]]

    assert texts(["once upon", "a time"]) == [*texts("once upon"), *texts("a time")]
    assert texts(tokens) == texts("once upon")


def test_completion_stream(shared_chat: Engine) -> None:
    body = {"prompt": "once upon", "max_tokens": 2, "stream": True}
    *events, done = sse_events(shared_chat.http.post("/v1/completions", json=body))
    chunks = [json.loads(event) for event in events]
    keys = "index text logprobs finish_reason stop_reason prompt_token_ids token_ids"
    assert [list(chunk["choices"][0]) for chunk in chunks] == [keys.split()] * 2
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, "length"]
    assert done == "[DONE]"


def test_an_unknown_model(shared_chat: Engine) -> None:
    assert error_of(shared_chat.chat(model="nope")) == {
        "message": "The model `nope` does not exist. Valid aliases: chat, alias.",
        "type": "NotFoundError",
        "param": "model",
        "code": 404,
    }


def test_bad_json(shared_chat: Engine) -> None:
    response = shared_chat.http.post("/v1/chat/completions", content=b"{bad", headers=JSON)
    error = error_of(response)
    assert error["message"].startswith(
        "1 validation error:\n  {'type': 'json_invalid', 'loc': 'body.1', 'msg': 'JSON decode error', "
    )
    assert (response.status_code, error["type"], error["param"]) == (400, "Bad Request", "body.1")


def test_missing_fields(shared_chat: Engine) -> None:
    for path, kind, param in (
        ("chat/completions", "Bad Request", "body.messages"),
        ("completions", "BadRequestError", "prompt"),
        ("responses", "Bad Request", "body.input"),
    ):
        error = error_of(shared_chat.http.post(f"/v1/{path}", json={"model": "chat"}))
        assert (error["type"], error["param"], error["code"]) == (kind, param, 400)


def test_only_json(shared_chat: Engine) -> None:
    response = shared_chat.http.post("/v1/completions", content=b"{}", headers={"content-type": "text/plain"})
    assert "Unsupported Media Type: Only 'application/json' is allowed" in error_of(response)["message"]


def test_a_prompt_that_is_too_long(shared_chat: Engine) -> None:
    error = error_of(shared_chat.http.post("/v1/completions", json={"prompt": "long " * 5000}))
    assert error["message"] == (
        "This model's maximum context length is 4096 tokens. However, your prompt contains at least 4097 input tokens, "
        "which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. "
        "(parameter=input_tokens, value=4097)"
    )
    assert (error["type"], error["param"], error["code"]) == ("BadRequestError", "input_tokens", 400)


@pytest.mark.parametrize(
    ("limit", "message"),
    [
        (0, "max_tokens must be at least 1, got 0."),
        (5000, "max_tokens=5000 cannot be greater than max_model_len=4096."),
    ],
)
def test_max_tokens_out_of_range(shared_chat: Engine, limit: int, message: str) -> None:
    error = error_of(shared_chat.chat(max_tokens=limit))
    assert error["message"].startswith(message)
    assert error["type"] == "BadRequestError"


def test_an_odd_request_has_an_answer(shared_chat: Engine) -> None:
    error = error_of(shared_chat.chat(messages=[{"role": "user", "content": ["text", 7]}]))
    assert (error["type"], error["code"]) == ("BadRequestError", 400)


def test_tools_need_a_parser(shared_chat: Engine) -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    message = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
    assert error_of(shared_chat.chat(tools=[tool]))["message"] == message


def test_a_client_that_leaves_is_forgotten(shared_chat: Engine) -> None:
    def aborted() -> float:
        return shared_chat.metric("vllm:request_success_total", 'finished_reason="abort"')

    before = aborted()
    with pytest.raises(httpx.ReadTimeout):
        shared_chat.http.post("/v1/chat/completions", json=CHAT | {"max_tokens": 4000}, timeout=0.1)
    wait_until(lambda: aborted() == before + 1, what="the request is aborted")
    running = "vllm:num_requests_running"
    wait_until(lambda: shared_chat.metric(running) == 0, deadline_s=3, what="the core stops long before it is done")
    wait_until(lambda: shared_chat.http.get("/load").json() == {"server_load": 0}, what="nothing is under way")


def test_many_at_once_are_all_answered(shared_chat: Engine) -> None:
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda number: shared_chat.text(max_tokens=5, user=str(number)), range(64)))
    assert len(set(answers)) == 1
