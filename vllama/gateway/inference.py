"""From a body to a model, and from a model to the right to call its engine. Whoever moves the bytes calls this."""

import asyncio
from dataclasses import dataclass

from vllama.controller.board import Board
from vllama.controller.control import Control, Unresolved
from vllama.controller.demand import Grant, WaitFailed
from vllama.domain.spec import ModelSpec
from vllama.domain.units import MIB
from vllama.gateway import errors
from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.headers import Header
from vllama.gateway.names import NoModel, NotJson, model_of, rewrite_model

_LONG_BODY_BYTES = MIB


class Refused(Exception):
    """The request goes to no engine; `answer` is what its client is told."""

    def __init__(self, answer: ErrorAnswer) -> None:
        super().__init__(answer.message)
        self.answer = answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """`name` is what the client wrote: an id, an alias or a short name."""

    name: str
    spec: ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """Whoever has it must release the grant. `waited`: the model was not ready when the request came."""

    grant: Grant
    waited: bool

    @property
    def headers(self) -> list[Header]:
        return [
            (b"x-vllama-state", b"waited" if self.waited else b"hit"),
            (b"x-vllama-wait-ms", b"%d" % (self.grant.waited_s * 1000)),
        ]


def find(control: Control, body: bytes) -> Wanted:
    """Raises Refused: no JSON, no `model` in it, or no such model."""
    try:
        name = model_of(body)
    except NotJson as error:
        raise Refused(errors.not_json(str(error))) from None
    except NoModel:
        raise Refused(errors.no_model()) from None
    found = control.resolve(name)
    if isinstance(found, Unresolved):
        raise Refused(errors.unresolved(found))
    return Wanted(name=name, spec=found)


async def admit(board: Board, spec: ModelSpec) -> Admission:
    """At once where the model is ready, else when it is. Raises Refused. Cancelled, it leaves nothing behind."""
    if (grant := board.admit(spec.model)) is not None:
        return Admission(grant=grant, waited=False)
    try:
        grant = await board.wait_until_ready(spec.model, max_queue=spec.max_queue, timeout_s=spec.queue_timeout_s)
    except WaitFailed as error:
        raise Refused(errors.failed(error.failure)) from None
    return Admission(grant=grant, waited=True)


async def body_for_engine(body: bytes, *, name: str, served: str) -> bytes:
    """`body` with the name that the engine answers to; the very same bytes where the client used that name."""
    if name == served:
        return body
    if len(body) <= _LONG_BODY_BYTES:
        return rewrite_model(body, served)
    return await asyncio.to_thread(rewrite_model, body, served)  # long enough to be felt by everybody else
