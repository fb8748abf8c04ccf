"""Which routes an engine has: those of its model's task, and the dev ones only when asked for."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import assert_never

from vllama.simulator.answers import dev, pooling, scoring, server_info
from vllama.simulator.answers.chat import chat_completions
from vllama.simulator.answers.completions import completions
from vllama.simulator.answers.metrics import metrics
from vllama.simulator.answers.tokens import detokenize_tokens, tokenize_prompt
from vllama.simulator.server_state import ServerState
from vllama.simulator.settings import Task
from vllama.simulator.web import Answer, Request, Stream

Handler = Callable[[Request, ServerState], Awaitable[Answer | Stream]]


@dataclass(frozen=True, slots=True)
class Route:
    handler: Handler
    methods: tuple[str, ...] = ("POST",)
    counted: bool = False  # in /load


_GET = ("GET",)

_ALWAYS = {
    "/health": Route(server_info.health, _GET),
    "/ping": Route(server_info.health, ("GET", "POST")),
    "/version": Route(server_info.version, _GET),
    "/load": Route(server_info.server_load, _GET),
    "/metrics": Route(metrics, _GET),
    "/v1/models": Route(server_info.models, _GET),
    "/tokenize": Route(tokenize_prompt),
    "/detokenize": Route(detokenize_tokens),
}
_GENERATE = {
    "/v1/chat/completions": Route(chat_completions, counted=True),
    "/v1/completions": Route(completions, counted=True),
}
_SCORING = {
    **dict.fromkeys(("/rerank", "/v1/rerank", "/v2/rerank"), Route(scoring.rerank, counted=True)),
    **dict.fromkeys(("/score", "/v1/score"), Route(scoring.score_pairs, counted=True)),
    "/pooling": Route(pooling.pooling, counted=True),
}
_EMBED = {"/v1/embeddings": Route(pooling.embeddings, counted=True), **_SCORING}
_CLASSIFY = {"/classify": Route(pooling.classify, counted=True), **_SCORING}
_DEV = {
    "/sleep": Route(dev.sleep),
    "/wake_up": Route(dev.wake_up),
    "/is_sleeping": Route(dev.is_sleeping, _GET),
    "/pause": Route(dev.pause),
    "/resume": Route(dev.resume),
    "/is_paused": Route(dev.is_paused, _GET),
    "/abort_requests": Route(dev.abort_requests),
    "/collective_rpc": Route(dev.collective_rpc),
    "/release_kv_cache_memory": Route(dev.release_kv_cache_memory),
    "/reset_prefix_cache": Route(dev.reset_prefix_cache),
    "/reset_mm_cache": Route(dev.reset_cache),
    "/reset_encoder_cache": Route(dev.reset_cache),
}


def routes_of(task: Task, *, dev_mode: bool) -> Mapping[str, Route]:
    return {**_ALWAYS, **_routes_of_task(task), **(_DEV if dev_mode else {})}


def supported_tasks(task: Task) -> list[str]:
    """As the log line `Supported tasks: [...]` says."""
    match task:
        case Task.GENERATE:
            return ["generate"]
        case Task.EMBED:
            return ["token_embed", "embed"]
        case Task.CLASSIFY:
            return ["token_classify", "classify"]
        case unknown:
            assert_never(unknown)


def _routes_of_task(task: Task) -> Mapping[str, Route]:
    match task:
        case Task.GENERATE:
            return _GENERATE
        case Task.EMBED:
            return _EMBED
        case Task.CLASSIFY:
            return _CLASSIFY
        case unknown:
            assert_never(unknown)
