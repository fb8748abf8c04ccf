"""Errors as answers of FastAPI routes, its own included."""

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from vllama.gateway import errors
from vllama.gateway.asgi import raw_path
from vllama.gateway.dialects import Dialect, dialect_of, render
from vllama.gateway.errors import ErrorAnswer


def reply(answer: ErrorAnswer, dialect: Dialect = Dialect.OPENAI) -> Response:
    headers, body = render(answer, dialect)
    named = {name.decode(): value.decode() for name, value in headers}
    return Response(content=body, status_code=answer.status, headers=named)


def answer_errors(app: FastAPI) -> None:
    """All that FastAPI itself refuses is said in the shape that its clients read."""
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _failed)


async def _refused(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    path = raw_path(request.scope)
    if error.status_code == 404:
        return reply(errors.not_found(path), dialect_of(path))
    if error.status_code == 405:
        allow = (error.headers or {}).get("Allow", "another method")
        return reply(errors.wrong_method(request.method, path, allow=allow), dialect_of(path))
    answer = ErrorAnswer(status=error.status_code, code="invalid_request", message=str(error.detail))
    return reply(answer, dialect_of(path))


async def _invalid(request: Request, error: Exception) -> Response:
    if not isinstance(error, RequestValidationError):
        raise error
    found = [f"{'.'.join(str(part) for part in one['loc'])}: {one['msg']}" for one in error.errors()]
    return reply(errors.invalid("; ".join(found)), dialect_of(raw_path(request.scope)))


async def _failed(request: Request, _error: Exception) -> Response:
    return reply(errors.internal(), dialect_of(raw_path(request.scope)))
