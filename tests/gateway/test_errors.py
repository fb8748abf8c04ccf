import json

import pytest

from vllama.controller.control import Unresolved
from vllama.controller.demand import Failure
from vllama.gateway import errors
from vllama.gateway.dialects import render
from vllama.gateway.errors import ErrorAnswer

FULL = Failure(status=429, code="queue_full", message="1000 wait.", retry_after_s=4.2)
NOPE = Unresolved(name="nope", ambiguous=False, candidates=("org/Nope-2",))


@pytest.mark.parametrize(
    ("answer", "status", "kind", "param", "code"),
    [
        (errors.failed(FULL), 429, "rate_limit_error", None, "queue_full"),
        (
            errors.failed(Failure(status=503, code="load_failed", message="m.")),
            503,
            "server_error",
            None,
            "load_failed",
        ),
        (errors.unresolved(NOPE), 404, "invalid_request_error", "model", "model_not_found"),
        (errors.not_json("truncated"), 400, "invalid_request_error", None, "invalid_json"),
        (errors.no_model(), 400, "invalid_request_error", "model", "missing_model"),
        (errors.too_large(64 << 20), 413, "invalid_request_error", None, "body_too_large"),
        (errors.wrong_method("GET", b"/score", allow="POST"), 405, "invalid_request_error", None, "method_not_allowed"),
        (errors.not_found(b"/sleep"), 404, "invalid_request_error", None, "not_passed_on"),
        (errors.not_found(b"/nothing"), 404, "invalid_request_error", None, "not_found"),
        (errors.forbidden("no."), 403, "invalid_request_error", None, "forbidden"),
        (errors.engine_gone("m", "reset"), 502, "server_error", None, "engine_gone"),
        (errors.internal(), 500, "server_error", None, "internal_error"),
    ],
)
def test_every_refusal_has_the_shape_and_a_sentence(
    answer: ErrorAnswer, status: int, kind: str, param: str | None, code: str
) -> None:
    headers, body = render(answer)
    error = json.loads(body)["error"]
    assert answer.status == status
    assert error == {"message": answer.message, "type": kind, "param": param, "code": code}
    assert answer.message.endswith(".")
    assert (b"content-length", b"%d" % len(body)) in headers


def test_retry_after_is_whole_seconds_and_never_now() -> None:
    def headers_of(failure: Failure) -> list[tuple[bytes, bytes]]:
        return render(errors.failed(failure))[0]

    assert (b"retry-after", b"5") in headers_of(FULL)
    assert (b"retry-after", b"1") in headers_of(Failure(status=503, code="c", message="m", retry_after_s=0.01))
    assert b"retry-after" not in dict(headers_of(Failure(status=503, code="c", message="m")))


def test_messages_say_what_to_do() -> None:
    assert "org/Nope-2" in errors.unresolved(NOPE).message
    assert "64.0 MiB" in errors.too_large(64 << 20).message
    assert "does not pass that on" in errors.not_found(b"/sleep").message
    assert "/v1/chat/completions" in errors.not_found(b"/sleep").message
    assert (b"allow", b"POST") in render(errors.wrong_method("GET", b"/score", allow="POST"))[0]


def test_a_path_is_repeated_in_part_only_and_as_plain_text() -> None:
    message = errors.not_found(b"/\xff" + b"x" * 10_000).message
    assert "\\xff" in message
    assert len(message) < 1000
