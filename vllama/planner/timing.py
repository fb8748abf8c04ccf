"""How long a step takes: as measured last, else as long as such steps take elsewhere. Pure; seconds."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import assert_never

from vllama.domain.action import Action, Sleep, Start, Stop, Wake
from vllama.domain.observed import Footprint, Operation, Verb
from vllama.domain.spec import SleepLevel
from vllama.domain.units import GIB

# What is typical, until it is measured: of one GPU and its driver, PCIe and a fast disk.
START_S = 35.0  # of a start, besides reading the weights: imports, compilation with a warm cache, graphs
READS_BYTES_PER_S = 2 * GIB
COPIES_BYTES_PER_S = 20 * GIB  # between host memory and each GPU
CHANGE_S = 1.0  # of a sleep or a wake, besides moving the weights
STOP_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A length of time. `assumed`: some of it was never measured here. `unknown`: it takes so long at least."""

    seconds: float = 0.0
    assumed: bool = False
    unknown: bool = False

    def then(self, after: "Span") -> "Span":
        return Span(
            seconds=self.seconds + after.seconds,
            assumed=self.assumed or after.assumed,
            unknown=self.unknown or after.unknown,
        )


AT_ONCE = Span()
UNKNOWN = Span(unknown=True)


def latest(spans: Iterable[Span]) -> Span:
    """When all of them are over."""
    found = list(spans)
    return Span(
        seconds=max((span.seconds for span in found), default=0.0),
        assumed=any(span.assumed for span in found),
        unknown=any(span.unknown for span in found),
    )


def takes(action: Action, footprint: Footprint | None) -> Span:
    match action:
        case Start():
            return start_takes(footprint)
        case Sleep():
            return sleep_takes(footprint, action.level, len(action.keys))
        case Wake():
            return wake_takes(footprint, action.level, len(action.keys))
        case Stop():
            return Span(seconds=STOP_S, assumed=True)
        case _:
            assert_never(action)


def left_of(operation: Operation, footprint: Footprint | None, now: float) -> Span:
    """What is left of an operation under way. Where it does not tell its level, 1 is taken."""
    level = SleepLevel.WEIGHTS_OFFLOADED if operation.level is None else operation.level
    match operation.verb:
        case Verb.START:
            whole = start_takes(footprint)
        case Verb.SLEEP:
            whole = sleep_takes(footprint, level, len(operation.keys))
        case Verb.WAKE:
            whole = wake_takes(footprint, level, len(operation.keys))
        case Verb.STOP:
            whole = Span(seconds=STOP_S, assumed=True)
    return _less(whole, now - operation.started_at)


def left_of_load(started_at: float, footprint: Footprint | None, now: float) -> Span:
    return _less(start_takes(footprint), now - started_at)


def _less(whole: Span, gone_s: float) -> Span:
    """One that takes longer than expected may end any moment, or not."""
    over = gone_s >= whole.seconds
    return Span(seconds=max(0.0, whole.seconds - gone_s), assumed=whole.assumed, unknown=whole.unknown or over)


def start_takes(footprint: Footprint | None) -> Span:
    if footprint is None or (footprint.load_s is None and not footprint.weights_bytes):
        return UNKNOWN  # not downloaded yet, perhaps: nothing to reckon with
    if footprint.load_s is not None:
        return Span(seconds=footprint.load_s)
    return Span(seconds=START_S + footprint.weights_bytes / READS_BYTES_PER_S, assumed=True)


def sleep_takes(footprint: Footprint | None, level: SleepLevel, devices: int) -> Span:
    if footprint is not None and footprint.sleep_s is not None:
        return Span(seconds=footprint.sleep_s)
    if level is SleepLevel.DISCARDED:
        return Span(seconds=CHANGE_S, assumed=True)
    return UNKNOWN if footprint is None else _copy(footprint, devices)


def wake_takes(footprint: Footprint | None, level: SleepLevel, devices: int) -> Span:
    if footprint is None:
        return UNKNOWN
    if footprint.wake_s is not None:
        return Span(seconds=footprint.wake_s)
    if level is SleepLevel.DISCARDED:
        return Span(seconds=CHANGE_S + footprint.weights_bytes / READS_BYTES_PER_S, assumed=True)
    return _copy(footprint, devices)


def _copy(footprint: Footprint, devices: int) -> Span:
    """Each GPU has its part of the weights."""
    part_bytes = footprint.weights_bytes / max(1, devices)
    return Span(seconds=CHANGE_S + part_bytes / COPIES_BYTES_PER_S, assumed=True)
