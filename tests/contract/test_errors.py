"""How requests are refused, word for word. The words were recorded from real vLLM."""

import httpx
import pytest

from tests.contract.shapes import check, exact

JSON = {"content-type": "application/json"}
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
ASKED = {"messages": [{"role": "user", "content": "x"}]}
TOOL = {"type": "function", "function": {"name": "f"}}
LONG = "x" * 20000  # tokens, at most one letter each
LONG_FOR_512 = "x" * 2900  # vLLM counts letters first: more than 512 longest tokens are refused in other words

# name: (engine, path, body). A body of bytes is sent as it is, as JSON.
CASES = {
    "unknown_model_chat": ("chat", CHAT, ASKED | {"model": "nope"}),
    "unknown_model_completion": ("chat", TEXT, {"model": "nope", "prompt": "x"}),
    "unknown_model_response": ("chat", "/v1/responses", {"model": "nope", "input": "x"}),
    "unknown_model_message": ("chat", "/v1/messages", ASKED | {"model": "nope", "max_tokens": 2}),
    "unknown_model_count": ("chat", "/v1/messages/count_tokens", ASKED | {"model": "nope"}),
    "unknown_model_tokenize": ("chat", "/tokenize", {"model": "nope", "prompt": "x"}),
    "unknown_model_embeddings": ("embedder", "/v1/embeddings", {"model": "nope", "input": "x"}),
    "unknown_model_rerank": ("reranker", "/rerank", {"model": "nope", "query": "x", "documents": ["y"]}),
    "unknown_model_score": ("reranker", "/score", {"model": "nope", "queries": "x", "documents": ["y"]}),
    "unknown_model_classify": ("reranker", "/classify", {"model": "nope", "input": "x"}),
    "bad_json": ("chat", CHAT, b"{bad"),
    "bad_json_message": ("chat", "/v1/messages", b"{bad"),
    "bad_json_embeddings": ("embedder", "/v1/embeddings", b"{bad"),
    "bad_json_invocations": ("chat", "/invocations", b"{"),
    "no_object": ("chat", CHAT, b"[]"),
    "nothing_chat": ("chat", CHAT, {}),
    "nothing_completion": ("chat", TEXT, {}),
    "nothing_response": ("chat", "/v1/responses", {}),
    "nothing_message": ("chat", "/v1/messages", {}),
    "nothing_count": ("chat", "/v1/messages/count_tokens", {}),
    "nothing_tokenize": ("chat", "/tokenize", {}),
    "nothing_detokenize": ("chat", "/detokenize", {}),
    "nothing_invocations": ("chat", "/invocations", {"x": 1}),
    "nothing_embeddings": ("embedder", "/v1/embeddings", {}),
    "nothing_rerank": ("reranker", "/rerank", {}),
    "nothing_score": ("reranker", "/score", {}),
    "nothing_classify": ("reranker", "/classify", {}),
    "nothing_pooling": ("reranker", "/pooling", {"query": "x"}),
    "no_model_embeddings": ("embedder", "/v1/embeddings", {"model": "embed"}),
    "no_messages": ("chat", CHAT, {"messages": []}),
    "messages_no_list": ("chat", CHAT, {"messages": 7}),
    "no_prompt": ("chat", TEXT, {"prompt": []}),
    "prompt_too_long": ("chat", TEXT, {"prompt": LONG}),
    "chat_too_long": ("chat", CHAT, {"messages": [{"role": "user", "content": LONG}]}),
    "input_too_long": ("embedder", "/v1/embeddings", {"input": LONG_FOR_512}),
    "document_too_long": ("reranker", "/rerank", {"query": "x", "documents": [LONG_FOR_512]}),
    "max_tokens_0": ("chat", CHAT, ASKED | {"max_tokens": 0}),
    "max_tokens_too_big": ("chat", CHAT, ASKED | {"max_tokens": 5000}),
    "max_tokens_text": ("chat", CHAT, ASKED | {"max_tokens": "x"}),
    "max_completion_tokens_too_big": ("chat", CHAT, ASKED | {"max_completion_tokens": 5000}),
    "completion_max_tokens_0": ("chat", TEXT, {"prompt": "x", "max_tokens": 0}),
    "completion_max_tokens_too_big": ("chat", TEXT, {"prompt": "x", "max_tokens": 5000}),
    "background_without_a_store": ("chat", "/v1/responses", {"input": "x", "background": True}),
    "background_not_to_be_stored": ("chat", "/v1/responses", {"input": "x", "background": True, "store": False}),
    "response_max_tokens_0": ("chat", "/v1/responses", {"input": "x", "max_output_tokens": 0}),
    "response_max_tokens_too_big": ("chat", "/v1/responses", {"input": "x", "max_output_tokens": 5000}),
    "message_max_tokens_0": ("chat", "/v1/messages", ASKED | {"model": "chat", "max_tokens": 0}),
    "message_max_tokens_too_big": ("chat", "/v1/messages", ASKED | {"model": "chat", "max_tokens": 5000}),
    "n_0": ("chat", CHAT, ASKED | {"n": 0}),
    "n_greedy": ("chat", CHAT, ASKED | {"n": 2, "temperature": 0}),
    "stream_options_without_stream": ("chat", CHAT, ASKED | {"stream_options": {"include_usage": True}}),
    "tools_empty": ("chat", CHAT, ASKED | {"tools": []}),
    "tools_required_without_parser": ("chat", CHAT, ASKED | {"tools": [TOOL], "tool_choice": "required"}),
    "tools_named_without_parser": ("chat", CHAT, ASKED | {"tools": [TOOL], "tool_choice": TOOL}),
    "tools_unknown": ("chat", CHAT, ASKED | {"tools": [TOOL], "tool_choice": TOOL | {"function": {"name": "g"}}}),
    "tool_choice_without_tools": ("chat", CHAT, ASKED | {"tool_choice": "auto"}),
    "message_tools_without_parser": (
        "chat",
        "/v1/messages",
        ASKED | {"model": "chat", "max_tokens": 2, "tools": [{"name": "f", "input_schema": {}}]},
    ),
    "tools_without_parser": ("chat", CHAT, ASKED | {"tools": [TOOL]}),
    "dimensions": ("embedder", "/v1/embeddings", {"input": "x", "dimensions": 8}),
    "uneven_pairs": ("reranker", "/score", {"queries": ["a", "b", "c"], "documents": ["d", "e"]}),
    "sleep_level_3": ("chat", "/sleep?level=3", None),
    "sleep_level_negative": ("chat", "/sleep?level=-1", None),
    "sleep_level_x": ("chat", "/sleep?level=x", None),
    "sleep_mode": ("chat", "/sleep?mode=zzz", None),
    "pause_mode": ("chat", "/pause?mode=zzz", None),
    "rpc_without_method": ("chat", "/collective_rpc", {}),
    "rpc_bad_json": ("chat", "/collective_rpc", b"x"),
    "rpc_unknown_method": ("chat", "/collective_rpc", {"method": "nonsense"}),
    "abort_bad_json": ("chat", "/abort_requests", b"x"),
    "release_awake": ("chat", "/release_kv_cache_memory", None),
    "cancel_unknown_response": ("chat", "/v1/responses/resp_x/cancel", None),
}


