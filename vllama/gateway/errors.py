"""Every refusal: what happened and what to do, with the right HTTP status. `dialects` gives it its shape."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from vllama.controller.control import Unresolved
from vllama.controller.demand import Failure
from vllama.domain.units import format_bytes
from vllama.gateway.paths import INFERENCE_PATHS, is_admin, is_management

_LONGEST_ECHO = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnswer:
    """What is wrong, whatever the dialect it is said in. `allow` is the header of a 405."""

    status: int
    code: str
    message: str
    param: str | None = None
    retry_after_s: float | None = None
    allow: str | None = None


@lru_cache(16)  # a thousand may wait for the same
def failed(failure: Failure) -> ErrorAnswer:
    """Waiting was in vain, for the reason that the controller gave."""
    return ErrorAnswer(
        status=failure.status, code=failure.code, message=failure.message, retry_after_s=failure.retry_after_s
    )


def unresolved(name: Unresolved) -> ErrorAnswer:
    return ErrorAnswer(status=404, code="model_not_found", message=name.message, param="model")


def not_json(why: str) -> ErrorAnswer:
    message = f"The body is not a JSON object that vllama can read: {why}."
    return ErrorAnswer(status=400, code="invalid_json", message=message)


def not_a_form(why: str) -> ErrorAnswer:
    message = f"The body is not multipart/form-data that vllama can read: {why}."
    return ErrorAnswer(status=400, code="invalid_form", message=message)


def lacks_task(model: str, raw_path: bytes, *, needs: Iterable[str], tasks: Iterable[str]) -> ErrorAnswer:
    path, one_of, has = _echo(raw_path), " or ".join(sorted(needs)), ", ".join(sorted(tasks))
    message = (
        f"{model!r} has no {path}: that takes a model with the task {one_of}, and the tasks of this one are: {has}."
    )
    return ErrorAnswer(status=400, code="task_not_supported", message=message, param="model")


def no_model() -> ErrorAnswer:
    message = "The body does not say which model it is for: give `model`; GET /v1/models lists them."
    return ErrorAnswer(status=400, code="missing_model", message=message, param="model")


def invalid(message: str) -> ErrorAnswer:
    return ErrorAnswer(status=400, code="invalid_request", message=message)


def too_large(limit_bytes: int) -> ErrorAnswer:
    message = f"The body is larger than the {format_bytes(limit_bytes)} that vllama takes."
    return ErrorAnswer(status=413, code="body_too_large", message=message)


def malformed(why: str) -> ErrorAnswer:
    """Somebody else might read this request otherwise, so nobody gets it, and the connection is not read further."""
    return ErrorAnswer(status=400, code="malformed_request", message=f"This is no HTTP request as it must be: {why}.")


def head_too_large(what: str) -> ErrorAnswer:
    return ErrorAnswer(status=431, code="headers_too_large", message=f"The request has {what} than vllama takes.")


def too_slow(what: str, limit_s: float) -> ErrorAnswer:
    message = f"{what} did not arrive within {limit_s:g} s."
    return ErrorAnswer(status=408, code="request_timeout", message=message)


def expectation_failed() -> ErrorAnswer:
    message = "The only `Expect` that vllama knows is 100-continue."
    return ErrorAnswer(status=417, code="expectation_failed", message=message)


def upload_memory_full(most_bytes: int) -> ErrorAnswer:
    message = (
        f"The bodies that are being sent to vllama hold all of the {format_bytes(most_bytes)} that they may hold "
        "together. Try again in a moment."
    )
    return ErrorAnswer(status=503, code="upload_memory_full", message=message, retry_after_s=1.0)


def too_many_connections() -> ErrorAnswer:
    message = "vllama has as many connections as it has room for. Try again in a moment."
    return ErrorAnswer(status=503, code="too_many_connections", message=message, retry_after_s=1.0)


def too_many_watchers(most: int) -> ErrorAnswer:
    message = f"{most} others watch already, which is as many as vllama has room for. Close a dashboard, or ask again."
    return ErrorAnswer(status=503, code="too_many_watchers", message=message, retry_after_s=5.0)


def unknown_method() -> ErrorAnswer:
    message = "vllama knows the methods GET, HEAD, POST, PUT, PATCH, DELETE and OPTIONS."
    return ErrorAnswer(status=501, code="unknown_method", message=message)


def no_websocket() -> ErrorAnswer:
    message = "/v1/realtime is a websocket: it takes a GET with `Upgrade: websocket`, of version 13, and no body."
    return ErrorAnswer(status=400, code="websocket_expected", message=message)


def no_websocket_there(model: str, status: int) -> ErrorAnswer:
    message = f"The engine of {model!r} has no /v1/realtime: it answered {status} to the websocket."
    if status < 500:
        return ErrorAnswer(status=400, code="task_not_supported", message=message, param="model")
    return ErrorAnswer(status=502, code="engine_gone", message=message, retry_after_s=1.0)


def wrong_method(method: str, raw_path: bytes, *, allow: str) -> ErrorAnswer:
    message = f"{_echo(raw_path)} takes {allow}, not {method}."
    return ErrorAnswer(status=405, code="method_not_allowed", message=message, allow=allow)


def not_found(raw_path: bytes) -> ErrorAnswer:
    path, passed = _echo(raw_path), b", ".join(INFERENCE_PATHS).decode()
    if is_management(raw_path):
        message = f"{path} is for the management of an engine, and vllama does not pass that on. It passes POST to "
        return ErrorAnswer(status=404, code="not_passed_on", message=f"{message}{passed}.")
    return ErrorAnswer(status=404, code="not_found", message=f"There is no {path} here. Models take POST to {passed}.")


def unknown_response(response_id: str) -> ErrorAnswer:
    message = f"Response with id '{response_id}' not found. The engine that makes a response keeps it while it runs."
    return ErrorAnswer(status=404, code="response_not_found", message=message, param="response_id")


def unauthorized(raw_path: bytes) -> ErrorAnswer:
    """Says the same of no key and of a wrong one."""
    wanted = "an API key with the scope admin" if is_admin(raw_path.decode("latin-1")) else "an API key"
    message = (
        f"This server wants {wanted}, and none that it knows came along: send it as `Authorization: Bearer KEY` "
        "or `x-api-key: KEY`. Whoever runs the server makes one with `vllama keys add NAME`."
    )
    return ErrorAnswer(status=401, code="invalid_api_key", message=message)


def forbidden(message: str) -> ErrorAnswer:
    return ErrorAnswer(status=403, code="forbidden", message=message)


def rebound(host: str) -> ErrorAnswer:
    return forbidden(
        f"A web page calls this server by the name {host[:_LONGEST_ECHO]}, over loopback: any site can have such a "
        "name lead here. If it is yours, start vllama with --cors-origins and the page's origin, or have the proxy "
        "before it send X-Forwarded-For."
    )


def engine_gone(model: str, why: str) -> ErrorAnswer:
    """Before its first byte, so that nothing was answered yet."""
    message = f"The engine of {model!r} went away before it answered ({why}). Ask again: vllama brings it back."
    return ErrorAnswer(status=502, code="engine_gone", message=message, retry_after_s=1.0)


def server_gone(model: str, why: str) -> ErrorAnswer:
    """Of somebody else's; before its first byte, and no other one could be asked."""
    message = f"No server of {model!r} answered, the last of those that were asked because {why}. Ask again later."
    return ErrorAnswer(status=502, code="server_gone", message=message, retry_after_s=1.0)


