"""What vllama answers itself of Ollama's API: lists of models, a pull, and clear words for what it does not do."""

import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from vllama.controller.control import Control, Unresolved
from vllama.domain.spec import ModelSpec
from vllama.domain.status import ModelStatus, one_per_model
from vllama.engine.about import About
from vllama.gateway import errors
from vllama.gateway.dialects import Dialect
from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.inference import Refused
from vllama.gateway.metrics.meters import Meters
from vllama.gateway.ollama import listing
from vllama.gateway.ollama.files import Files
from vllama.gateway.ollama.names import find_named, named_in
from vllama.gateway.ollama.pull_route import add_pull
from vllama.gateway.replies import reply

# Of the Ollama whose API this is. Clients refuse what they believe to be too old for them.
VERSION = "0.13.0"
_NOT_DONE = {
    ("POST", "/create"): "vllama makes no models: write them into models.yaml",
    ("POST", "/copy"): "vllama copies no models: write the further name as an alias into models.yaml",
    ("POST", "/push"): "vllama pushes no models anywhere",
    ("DELETE", "/delete"): "vllama deletes no models: remove it from models.yaml, its files from the model cache",
    ("POST", "/blobs/{digest}"): "vllama takes no files: it pulls from the hub, or serves the `path` in models.yaml",
}


def ollama_router(control: Control, meters: Meters, *, hub: Path | None) -> APIRouter:
    """`hub`: the model cache; None: nothing is known of the models' files, and nothing can be pulled."""
    router = APIRouter(prefix="/api")
    _add_lists(router, control, Files(control, hub))
    add_pull(router, control, meters, hub)

    for (method, path), why in _NOT_DONE.items():
        router.add_api_route(path, _refusing(errors.invalid(why)), methods=[method])
    nothing_there = ErrorAnswer(status=404, code="not_found", message="there is no such blob")
    router.add_api_route("/blobs/{digest}", _refusing(nothing_there), methods=["HEAD"])
    return router


def _add_lists(router: APIRouter, control: Control, files: Files) -> None:
    since = time.time()

    @router.api_route("/version", methods=["GET", "HEAD"])
    async def version() -> JSONResponse:
        return JSONResponse({"version": VERSION})

    @router.api_route("/tags", methods=["GET", "HEAD"])
    async def tags() -> JSONResponse:
        found = await _known(control, one_per_model(control.statuses()), files)
        models = [entry for status, _, told in found for entry in listing.listed(status, told, since=since)]
        return JSONResponse({"models": models})

    @router.api_route("/ps", methods=["GET", "HEAD"])
    async def ps() -> JSONResponse:
        awake = [status for status in one_per_model(control.statuses()) if status.phase in listing.LOADED]
        now = time.time()
        models = [
            listing.loaded(status, spec, told, idle_s=_idle_s(control, spec), now=now)
            for status, spec, told in await _known(control, awake, files)
        ]
        return JSONResponse({"models": models})

    @router.post("/show")
    async def show(request: Request) -> Response:
        try:
            _, spec = find_named(control, named_in(await request.body()).said)
        except Refused as refused:
            return reply(refused.answer, Dialect.OLLAMA)
        (told,) = await files.about([spec])
        return JSONResponse(listing.shown(spec, told, control.tasks(spec.model), since=since))


def _idle_s(control: Control, spec: ModelSpec) -> float | None:
    """Until it rests, unless a request said otherwise."""
    said = control.board.demand_of(spec.model).keep_alive
    return spec.idle.sleep_after_s if said is None else said.idle_s


def _refusing(answer: ErrorAnswer) -> Callable[[], Awaitable[Response]]:
    async def refuse() -> Response:
        return reply(answer, Dialect.OLLAMA)

    return refuse


async def _known(
    control: Control, statuses: Collection[ModelStatus], files: Files
) -> list[tuple[ModelStatus, ModelSpec, About]]:
    """Without those that nobody can call any more."""
    found = ((status, control.resolve(status.model)) for status in statuses)
    specs = [(status, spec) for status, spec in found if not isinstance(spec, Unresolved)]
    told = await files.about([spec for _, spec in specs])
    return [(status, spec, each) for (status, spec), each in zip(specs, told, strict=True)]
