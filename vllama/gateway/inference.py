"""From a name to a model, and from a model to the right to call its engine. Whoever moves the bytes calls this."""

import msgspec

from vllama.controller.control import Control, Unresolved
from vllama.controller.demand import Found, Grant, WaitFailed
from vllama.domain.demand import KeepAlive
from vllama.domain.spec import ModelSpec
from vllama.gateway import errors
from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.forms import Form, rewrite_form
from vllama.gateway.names import Said, rewrite

_HIT_LINES = b"x-vllama-state: hit\r\nx-vllama-wait-ms: 0\r\n"
_HIT = Found.HIT  # in Python 3.11 a member of an enum costs more than a call


class Refused(Exception):
    """The request goes to no engine; `answer` is what its client is told."""

    def __init__(self, answer: ErrorAnswer) -> None:
        super().__init__(answer.message)
        self.answer = answer


class Wanted(msgspec.Struct, frozen=True, kw_only=True):  # one per request: three times as fast as a dataclass
    """`name` is what the client wrote: an id, an alias, a short name or an adapter."""

    name: str
    spec: ModelSpec
    is_adapter: bool = False  # the engine knows it by this very name
    engine_id: str | None = None  # no other engine has what is asked for
    said: Said | None = None  # what else its body says to us
    has_ours: bool = False  # some of that an engine must not see
    form: Form | None = None
    keep_alive: KeepAlive | None = None

    @property
    def names_model(self) -> bool:
        return self.said is not None

    @property
    def streams(self) -> bool:
        return self.said is not None and self.said.stream is True

    def as_named(self, served: str) -> "Wanted":
        """Of a body that has the engine's name, and nothing that is ours, by now."""
        name = self.name if self.is_adapter else served
        said = self.said and msgspec.structs.replace(self.said, keep_alive=msgspec.UNSET, ttl=msgspec.UNSET)
        return msgspec.structs.replace(self, name=name, said=said, has_ours=False, form=None)

    def passes_as_it_is(self, served: str) -> bool:
        """Nothing of the body is to be changed for an engine that serves its model as `served`."""
        return not self.has_ours and (self.name == served or self.is_adapter or self.said is None)


def state_lines(grant: Grant) -> bytes:
    """The headers that tell the client how it found its model, each with its line break."""
    if grant.found is _HIT:
        return _HIT_LINES
    return b"x-vllama-state: %b\r\nx-vllama-wait-ms: %d\r\n" % (grant.found.encode(), grant.waited_s * 1000)


def resolved(control: Control, name: str, path: bytes, needs: frozenset[str] | None) -> Wanted:
    """Raises Refused: no such model, or it is known to have none of the tasks of which `needs` names one."""
    found = control.resolve(name)
    if isinstance(found, Unresolved):
        raise Refused(errors.unresolved(found))
    if needs is not None:
        tasks = control.tasks(found.model)
        if tasks is not None and needs.isdisjoint(tasks):
            raise Refused(errors.lacks_task(name, path, needs=needs, tasks=tasks))
    return Wanted(name=name, spec=found, is_adapter=found.has_adapter(name))


def renamed(wanted: Wanted, body: bytes | bytearray, served: str) -> bytes | bytearray:
    """The body, which is not used any more, with the name that the engine knows and nothing that is ours alone."""
    name = None if wanted.is_adapter else served
    return rewrite(body, name) if wanted.form is None else rewrite_form(body, wanted.form, name)


async def admit(control: Control, wanted: Wanted, *, max_wait_s: float | None, body_bytes: int) -> Grant:
    """When the model is ready. Raises Refused. Cancelled, it leaves nothing behind."""
    spec = wanted.spec
    try:
        return await control.board.wait_until_ready(
            spec.model, max_queue=spec.max_queue, timeout_s=spec.queue_timeout_s, max_wait_s=max_wait_s,
            keep_alive=wanted.keep_alive, body_bytes=body_bytes, most_bytes=control.policy.queue_memory_bytes,
            engine_id=wanted.engine_id,
        )  # fmt: skip
    except WaitFailed as error:
        raise Refused(errors.failed(error.failure)) from None
