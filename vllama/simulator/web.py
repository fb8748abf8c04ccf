"""The little of HTTP that the answers need: a request, an answer, a stream, and errors in vLLM's shapes."""

import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    def last(self, name: str, default: str) -> str:
        """The last value of a query parameter."""
        return ([default] + [value for key, value in self.query if key == name])[-1]

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.query if key == name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    status: int = 200
    body: bytes = b""
    content_type: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """Server-sent events: each the text of one, without the empty line that ends it, or bytes as they are."""

    events: AsyncGenerator[str | bytes, None]


class ApiError(Exception):
    """An error in OpenAI's shape, as vLLM fills it in."""

    def __init__(self, status: int, message: str, *, type_: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type_
        self.param = param

    def body(self) -> dict[str, Any]:
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.status}}


def answer_json(content: Any, status: int = 200) -> Answer:
    return Answer(status=status, body=to_json(content).encode(), content_type="application/json")


def to_json(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def data_event(text: str) -> str:
    """An event as OpenAI's older routes send them."""
    return f"data: {text}"


def named_event(content: Mapping[str, Any]) -> str:
    """An event that says its type twice, as /v1/responses and /v1/messages do."""
    return f"event: {content['type']}\ndata: {to_json(content)}"


def read_json(request: Request) -> dict[str, Any]:
    """The body as an object. ApiError in the words of vLLM's validation."""
    check_media_type(request)
    try:
        body = json.loads(request.body)
    except ValueError as error:
        position = error.pos if isinstance(error, json.JSONDecodeError) else 0
        why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        details = {"msg": "JSON decode error", "input": "<dict of 0 items>", "ctx": {"error": why}}
        raise invalid("json_invalid", f"body.{position}", details) from error
    if not isinstance(body, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        shown = f"<list of {len(body)} items>" if isinstance(body, list) else str(body)
        raise invalid("model_attributes_type", "body", {"msg": message, "input": shown})
    return body


def check_media_type(request: Request) -> None:
    if request.headers.get("content-type", "").lower().split(";", maxsplit=1)[0] != "application/json":
        message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        raise ApiError(400, message, type_="Bad Request")


def require(body: Mapping[str, Any], *names: str) -> None:
    """Fields that must all be there. ApiError otherwise."""
    if absent := [name for name in names if body.get(name) is None]:
        raise missing(body, *absent)


def required(body: Mapping[str, Any], name: str) -> Any:
    """A field that must be there. ApiError otherwise."""
    require(body, name)
    return body[name]


def missing(body: Mapping[str, Any], *names: str) -> ApiError:
    """In vLLM's words; a route that takes several kinds of body names the fields of each, some of them again."""
    details = {"msg": "Field required", "input": f"<dict of {len(body)} items>"}
    lines = [str({"type": "missing", "loc": f"body.{name}", **details}) for name in names]
    return _invalid(lines, f"body.{names[0]}")


def invalid(kind: str, where: str, details: Mapping[str, Any]) -> ApiError:
    """One validation error, as FastAPI finds it and vLLM prints it."""
    return _invalid([str({"type": kind, "loc": where, **details})], where)


def _invalid(lines: Sequence[str], where: str) -> ApiError:
    head = f"{len(lines)} validation error{'s' * (len(lines) > 1)}:"
    return ApiError(400, "\n  ".join([head, *lines]), type_="Bad Request", param=where)


def refused(message: str) -> ApiError:
    """What passes validation and makes no sense to the engine."""
    return ApiError(400, message, type_="BadRequestError")


def bad_value(message: str, parameter: str, value: object = None) -> ApiError:
    """A value that passes validation and that the engine cannot use."""
    text = f"{message} (parameter={parameter}{'' if value is None else f', value={value}'})"
    return ApiError(400, text, type_="BadRequestError", param=parameter)
