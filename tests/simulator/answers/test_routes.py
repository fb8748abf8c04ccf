"""The routes of an engine that does nothing wrong, beside generation."""

import base64
import math
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.simulator.engines import Engine, launch
from vllama.simulator.routes import routes_of, supported_tasks
from vllama.simulator.settings import Task

POOLING_USAGE = {"completion_tokens": 0, "prompt_tokens_details": None, "completion_tokens_details": None}


@pytest.fixture(scope="module")
def embedder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path: Path = tmp_path_factory.mktemp("embed") / "engine.log"
    engine = launch(path, model="tiny/embed")
    yield engine.wait_ready()
    engine.stop()


@pytest.fixture(scope="module")
def reranker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path: Path = tmp_path_factory.mktemp("rerank") / "engine.log"
    engine = launch(path, model="tiny/rerank")
    yield engine.wait_ready()
    engine.stop()


def test_health(shared_chat: Engine) -> None:
    for method, path in (("GET", "/health"), ("GET", "/ping"), ("POST", "/ping")):
        response = shared_chat.http.request(method, path)
        assert (response.status_code, response.content) == (200, b"")
    assert shared_chat.http.head("/health").status_code == 405


def test_unknown_paths_and_methods(shared_chat: Engine) -> None:
    unknown = shared_chat.http.get("/v1/models/chat")
    assert (unknown.status_code, unknown.text) == (404, '{"detail":"Not Found"}')
    wrong = shared_chat.http.get("/v1/completions")
    assert (wrong.status_code, wrong.text) == (405, '{"detail":"Method Not Allowed"}')


def test_version_and_load(shared_chat: Engine) -> None:
    assert shared_chat.http.get("/version").text == '{"version":"0.32.0"}'
    assert shared_chat.http.get("/load").text == '{"server_load":0}'


def test_models(shared_chat: Engine) -> None:
    answer = shared_chat.http.get("/v1/models").json()
    assert [card["id"] for card in answer["data"]] == ["chat", "alias"]
    card = answer["data"][0]
    assert list(card) == ["id", "object", "created", "owned_by", "root", "parent", "max_model_len", "permission"]
    assert (card["owned_by"], card["root"], card["max_model_len"]) == ("vllm", "tiny/chat", 4096)
    assert card["permission"][0]["allow_sampling"] is True


def test_tokens(shared_chat: Engine) -> None:
    answer = shared_chat.http.post("/tokenize", json={"prompt": "two cafés"}).json()
    assert list(answer) == ["count", "max_model_len", "tokens", "token_strs"]
    assert answer["count"] == len(answer["tokens"]) > 1
    assert shared_chat.http.post("/detokenize", json={"tokens": answer["tokens"]}).json() == {"prompt": "two cafés"}
    chat = {"messages": [{"role": "user", "content": "hello"}]}
    assert shared_chat.http.post("/tokenize", json=chat).json()["count"] > 2


def test_only_routes_of_the_task(shared_chat: Engine, embedder: Engine, reranker: Engine) -> None:
    pooling = ["/v1/embeddings", "/pooling", "/rerank", "/score", "/classify"]
    for engine, absent in (
        (shared_chat, pooling),
        (embedder, ["/v1/chat/completions", "/v1/completions", "/classify"]),
        (reranker, ["/v1/chat/completions", "/v1/embeddings"]),
    ):
        for path in absent:
            response = engine.http.post(path, json={})
            assert (response.status_code, response.json()) == (404, {"detail": "Not Found"}), path


def test_dev_routes_only_in_dev_mode() -> None:
    for task in Task:
        assert routes_of(task, dev_mode=True).keys() - routes_of(task, dev_mode=False).keys() >= {"/sleep", "/wake_up"}
        assert supported_tasks(task)


def test_the_log_names_the_tasks(shared_chat: Engine, embedder: Engine, reranker: Engine) -> None:
    assert "Supported tasks: ['generate']" in shared_chat.log()
    assert "Supported tasks: ['token_embed', 'embed']" in embedder.log()
    assert "Supported tasks: ['token_classify', 'classify']" in reranker.log()


