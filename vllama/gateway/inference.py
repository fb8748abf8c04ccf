"""From a body to a model, and from a model to the right to call its engine. Whoever moves the bytes calls this."""

import msgspec

from vllama.controller.board import Board
from vllama.controller.control import Control, Unresolved
from vllama.controller.demand import Grant, WaitFailed
from vllama.domain.spec import ModelSpec
from vllama.gateway import errors
from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.names import NoModel, NotJson, model_of

_HIT_LINES = b"x-vllama-state: hit\r\nx-vllama-wait-ms: 0"


class Refused(Exception):
    """The request goes to no engine; `answer` is what its client is told."""

    def __init__(self, answer: ErrorAnswer) -> None:
        super().__init__(answer.message)
        self.answer = answer


class Wanted(msgspec.Struct, frozen=True, kw_only=True):  # one per request: three times as fast as a dataclass
    """`name` is what the client wrote: an id, an alias or a short name."""

    name: str
    spec: ModelSpec


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """Whoever has it must release the grant. `waited`: the model was not ready when the request came."""

    grant: Grant
    waited: bool

    @property
    def lines(self) -> bytes:
        """The headers that tell the client, without the last line break."""
        if not self.waited:
            return _HIT_LINES
        return b"x-vllama-state: waited\r\nx-vllama-wait-ms: %d" % (self.grant.waited_s * 1000)


def find(control: Control, body: bytes | bytearray) -> Wanted:
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
