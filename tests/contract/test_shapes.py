"""What is answered, key for key. The shapes were recorded from real vLLM."""

import base64
import json
import struct
from dataclasses import dataclass
from typing import Any

import pytest

from tests.contract.shapes import check, shape_of

CHAT = {"messages": [{"role": "user", "content": "tell me something"}], "max_tokens": 32, "temperature": 0}
TEXT = {"prompt": "once upon", "max_tokens": 32, "temperature": 0}
MESSAGE = {"model": "chat", **CHAT}
QUESTION = {"input": "tell me something", "max_output_tokens": 32, "temperature": 0}
PAIRS = {"queries": "a cat", "documents": ["a dog", "a house"]}
RANKED = {"query": "a cat", "documents": ["a dog", "a house", "a tree"]}
STREAM = {"stream": True}
WITH_USAGE = STREAM | {"stream_options": {"include_usage": True}}
ALWAYS_USAGE = STREAM | {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    name: str
    engine: str
    path: str
    body: dict[str, Any] | None = None  # None: a GET


def cases(engine: str, path: str, **bodies: Any) -> list[Case]:
    return [Case(name=name, engine=engine, path=path, body=body) for name, body in bodies.items()]


CASES = [
    *cases("chat", "/health", health=None),
    *cases("chat", "/ping", ping=None, ping_posted={}),
    *cases("chat", "/version", version=None),
    *cases("chat", "/load", load=None),
    *cases("chat", "/v1/models", models=None),
    *cases("chat", "/kv_event_sources", kv_event_sources=None),
    *cases("chat", "/weight_info", weight_info=None),
    *cases("chat", "/get_world_size", get_world_size=None),
    *cases(
        "chat",
        "/v1/chat/completions",
        chat=CHAT,
        chat_with_a_name=CHAT | {"model": "alias"},
        chat_with_an_adapter=CHAT | {"model": "adapter"},
        chat_n=CHAT | {"n": 2, "temperature": 1},
        chat_stream=CHAT | STREAM,
        chat_stream_usage=CHAT | WITH_USAGE,
        chat_stream_usage_always=CHAT | ALWAYS_USAGE,
    ),
    *cases(
        "chat",
        "/v1/completions",
        completion=TEXT,
        completion_of_two=TEXT | {"prompt": ["one", "two"], "n": 2, "temperature": 1},
        completion_stream=TEXT | STREAM,
        completion_stream_usage=TEXT | WITH_USAGE,
        completion_stream_usage_always=TEXT | ALWAYS_USAGE,
    ),
    *cases("chat", "/v1/responses", response=QUESTION, response_stream=QUESTION | STREAM),
    *cases("chat", "/v1/messages", message=MESSAGE, message_stream=MESSAGE | STREAM),
    *cases("chat", "/v1/messages/count_tokens", count_tokens=MESSAGE),
    *cases("chat", "/invocations", invoke_chat=CHAT, invoke_completion=TEXT),
    *cases(
        "chat",
        "/tokenize",
        tokenize={"prompt": "two words"},
        tokenize_strings={"prompt": "two words", "return_token_strs": True},
        tokenize_chat={"messages": CHAT["messages"]},
    ),
    *cases("embedder", "/v1/models", embedder_models=None),
    *cases(
        "embedder",
        "/v1/embeddings",
        embeddings={"input": ["a dog", "a cat"]},
        embeddings_base64={"input": "a dog", "encoding_format": "base64"},
        embeddings_truncated={"input": ["x" * 2900, "a cat"], "truncate_prompt_tokens": -1},
    ),
    *cases("embedder", "/pooling", pooling={"input": "a dog"}),
    *cases("embedder", "/rerank", embedder_rerank=RANKED),
    *cases("embedder", "/score", embedder_score=PAIRS),
    *cases("embedder", "/tokenize", embedder_tokenize={"prompt": "two words"}),
    *cases("embedder", "/invocations", invoke_embeddings={"input": "a dog"}, invoke_embedder_rerank=RANKED),
    *cases("reranker", "/rerank", rerank=RANKED, rerank_top=RANKED | {"top_n": 1}),
    *cases("reranker", "/v1/rerank", rerank_v1=RANKED),
    *cases("reranker", "/v2/rerank", rerank_v2=RANKED),
    *cases("reranker", "/score", score=PAIRS, score_older={"text_1": "a cat", "text_2": ["a dog", "a house"]}),
    *cases("reranker", "/v1/score", score_v1=PAIRS),
    *cases("reranker", "/classify", classify={"input": ["a dog", "a cat"]}),
    *cases("reranker", "/pooling", reranker_pooling={"input": "a dog"}),
    *cases("reranker", "/invocations", invoke_classify={"input": "a dog"}, invoke_rerank=RANKED, invoke_score=PAIRS),
]


@pytest.mark.parametrize(("engine", "case"), [pytest.param(case.engine, case, id=case.name) for case in CASES])
def test_shape(engine, case, kind, request):
    http = request.getfixturevalue(engine).http
    answer = http.get(case.path) if case.body is None else http.post(case.path, json=case.body)
    check(case.name, kind, shape_of(answer))


def test_n_answers_each_with_its_index(chat):
    chats = chat.chat(n=3, max_tokens=2).json()["choices"]
    texts = chat.http.post("/v1/completions", json=TEXT | {"prompt": ["one", "two"], "n": 2, "temperature": 1})
    assert [choice["index"] for choice in chats] == [0, 1, 2]
    assert [choice["index"] for choice in texts.json()["choices"]] == [0, 1, 2, 3]


def test_the_request_id_names_the_answer(chat):
    for path, body, prefix in (
        ("/v1/chat/completions", CHAT, "chatcmpl-"),
        ("/v1/completions", TEXT, "cmpl-"),
        ("/v1/messages", MESSAGE, "chatcmpl-"),
    ):
        answer = chat.http.post(path, json=body, headers={"X-Request-Id": "mine"})
        assert answer.json()["id"] == f"{prefix}mine"


def test_no_limit_no_matter_what_the_charset(chat):
    headers = {"content-type": "application/json; charset=utf-8"}
    content = b'{"messages": [{"role": "user", "content": "caf\xc3\xa9"}], "max_tokens": 1}'
    assert chat.http.post("/v1/chat/completions", content=content, headers=headers).status_code == 200


def test_a_stream_says_what_the_plain_answer_says(chat):
    whole = chat.text(max_tokens=32, temperature=0)
    body = CHAT | STREAM
    lines = chat.http.post("/v1/chat/completions", json=body).text.split("\n\n")
    chunks = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == whole


def test_a_stop_string_ends_it_and_is_left_out(chat):
    whole = chat.text(max_tokens=32, temperature=0)
    stop = whole[len(whole) // 2]
    until = whole[: whole.index(stop)]
    choice = chat.chat(max_tokens=32, temperature=0, stop=[stop, "never said"]).json()["choices"][0]
    assert (choice["finish_reason"], choice["stop_reason"]) == ("stop", stop)
    assert choice["message"]["content"] == until
    said = chat.http.post("/v1/messages", json=MESSAGE | {"stop_sequences": [stop]}).json()
    assert (said["stop_reason"], said["stop_sequence"]) == ("stop_sequence", stop)
    assert list(said) == ["id", "type", "role", "content", "model", "stop_reason", "stop_sequence", "usage"]
    events = chat.http.post("/v1/chat/completions", json=CHAT | STREAM | {"stop": stop}).text.split("\n\n")
    chunks = [json.loads(event.removeprefix("data: ")) for event in events if event.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == until
    assert (chunks[-1]["choices"][0]["finish_reason"], chunks[-1]["choices"][0]["stop_reason"]) == ("stop", stop)


def test_base64_is_the_same_vector_in_float32(embedder):
    plain, packed = (
        embedder.http.post("/v1/embeddings", json={"input": "a dog", "encoding_format": encoding}).json()
        for encoding in ("float", "base64")
    )
    vector = plain["data"][0]["embedding"]
    assert len(vector) == 64
    found = struct.unpack(f"<{len(vector)}f", base64.b64decode(packed["data"][0]["embedding"]))
    assert found == pytest.approx(vector, rel=1e-6)


def test_tokens_there_and_back(chat):
    tokens = chat.http.post("/tokenize", json={"prompt": "two words"}).json()["tokens"]
    assert chat.http.post("/detokenize", json={"tokens": tokens}).json() == {"prompt": "two words"}


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank_sorts(reranker, path):
    ranked = reranker.http.post(path, json=RANKED).json()["results"]
    scores = [entry["relevance_score"] for entry in ranked]
    assert scores == sorted(scores, reverse=True)
    assert [RANKED["documents"][entry["index"]] for entry in ranked] == [entry["document"]["text"] for entry in ranked]


def test_load_counts_what_is_under_way(chat):
    with chat.http.stream("POST", "/v1/completions", json=TEXT | STREAM | {"max_tokens": 2000}):
        assert chat.http.get("/load").json() == {"server_load": 1}
