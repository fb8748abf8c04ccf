"""The kinds of lines that a history consists of, and their form in JSON. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec

from vllama.domain.action import Action
from vllama.domain.decision import Decision
from vllama.domain.status import Phase

LONGEST_CHARS = 1000  # of a message


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseChange:
    """`at` is seconds of the wall clock. `before` None: the server saw it for the first time.

    `node` and `devices` are where it is from then on; nowhere when it is stopped. `reason` is that of the decision
    that brought it there, also where the change itself took a while.
    """

    at: float
    model: str
    before: Phase | None
    after: Phase
    reason: str
    message: str
    node: str | None = None
    devices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision that says something else than the one before. `action`: its fields, and `verb`."""

    model: str
    reason: str
    message: str
    before: Phase
    after: Phase
    action: Mapping[str, Any] | None = None
    waits_for: tuple[str, ...] = ()
    drain: bool = False
    refused: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decisions:
    """Of one pass, at this time of the wall clock. `evidence`: the numbers that all of them rest on, as `evidence_json`
    has it; None: they need none.
    """

    at: float
    each: tuple[Decided, ...]
    evidence: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """At this time of the wall clock a server began, or ended in an orderly way and its engines with it."""

    at: float
    begun: bool


Record = PhaseChange | Decisions | Mark
_KINDS: Mapping[str, type[Record]] = {"phase": PhaseChange, "decisions": Decisions, "server": Mark}
_NAMES = {kind: name for name, kind in _KINDS.items()}


def shortened(message: str) -> str:
    return message if len(message) <= LONGEST_CHARS else message[: LONGEST_CHARS - 3] + "..."


def decided(decision: Decision) -> Decided:
    return Decided(
        model=decision.model, reason=decision.reason.value, message=shortened(decision.message),
        before=decision.before, after=decision.after,
        action=None if decision.action is None else action_record(decision.action), waits_for=decision.waits_for,
        drain=decision.drain, refused=decision.refused,
    )  # fmt: skip


def action_record(action: Action) -> dict[str, Any]:
    """Its fields and `verb`; lists for tuples, so that a comparison with what was read back holds.

    `further` only of an engine that spans nodes.
    """
    fields: dict[str, Any] = msgspec.to_builtins(action)
    del fields["further"]
    if action.further:
        fields["further"] = [{"node": place.node, "devices": list(place.devices)} for place in action.further]
    return {"verb": type(action).__name__.lower()} | {name: _listed(value) for name, value in fields.items()}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def line_of(record: Record) -> bytes:
    """With its newline."""
    return msgspec.json.encode({"kind": _NAMES[type(record)], **msgspec.to_builtins(record)}) + b"\n"


def record_of(line: bytes) -> Record:
    """Raises ValueError where this is no record."""
    try:
        said = msgspec.json.decode(line)
        record: Record = msgspec.convert(said, _KINDS[said.pop("kind")])
    except (msgspec.MsgspecError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no record of a history: {error}") from error
    return replace(record, at=float(record.at))