def post(http: httpx.Client, path: str, body: object) -> httpx.Response:
    if body is None or isinstance(body, bytes):
        return http.post(path, content=body, headers=JSON)
    return http.post(path, json=body)


@pytest.mark.parametrize(
    ("engine", "name", "path", "body"),
    [pytest.param(engine, name, path, body, id=name) for name, (engine, path, body) in CASES.items()],
)
def test_words(engine, name, path, body, kind, request):  # noqa: PLR0917 - a table has columns
    answer = post(request.getfixturevalue(engine).http, path, body)
    assert answer.headers["content-type"] == "application/json"
    check(f"errors/{name}", kind, exact(answer))


def test_what_an_unreadable_message_is_called(chat):
    answer = chat.http.post(CHAT, json={"messages": [{"role": "user", "content": ["text", 7]}]})
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"], error["code"]) == (400, "BadRequestError", None, 400)


@pytest.mark.parametrize("path", [CHAT, TEXT, "/v1/responses", "/v1/messages", "/tokenize", "/invocations"])
def test_only_json(chat, path):
    answer = chat.http.post(path, content=b"{}", headers={"content-type": "text/plain"})
    message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
    error = {"message": message, "type": "Bad Request", "param": None, "code": 400}
    assert (answer.status_code, answer.json()) == (400, {"error": error})


def test_it_survives_all_that(chat):
    assert chat.health() == 200
    assert chat.http.get("/is_sleeping").json() == {"is_sleeping": False}
    assert chat.chat(max_tokens=1).status_code == 200