def test_embeddings(embedder: Engine) -> None:
    answer = embedder.http.post("/v1/embeddings", json={"input": ["a dog", "a cat"]}).json()
    assert list(answer) == ["id", "object", "created", "model", "data", "usage"]
    assert (answer["id"][:5], answer["object"], answer["model"]) == ("embd-", "list", "tiny/embed")
    assert [list(entry) for entry in answer["data"]] == [["index", "object", "embedding"]] * 2
    dog, cat = (entry["embedding"] for entry in answer["data"])
    assert dog != cat
    assert math.isclose(sum(number * number for number in dog), 1, rel_tol=1e-5)
    assert answer["usage"].items() >= POOLING_USAGE.items()
    packed = embedder.http.post("/v1/embeddings", json={"input": "a dog", "encoding_format": "base64"}).json()
    assert list(struct.unpack(f"<{len(dog)}f", base64.b64decode(packed["data"][0]["embedding"]))) == dog


def test_embedding_errors(embedder: Engine) -> None:
    unknown = embedder.http.post("/v1/embeddings", json={"model": "nope", "input": "x"}).json()["error"]
    assert (unknown["message"], unknown["param"]) == ("The model `nope` does not exist.", None)
    assert embedder.http.post("/v1/embeddings", json={}).json()["error"]["param"] == "body.input"
    assert embedder.http.post("/v1/embeddings", json={"input": "x", "dimensions": 8}).status_code == 400
    assert embedder.http.post("/v1/embeddings", json={"input": "long " * 5000}).status_code == 400


def test_pooling(embedder: Engine) -> None:
    entry = embedder.http.post("/pooling", json={"input": "a dog"}).json()["data"][0]
    assert (list(entry), entry["object"]) == (["index", "object", "data"], "pooling")


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank(reranker: Engine, path: str) -> None:
    body = {"query": "animals", "documents": ["a dog", "a house", "a cat"], "top_n": 2}
    answer = reranker.http.post(path, json=body).json()
    assert list(answer) == ["id", "model", "usage", "results"]
    assert answer["id"].startswith("score-")
    assert answer["usage"]["prompt_tokens"] == answer["usage"]["total_tokens"] > 0
    best, second = answer["results"]
    assert list(best) == ["index", "document", "relevance_score"]
    assert best["document"] == {"text": body["documents"][best["index"]], "multi_modal": None}
    assert best["relevance_score"] >= second["relevance_score"]


@pytest.mark.parametrize(
    "body", [{"text_1": "a", "text_2": ["b", "c"]}, {"queries": ["a", "a"], "documents": ["b", "c"]}]
)
@pytest.mark.parametrize("path", ["/score", "/v1/score"])
def test_score(reranker: Engine, path: str, body: dict) -> None:
    answer = reranker.http.post(path, json=body).json()
    assert list(answer) == ["id", "object", "created", "model", "data", "usage"]
    assert [list(entry) for entry in answer["data"]] == [["index", "object", "score"]] * 2
    ranked = reranker.http.post("/rerank", json={"query": "a", "documents": ["b", "c"]}).json()["results"]
    assert {entry["score"] for entry in answer["data"]} == {entry["relevance_score"] for entry in ranked}


def test_classify(reranker: Engine) -> None:
    entry = reranker.http.post("/classify", json={"input": "a dog"}).json()["data"][0]
    assert list(entry) == ["index", "label", "probs", "num_classes"]
    assert (entry["label"], entry["num_classes"], len(entry["probs"])) == ("LABEL_0", 1, 1)


def test_an_embedding_model_reranks_too(embedder: Engine) -> None:
    body = {"query": "animals", "documents": ["a dog"]}
    assert len(embedder.http.post("/rerank", json=body).json()["results"]) == 1


def test_api_key_guards_only_v1_and_v2(start: Callable[..., Engine]) -> None:
    engine = start("--api-key", "secret").wait_ready()
    refused = engine.chat()
    assert (refused.status_code, refused.json()) == (401, {"error": "Unauthorized"})
    allowed = engine.http.get("/v1/models", headers={"authorization": "Bearer secret"})
    assert allowed.status_code == 200
    assert engine.http.get("/metrics").status_code == 200
    assert engine.http.get("/is_sleeping").status_code == 200
    assert "secret" not in engine.log()
