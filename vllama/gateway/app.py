"""What vllama answers itself, as one application. Inference requests are the data path's and never come here."""

import time
from pathlib import Path

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from vllama.controller.control import Control
from vllama.gateway import errors
from vllama.gateway.access.middleware import Logged
from vllama.gateway.admin import admin_router
from vllama.gateway.asgi import raw_path, send_error
from vllama.gateway.dashboard import dashboard_router
from vllama.gateway.dialects import dialect_of
from vllama.gateway.enquiries import enquiries_router
from vllama.gateway.explain import explain_router
from vllama.gateway.guard import Guard
from vllama.gateway.health import health_router
from vllama.gateway.history import history_router
from vllama.gateway.info import ServerFacts, info_router
from vllama.gateway.instances import instances_router
from vllama.gateway.metrics.router import metrics_router
from vllama.gateway.models import models_router
from vllama.gateway.nodes import nodes_router
from vllama.gateway.ollama.routes import ollama_router
from vllama.gateway.paths import Way, is_admin, method_of, way
from vllama.gateway.replies import answer_errors
from vllama.gateway.servers import servers_router
from vllama.gateway.telling import Telling
from vllama.gateway.watch import watch_router
from vllama.gateway.wish import wish_router


def create_app(
    control: Control,
    *,
    version: str,
    telling: Telling,
    guard: Guard | None = None,
    hub: Path | None = None,
    facts: ServerFacts | None = None,
) -> FastAPI:
    """Serve it with uvicorn's `proxy_headers`, `server_header` and `date_header` off, and `http` as wire.server has it.

    The address of the peer decides who may use /admin, so nobody's header may replace it but as `guard` has it. The
    data path says Server and Date itself, and refuses whoever shows no key where one is needed; /admin is decided on
    here, by the path as the routes compare it. `hub` is the model cache, for those who ask what is in it.
    """
    guard = guard or Guard()
    app = FastAPI(
        title="vllama",
        version=version,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.include_router(models_router(control, created=int(time.time())))
    app.include_router(health_router(control, version=version, guard=guard))
    app.include_router(servers_router(control))
    app.include_router(admin_router(control, version=version))
    app.include_router(nodes_router(control))
    app.include_router(history_router(control))
    app.include_router(explain_router(control))
    app.include_router(watch_router(control, version=version, facts=facts))
    app.include_router(wish_router(control))
    app.include_router(dashboard_router())
    app.include_router(instances_router(control))
    app.include_router(enquiries_router(control))
    app.include_router(ollama_router(control, telling.meters, hub=hub))
    if facts is not None:
        app.include_router(info_router(control, facts, version=version))
    app.include_router(metrics_router(control, telling, version=version))
    answer_errors(app)
    app.add_middleware(Door, guard=guard)
    if telling.access_log is not None:
        app.add_middleware(Logged, log=telling.access_log)
    return app


class Door:
    """A refusal, or one of our own routes."""

    def __init__(self, app: ASGIApp, *, guard: Guard) -> None:
        self._app = app
        self._guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = raw_path(scope)
        match way(scope["method"], path):
            case Way.ENGINE | Way.OLLAMA | Way.RESPONSE | Way.REALTIME:
                raise AssertionError("an inference request: served without the data path in front")
            case Way.WRONG_METHOD:
                refused = errors.wrong_method(scope["method"], path, allow=method_of(path))
                await send_error(send, refused, dialect_of(path))
            case Way.OURS:
                refusal = self._guard.admin_refusal(scope) if is_admin(scope["path"]) else None
                if refusal is None:
                    await self._app(scope, receive, send)
                else:
                    await send_error(send, refusal, dialect_of(path))