def goes_round(model: str, authority: bytes) -> ErrorAnswer:
    message = (
        f"The request for {model!r} went through several vllamas that list each other under `servers:` and would go on "
        f"to {authority.decode()}. One of them must not list the next."
    )
    return ErrorAnswer(status=508, code="loop_detected", message=message, param="model")


def engine_silent(model: str, limit_s: float, *, whose: str = "engine") -> ErrorAnswer:
    message = f"The {whose} of {model!r} did not begin to answer within {limit_s:g} s, so vllama gave this request up."
    return ErrorAnswer(status=504, code="engine_timeout", message=message)


def engine_broke_off(model: str, why: str, *, whose: str = "engine") -> ErrorAnswer:
    """After its first byte: for `dialects.render_event`, since the status is long sent."""
    message = f"The {whose} of {model!r} broke off in the middle of its answer ({why}). What came so far is incomplete."
    return ErrorAnswer(status=502, code="engine_gone", message=message)


def broke_off_unreadable() -> ErrorAnswer:
    """The answer is to be a stream of events already, and what came can be told in none."""
    message = "The engine's answer is neither a stream of events nor a text that would fit into one."
    return ErrorAnswer(status=502, code="engine_answer_unreadable", message=message)


def no_seconds(header: str) -> ErrorAnswer:
    message = f"The header {header} is not a number of seconds; write for example {header}: 15"
    return ErrorAnswer(status=400, code="invalid_header", message=message)


def internal() -> ErrorAnswer:
    message = "vllama failed at this request; its log says where."
    return ErrorAnswer(status=500, code="internal_error", message=message)


def _echo(raw_path: bytes) -> str:
    text = raw_path.decode("ascii", "backslashreplace")
    return text if len(text) <= _LONGEST_ECHO else text[:_LONGEST_ECHO] + "..."
