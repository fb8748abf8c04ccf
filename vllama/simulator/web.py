"""The little of HTTP that the answers need: a request, an answer, a stream, and errors in vLLM's shapes."""

import json
from collections.abc import AsyncGenerator, Mapping
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
    """Server-sent events; what is yielded is the text after `data: `."""

    events: AsyncGenerator[str, None]


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


def read_json(request: Request) -> dict[str, Any]:
    """The body as an object. ApiError in the words of vLLM's validation."""
    if request.headers.get("content-type", "").lower().split(";", maxsplit=1)[0] != "application/json":
        message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
        raise ApiError(400, message, type_="Bad Request")
    try:
        body = json.loads(request.body)
    except ValueError as error:
        position = error.pos if isinstance(error, json.JSONDecodeError) else 0
        why = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
        details = {"msg": "JSON decode error", "input": "<dict of 0 items>", "ctx": {"error": why}}
        raise invalid("json_invalid", f"body.{position}", details) from error
    if not isinstance(body, dict):
        message = "Input should be a valid dictionary or object to extract fields from"
        raise invalid("model_attributes_type", "body", {"msg": message, "input": f"<{type(body).__name__}>"})
    return body


def required(body: Mapping[str, Any], name: str) -> Any:
    """A field that must be there. ApiError otherwise."""
    if body.get(name) is None:
        raise invalid("missing", f"body.{name}", {"msg": "Field required", "input": f"<dict of {len(body)} items>"})
    return body[name]


def invalid(kind: str, where: str, details: Mapping[str, Any]) -> ApiError:
    """One validation error, as FastAPI finds it and vLLM prints it."""
    shown = {"type": kind, "loc": where, **details}
    return ApiError(400, f"1 validation error:\n  {shown}", type_="Bad Request", param=where)


def bad_value(message: str, parameter: str, value: Any) -> ApiError:
    """A value that passes validation and that the engine cannot use."""
    text = f"{message} (parameter={parameter}, value={value})"
    return ApiError(400, text, type_="BadRequestError", param=parameter)
