"""Phase changes as stretches of time: who was in which phase, where, and why. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from vllama.controller.history.records import Mark, PhaseChange
from vllama.domain.status import Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSpan:
    """Times are seconds of the wall clock; `to_s` None: it is so now. `reason`: why it came to be so."""

    model: str
    phase: Phase
    from_s: float
    to_s: float | None
    node: str | None
    devices: tuple[int, ...]
    reason: str
    message: str


def spans_of(changes: Iterable[PhaseChange | Mark]) -> list[PhaseSpan]:
    """In the order in which they began. With a server's beginning or end all that was before it is over: what became
    of engines between two servers nobody saw.
    """
    found: list[PhaseSpan] = []
    last: dict[str, int] = {}  # by model: the span that goes on
    for change in changes:
        if isinstance(change, Mark):
            for index in last.values():
                found[index] = _until(found[index], change.at)
            last.clear()
            continue
        if (index := last.get(change.model, -1)) >= 0:
            found[index] = _until(found[index], change.at)
        last[change.model] = len(found)
        found.append(
            PhaseSpan(
                model=change.model, phase=change.after, from_s=change.at, to_s=None, node=change.node,
                devices=change.devices, reason=change.reason, message=change.message,
            )
        )  # fmt: skip
    return found


def _until(span: PhaseSpan, at: float) -> PhaseSpan:
    """Never before it began: somebody may have set the clock back."""
    return replace(span, to_s=max(span.from_s, at))
