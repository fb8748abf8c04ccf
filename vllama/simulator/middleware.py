"""Further layers around the application, named on the command line: found and put around it as vLLM does."""

import importlib
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, cast

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PASSED = "vllama.passed"


def wrapped(app: App, middleware: Iterable[str]) -> App:
    """`middleware`: import paths of classes, the outermost last. Raises what goes wrong: then vLLM does not serve."""
    for path in middleware:
        module, _, name = path.rpartition(".")
        layer: Any = getattr(importlib.import_module(module), name)
        if not isinstance(layer, type):
            raise TypeError(f"Invalid middleware {path}. Only a class is simulated.")
        app = cast("Callable[[App], App]", layer)(app)
    return app


async def passed(scope: Scope, _receive: Receive, _send: Send) -> None:
    """The innermost for a websocket, whose bytes are none of the layers' business here."""
    scope[_PASSED] = True


async def refusal(gate: App, scope: Scope) -> int | None:
    """`gate`: layers around `passed`. The status by which one of them refuses a websocket; None: all let it pass."""
    said: list[int] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: MutableMapping[str, Any]) -> None:
        said.append(int(message.get("status", 403)))

    await gate(scope, receive, send)
    return None if scope.get(_PASSED) else next(iter(said), 500)
