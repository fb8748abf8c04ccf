"""One request, when it is over."""

from typing import Literal

import msgspec

from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.wire.request import Request

Outcome = Literal["ok", "client_gone", "engine_error", "refused", "timeout", "internal_error", "pull_failed"]
CLIENT_GONE = 499  # nobody was told a status, and this is what logs call that

_OUTCOMES: dict[str, Outcome] = {
    "engine_gone": "engine_error",
    "engine_failed": "engine_error",
    "engine_answer_unreadable": "engine_error",
    "server_gone": "engine_error",
    "engine_timeout": "timeout",
    "queue_timeout": "timeout",
    "request_timeout": "timeout",
    "internal_error": "internal_error",
}


class Finished(msgspec.Struct, frozen=True, gc=False, kw_only=True):  # one per request, so no dataclass
    """`outcome` ok: the answer was passed on whole, an engine's 4xx too; its 5xx is engine_error.

    `model` is empty where the request named none that exists: what clients make up becomes no label.
    `wait_s`: until an engine was theirs. `first_byte_s`: from the asking of the engine to the first byte of the body.
    `duration_s`: from the last byte of the request to the last of its answer. `usage`: prompt and completion tokens.
    `elsewhere`: it went to somebody else's server, so no engine here was busy with it.
    """

    request: Request | None  # None: what came was no request
    client: str
    model: str
    outcome: Outcome
    status: int
    wait_s: float = 0.0
    first_byte_s: float | None = None
    duration_s: float = 0.0
    request_bytes: int = 0
    answer_bytes: int = 0
    usage: tuple[int, int] | None = None
    elsewhere: bool = False


def outcome_of(answer: ErrorAnswer) -> Outcome:
    """Of a request that ended with an answer of vllama's own, if only to tell in other words what an engine said."""
    if answer.code == "engine_error":
        return "engine_error" if answer.status >= 500 else "ok"
    return _OUTCOMES.get(answer.code, "refused")


def refused(
    request: Request | None, client: str, answer: ErrorAnswer, *, model: str = "", duration_s: float = 0.0
) -> Finished:
    """What never came to an engine."""
    return Finished(
        request=request, client=client, model=model, outcome=outcome_of(answer), status=answer.status,
        wait_s=duration_s, duration_s=duration_s,
    )  # fmt: skip
