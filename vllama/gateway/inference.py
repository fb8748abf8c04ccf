"""From a body to a model, and from a model to the right to call its engine. Whoever moves the bytes calls this."""

import msgspec

from vllama.controller.board import Board
from vllama.controller.control import Control, Unresolved
from vllama.controller.demand import Grant, WaitFailed
from vllama.domain.spec import ModelSpec
from vllama.gateway import errors
from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.forms import NotAForm, model_in_form, rename_in_form
from vllama.gateway.makers import Makers
from vllama.gateway.names import NoModel, NotJson, model_of, rewrite_model
from vllama.gateway.paths import ROUTES, response_id

_HIT_LINES = b"x-vllama-state: hit\r\nx-vllama-wait-ms: 0"


class Refused(Exception):
    """The request goes to no engine; `answer` is what its client is told."""

    def __init__(self, answer: ErrorAnswer) -> None:
        super().__init__(answer.message)
        self.answer = answer


class Wanted(msgspec.Struct, frozen=True, kw_only=True):  # one per request: three times as fast as a dataclass
    """`name` is what the client wrote: an id, an alias, a short name or an adapter. `at`: where, in a form."""

    name: str
    spec: ModelSpec
    is_adapter: bool = False  # the engine knows it by this very name
    at: tuple[int, int] | None = None
    engine_id: str | None = None  # no other engine has the answer, and its model is named nowhere

    def is_served_as(self, served: str) -> bool:
        """Nothing is to be renamed for an engine that serves its model as `served`."""
        return self.name == served or self.is_adapter or self.engine_id is not None


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


def find(control: Control, path: bytes, head: bytes, body: bytes | bytearray) -> Wanted:
    """For an inference request to `path`. Raises Refused: no `model`, no such model, or it does not do such things."""
    route = ROUTES[path]
    try:
        if not route.form:
            return resolved(control, model_of(body), path, route.needs)
        name, at = model_in_form(head, body)
    except NotJson as error:
        raise Refused(errors.not_json(str(error))) from None
    except NotAForm as error:
        raise Refused(errors.not_a_form(str(error))) from None
    except NoModel:
        raise Refused(errors.no_model()) from None
    return msgspec.structs.replace(resolved(control, name, path, route.needs), at=at)


def resolved(control: Control, name: str, path: bytes, needs: frozenset[str] | None) -> Wanted:
    """Raises Refused: no such model, or it is known to have none of the tasks of which `needs` names one."""
    found = control.resolve(name)
    if isinstance(found, Unresolved):
        raise Refused(errors.unresolved(found))
    if needs is not None:
        tasks = control.tasks(found.model)
        if tasks is not None and needs.isdisjoint(tasks):
            raise Refused(errors.lacks_task(name, path, needs=needs, tasks=tasks))
    if found.lora and found.has_adapter(name):
        return Wanted(name=name, spec=found, is_adapter=True)
    return Wanted(name=name, spec=found)


def find_maker(control: Control, makers: Makers, path: bytes) -> Wanted:
    """For a request about a response that was made before. Raises Refused: nobody who is still there made it."""
    name = response_id(path)
    maker = makers.of(name)
    if maker is None or not control.has_engine(maker.engine_id):
        raise Refused(errors.unknown_response(name))
    found = control.resolve(maker.model)
    if isinstance(found, Unresolved):
        raise Refused(errors.unresolved(found))
    return Wanted(name=maker.model, spec=found, engine_id=maker.engine_id)


def renamed(wanted: Wanted, body: bytes | bytearray, served: str) -> bytes | bytearray:
    """The body, which is not used any more, with the name that the engine knows; all else as it was."""
    if wanted.at is None:
        return rewrite_model(body, served)
    return rename_in_form(body, wanted.at, served)


async def admit(board: Board, spec: ModelSpec) -> Admission:
    """At once where the model is ready, else when it is. Raises Refused. Cancelled, it leaves nothing behind."""
    if (grant := board.admit(spec.model)) is not None:
        return Admission(grant=grant, waited=False)
    try:
        grant = await board.wait_until_ready(spec.model, max_queue=spec.max_queue, timeout_s=spec.queue_timeout_s)
    except WaitFailed as error:
        raise Refused(errors.failed(error.failure)) from None
    return Admission(grant=grant, waited=True)
