"""What must not happen on a machine, each found at the moment at which it happens, from the machine's own truth."""

from typing import TYPE_CHECKING

from tests.simulation.engines import Engine, Stage
from vllama.domain.units import MIB, format_bytes

if TYPE_CHECKING:
    from tests.simulation.machine import Machine

ROUNDING_BYTES = 2 * MIB


def before_start(machine: "Machine", engine: Engine, known: dict[int, int | None]) -> None:
    """No second engine of a replica, and what all may come to hold fits, as far as could be known."""
    for other in machine.engines.values():
        same = (other.model, other.replica) == (engine.model, engine.replica)
        if same and other.stage is not Stage.GONE and not machine.hosts.away(other):
            machine.story.wrong("two engines of one model", f"{engine} starts while {other} is {other.stage.value}")
    _fits(machine, engine, "start", known)


def before_wake(machine: "Machine", engine: Engine, known: dict[int, int | None]) -> None:
    if engine.stage is not Stage.ASLEEP and engine.excuse is None and engine.operated_by == machine.now_managed_by:
        machine.story.wrong("wrong stage", f"wake of {engine}, which is {engine.stage.value}")
    _fits(machine, engine, "wake", known)


def _fits(machine: "Machine", engine: Engine, what: str, known: dict[int, int | None]) -> None:
    """`known`: bytes that others held by the latest reading that had reached the manager when it decided."""
    for index in engine.devices:
        gpu = machine.gpus[index]
        foreign = known.get(index)
        if foreign is None:
            machine.story.wrong("unknown memory", f"{what} of {engine} on gpu{index}, which could not be read")
            return
        others = [other for other in machine.on_device(index) if other is not engine]
        planned = max(engine.planned, engine.held) + sum(other.may_hold() for other in others)
        limit, slack = gpu.total - machine.reserve, 0
        if not machine.visible:  # what is not used of a plan, or of an estimate, hides what others hold
            slack = sum(e.planned - e.full + max(0, e.told_residue - e.residue) for e in [engine, *others])
        if planned + foreign > limit + slack + ROUNDING_BYTES:
            holds = ", ".join(f"{other} {other.stage.value} {format_bytes(other.may_hold())}" for other in others)
            machine.story.wrong(
                "oversubscribed",
                f"{what} of {engine} ({format_bytes(engine.planned)}) on gpu{index}: with {holds or 'nobody'} and "
                f"{format_bytes(foreign)} of others that is {format_bytes(planned + foreign)} of "
                f"{format_bytes(limit)}",
            )


def before_operation(machine: "Machine", engine: Engine, operation: str) -> None:
    """One at a time on a device; those that a manager began which is dead by now are nobody's fault,
    nor are those that hang: they have been given up, and wait for their turn to be cleaned up.

    When everything ends, it all ends at once: nobody is left to be disturbed by it.
    """
    if machine.ending:
        return
    for other in machine.engines.values():
        hangs = other.hung or other.still
        if other is engine or other.operation is None or hangs or not machine.hosts.share(engine, other):
            continue
        if other.operated_by == machine.now_managed_by:
            machine.story.wrong(
                "two operations on a device", f"{operation} of {engine} while the {other.operation} of {other} goes on"
            )


def before_sleep(machine: "Machine", engine: Engine) -> None:
    if engine.stage is not Stage.AWAKE and engine.excuse is None and engine.operated_by == machine.now_managed_by:
        machine.story.wrong("wrong stage", f"sleep of {engine}, which is {engine.stage.value}")
    if engine.running and engine.excuse is None:
        machine.story.wrong("slept while busy", f"{engine} is put to sleep with {len(engine.running)} requests running")


def before_stop(machine: "Machine", engine: Engine) -> None:
    if engine.running and engine.alive and not machine.may_cut(engine):
        machine.story.wrong("cut", f"{engine} is stopped with {len(engine.running)} requests running")


def before_canary(machine: "Machine", engine: Engine) -> None:
    if engine.running and engine.excuse is None:
        machine.story.wrong(
            "not alone", f"{engine} is asked for its canary with {len(engine.running)} requests running"
        )


def before_request(machine: "Machine", engine: Engine) -> None:
    if engine.stage is not Stage.AWAKE and engine.excuse is None:
        machine.story.wrong("granted too early", f"a request reaches {engine}, which is {engine.stage.value}")
    if engine.discarded:
        machine.story.wrong("garbage", f"a request reaches {engine}, whose weights are gone")


def out_of_memory(machine: "Machine", engine: Engine, known: dict[int, int | None], when: str) -> None:
    """It did not fit: more is there of others than was `known` when it was decided, or a fault is behind it."""
    for index in engine.devices:
        others = [other for other in machine.on_device(index) if other is not engine]
        if machine.gpus[index].foreign > (known[index] or 0) or any(other.excuse for other in others) or engine.excuse:
            return
    where = "; ".join(
        f"gpu{index}: {', '.join(_holding(other) for other in machine.on_device(index))}, "
        f"others hold {format_bytes(machine.gpus[index].foreign)}, {format_bytes(machine.free(index))} are free"
        for index in engine.devices
    )
    text = f"{when} of {engine} ({format_bytes(engine.planned)}) does not fit, and nobody else came: {where}"
    machine.story.wrong("out of memory", text)


def host_memory(machine: "Machine") -> None:
    """Copies fit into what the host gives for them: those that this manager made, and those that sleepers need."""
    budget = machine.host_budget
    for host in machine.hosts.all:
        pinned = sum(
            engine.pinned_host
            for engine in machine.engines.values()
            if host in machine.hosts.of(engine)
            and (
                engine.stage is Stage.ASLEEP
                or (engine.stage is not Stage.GONE and engine.pinned_by == machine.now_managed_by)
            )
        )
        if pinned > budget + ROUNDING_BYTES:
            text = f"{format_bytes(pinned)} of copies on {host.name}, {format_bytes(budget)} allowed"
            machine.story.wrong("host oversubscribed", text)


def _holding(engine: Engine) -> str:
    return f"{engine} {engine.stage.value} holds {format_bytes(engine.held)}"
