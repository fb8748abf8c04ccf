"""The gateway as one application: inference requests to the data path, the rest to vllama's own routes."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from vllama.controller.control import Control
from vllama.domain.units import MIB
from vllama.gateway import errors
from vllama.gateway.admin import admin_router
from vllama.gateway.asgi import raw_path, send_error
from vllama.gateway.forward import Forward
from vllama.gateway.guard import admin_refusal
from vllama.gateway.health import health_router
from vllama.gateway.models import models_router
from vllama.gateway.paths import Way, way
from vllama.gateway.replies import answer_errors

MAX_BODY_BYTES = 64 * MIB


def create_app(control: Control, *, version: str, max_body_bytes: int = MAX_BODY_BYTES) -> FastAPI:
    """Serve it with uvicorn's `proxy_headers`, `server_header` and `date_header` off.

    The address of the peer decides who may use /admin, so nobody's header may replace it; and the answers of engines
    have their own Server and Date.
    """
    forward = Forward(control, max_body_bytes=max_body_bytes)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await forward.aclose()

    app = FastAPI(
        title="vllama",
        version=version,
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.include_router(models_router(control, created=int(time.time())))
    app.include_router(health_router(control, version=version))
    app.include_router(admin_router(control, version=version))
    answer_errors(app)
    app.add_middleware(Door, forward=forward)
    return app


class Door:
    """Decides per request before anything reads its body: the data path, a refusal, or one of our own routes."""

    def __init__(self, app: ASGIApp, *, forward: ASGIApp) -> None:
        self._app = app
        self._forward = forward

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        match way(scope["method"], raw_path(scope)):
            case Way.ENGINE:
                await self._forward(scope, receive, send)
            case Way.WRONG_METHOD:
                await send_error(send, errors.wrong_method(scope["method"], raw_path(scope), allow="POST"))
            case Way.OURS:
                refusal = _admin_refusal(scope)
                if refusal is None:
                    await self._app(scope, receive, send)
                else:
                    await send_error(send, errors.forbidden(refusal))


def _admin_refusal(scope: Scope) -> str | None:
    path = scope["path"]  # decoded, as the routes below compare it
    if path != "/admin" and not path.startswith("/admin/"):
        return None
    client = scope.get("client")
    return admin_refusal(client[0] if client else None, scope["headers"])
