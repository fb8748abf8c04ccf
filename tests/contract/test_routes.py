"""Which routes exist, by task and by dev mode. The paths that vLLM's documentation site needs are left out."""

import httpx
import pytest

ALWAYS = {
    "/health": "GET",
    "/ping": "GET",
    "/version": "GET",
    "/load": "GET",
    "/metrics": "any",
    "/v1/models": "GET",
    "/kv_event_sources": "GET",
    "/tokenize": "POST",
    "/detokenize": "POST",
    "/invocations": "POST",
    "/v1/systemone": "POST",
}
GENERATE = {
    "/v1/chat/completions": "POST",
    "/v1/chat/completions/batch": "POST",
    "/v1/completions": "POST",
    "/v1/responses": "POST",
    "/v1/responses/resp_x": "GET",
    "/v1/responses/resp_x/cancel": "POST",
    "/v1/messages": "POST",
    "/v1/messages/count_tokens": "POST",
    "/generative_scoring": "POST",
    "/scale_elastic_ep": "POST",
    "/is_scaling_elastic_ep": "POST",
}
SCORING = dict.fromkeys(("/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/score", "/pooling"), "POST")
EMBED = SCORING | {"/v1/embeddings": "POST", "/v2/embed": "POST"}
CLASSIFY = SCORING | {"/classify": "POST"}
DEV = {
    "/sleep": "POST",
    "/wake_up": "POST",
    "/is_sleeping": "GET",
    "/pause": "POST",
    "/resume": "POST",
    "/is_paused": "GET",
    "/abort_requests": "POST",
    "/collective_rpc": "POST",
    "/reset_prefix_cache": "POST",
    "/reset_mm_cache": "POST",
    "/reset_encoder_cache": "POST",
    "/release_kv_cache_memory": "POST",
    "/server_info": "GET",
    "/weight_info": "GET",
    "/get_world_size": "GET",
    "/init_weight_transfer_engine": "POST",
    "/shutdown_weight_transfer_engine": "POST",
    "/start_weight_update": "POST",
    "/start_draft_weight_update": "POST",
    "/update_weights": "POST",
    "/finish_weight_update": "POST",
    "/update_weight_version": "POST",
    "/weight_checker": "POST",
}
# Others have them, or older ones had them; or they need a variable or a model that is not here.
NEVER = [
    "/",
    "/v1",
    "/v1/models/chat",
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/v1/audio/transcriptions",
    "/v1/images/generations",
    "/api/chat",
    "/v1/pooling",
    "/v1/classify",
]
EVERYTHING = [*(ALWAYS | GENERATE | EMBED | CLASSIFY | DEV), *NEVER]


@pytest.mark.parametrize(
    ("engine", "routes"),
    [
        ("chat", ALWAYS | GENERATE | DEV),
        ("embedder", ALWAYS | EMBED | DEV),
        ("reranker", ALWAYS | CLASSIFY | DEV),
    ],
    ids=["generate", "embed", "classify"],
)
@pytest.mark.usefixtures("kind")
def test_routes(engine, routes, request):
    check_routes(request.getfixturevalue(engine).http, routes)


def check_routes(http: httpx.Client, routes: dict[str, str]) -> None:
    """DELETE is no route's method: what exists says so and names one that is."""
    found, sorts = {}, set()
    for path in EVERYTHING:
        answer = http.delete(path)
        if answer.status_code == 200:
            found[path] = "any"
            continue
        sorts.add((answer.status_code, answer.text))
        if answer.status_code != 404:
            found[path] = answer.headers.get("allow", f"{answer.status_code} without a word of what is allowed")
    assert found == routes
    assert sorts == {(405, '{"detail":"Method Not Allowed"}'), (404, '{"detail":"Not Found"}')}


@pytest.mark.parametrize(("path", "location"), [("/health/", "/health"), ("/v1/models/?a=b", "/v1/models?a=b")])
def test_a_slash_too_many_is_sent_on_to_the_engines_own_address(chat, path, location):
    answer = chat.http.get(path)
    assert (answer.status_code, answer.content) == (307, b"")
    assert answer.headers["location"] == f"http://127.0.0.1:{chat.port}{location}"


def test_head_is_no_get(chat):
    assert chat.http.head("/health").status_code == 405
