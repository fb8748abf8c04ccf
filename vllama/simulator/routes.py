"""Which routes an engine has: those of its model's task, and the dev ones only when asked for."""

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import assert_never

from vllama.simulator.answers import audio, dev, messages, pooling, responses, scoring, server_info
from vllama.simulator.answers.chat import chat_completions
from vllama.simulator.answers.completions import completions
from vllama.simulator.answers.invocations import invocations
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
_NOT_SIMULATED = Route(server_info.not_simulated)
_RESPONSE = re.compile(r"/v1/responses/[^/]+")

_ALWAYS = {
    "/health": Route(server_info.health, _GET),
    "/ping": Route(server_info.health, ("GET", "POST")),
    "/version": Route(server_info.version, _GET),
    "/load": Route(server_info.server_load, _GET),
    "/metrics": Route(metrics, ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH")),
    "/v1/models": Route(server_info.models, _GET),
    "/tokenize": Route(tokenize_prompt),
    "/detokenize": Route(detokenize_tokens),
    "/invocations": Route(invocations, counted=True),
    "/kv_event_sources": Route(server_info.kv_event_sources, _GET),
    "/v1/systemone": _NOT_SIMULATED,
}
_GENERATE = {
    "/v1/chat/completions": Route(chat_completions, counted=True),
    "/v1/chat/completions/batch": _NOT_SIMULATED,
    "/v1/completions": Route(completions, counted=True),
    "/v1/responses": Route(responses.responses, counted=True),
    "/v1/responses/{response_id}": Route(responses.find_response, _GET),
    "/v1/responses/{response_id}/cancel": Route(responses.cancel_response),
    "/v1/messages": Route(messages.messages, counted=True),
    "/v1/messages/count_tokens": Route(messages.count_tokens, counted=True),
    "/generative_scoring": _NOT_SIMULATED,
    "/scale_elastic_ep": _NOT_SIMULATED,
    "/is_scaling_elastic_ep": Route(server_info.is_scaling_elastic_ep),
}
_SCORING = {
    **dict.fromkeys(("/rerank", "/v1/rerank", "/v2/rerank"), Route(scoring.rerank, counted=True)),
    **dict.fromkeys(("/score", "/v1/score"), Route(scoring.score_pairs, counted=True)),
    "/pooling": Route(pooling.pooling, counted=True),
}
_EMBED = {
    "/v1/embeddings": Route(pooling.embeddings, counted=True),
    "/v2/embed": _NOT_SIMULATED,
    **_SCORING,
}
_CLASSIFY = {"/classify": Route(pooling.classify, counted=True), **_SCORING}
_TRANSCRIBE = {
    "/v1/audio/transcriptions": Route(audio.transcriptions, counted=True),
    "/v1/audio/translations": Route(audio.translations, counted=True),
}
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
    "/weight_info": Route(dev.weight_info, _GET),
    "/get_world_size": Route(dev.get_world_size, _GET),
    "/server_info": Route(server_info.not_simulated, _GET),
    **dict.fromkeys(
        (
            "/init_weight_transfer_engine",
            "/shutdown_weight_transfer_engine",
            "/start_weight_update",
            "/start_draft_weight_update",
            "/update_weights",
            "/finish_weight_update",
            "/update_weight_version",
            "/weight_checker",
        ),
        _NOT_SIMULATED,
    ),
}


def routes_of(task: Task, *, dev_mode: bool) -> Mapping[str, Route]:
    return {**_ALWAYS, **_routes_of_task(task), **(_DEV if dev_mode else {})}


def find_route(routes: Mapping[str, Route], path: str) -> Route | None:
    """The routes' own paths, except for those that have a name in them."""
    return routes.get(path) or routes.get(_RESPONSE.sub("/v1/responses/{response_id}", path))


def supported_tasks(task: Task) -> list[str]:
    """As the log line `Supported tasks: [...]` says."""
    match task:
        case Task.GENERATE:
            return ["generate"]
        case Task.EMBED:
            return ["token_embed", "embed"]
        case Task.CLASSIFY:
            return ["token_classify", "classify"]
        case Task.TRANSCRIBE:
            return ["transcription"]
        case Task.LISTEN:
            return ["generate", "transcription", "realtime"]
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
        case Task.TRANSCRIBE:
            return _TRANSCRIBE
        case Task.LISTEN:
            return {**_GENERATE, **_TRANSCRIBE}
        case unknown:
            assert_never(unknown)
