"""Several hosts made of one machine: which devices each has, and what is between it and the manager.

The machine numbers all its devices through; a host's own indices begin at 0. What happens to a host happens to its
agent, to the way to it, or to all of it.
"""

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.engines import Engine
from vllama.domain.observed import Place, Placed

if TYPE_CHECKING:
    from tests.simulation.machine import Machine

SILENT_S = 3.0  # then it counts as lost
FENCED_AFTER_S = 20.0  # who comes back later than this is fenced: it ends what it finds, and says so
ALONE = "here"


class Trouble(enum.Enum):
    NO_WORD = "says nothing"  # its agent; its engines go on, and answer whoever calls them
    CUT_OFF = "is cut off"
    DIES = "dies"


@dataclass(slots=True, eq=False)
class Host:
    """`numbers` of its devices on the machine. `fenced`: it is back, and does not yet say what is left there."""

    name: str
    numbers: tuple[int, ...]
    silent_since: float | None = None
    trouble: Trouble | None = None
    fenced: bool = False

    @property
    def answers(self) -> bool:
        return self.silent_since is None and not self.fenced


class Hosts:
    def __init__(self, machine: "Machine", count: int) -> None:
        each = len(machine.gpus) // count
        self._machine = machine
        self.all = tuple(
            Host(name=f"n{i}" if count > 1 else ALONE, numbers=tuple(range(i * each, (i + 1) * each)))
            for i in range(count)
        )
        self._by_name = {host.name: host for host in self.all}

    @property
    def several(self) -> bool:
        return len(self.all) > 1

    def named(self, name: str) -> Host:
        return self._by_name[name]

    def of(self, engine: Engine) -> list[Host]:
        return [host for host in self.all if not set(host.numbers).isdisjoint(engine.devices)]

    def places(self, engine: Engine) -> list[Place]:
        return [
            Place(node=host.name, devices=tuple(n - host.numbers[0] for n in engine.devices if n in host.numbers))
            for host in self.of(engine)
        ]

    def numbers(self, placed: Placed) -> tuple[int, ...]:
        return tuple(self._by_name[node].numbers[device] for node, device in placed.keys)

    def reached(self, engine: Engine) -> bool:
        """Whoever calls it is answered, as far as its hosts go."""
        return not any(host.trouble in {Trouble.CUT_OFF, Trouble.DIES} or host.fenced for host in self.of(engine))

    def asked(self, engine: Engine) -> bool:
        """Its agents answer."""
        return all(host.answers for host in self.of(engine))

    def away(self, engine: Engine) -> bool:
        """None of them does."""
        return not any(host.answers for host in self.of(engine))

    def share(self, one: Engine, other: Engine) -> bool:
        """A device on which something can be done to them: of who has lost a part only the rest can be asked."""
        numbers = {number for host in self.all if host.silent_since is None for number in host.numbers}
        return bool(numbers & set(one.devices) & set(other.devices))

    # what befalls them

    def fall_silent(self, host: Host, trouble: Trouble) -> None:
        host.silent_since, host.trouble = self._machine.loop.now, trouble
        for engine in list(self._on(host)):
            if engine.hanging or len(self.of(engine)) > 1:
                engine.excuse = engine.excuse or f"{host.name} {trouble.value}"
            for caller in engine.hanging:
                if not caller.done():
                    caller.set_exception(ConnectionResetError(f"{host.name} does not answer"))
            engine.hanging.clear()
            if trouble is not Trouble.NO_WORD:
                for request in list(engine.running.values()):
                    self._machine.finish(engine, request, "broken")
            if trouble is Trouble.DIES:
                self._end(engine, f"{host.name} died")

    def hear_again(self, host: Host) -> None:
        since, trouble = host.silent_since, host.trouble
        if since is None:
            return
        host.silent_since = host.trouble = None
        late = self._machine.loop.now >= since + FENCED_AFTER_S
        self._machine.story.tell("fault", f"{host.name} is back{', fenced' if late or trouble is Trouble.DIES else ''}")
        if late or trouble is Trouble.DIES:
            host.fenced = True
            for engine in list(self._on(host)):
                self._end(engine, "fenced")
            self._look_whether_empty(host)
        self._machine.ring()

    def _look_whether_empty(self, host: Host) -> None:
        if any(engine.held for engine in self._on(host)):
            self._machine.loop.call_later(0.5, self._look_whether_empty, host)
            return
        for engine in list(self._on(host)):
            self._machine.engines.pop(engine.engine_id, None)
        host.fenced = False
        self._machine.ring()

    def _end(self, engine: Engine, why: str) -> None:
        """With a part of it all of it ends."""
        engine.excuse, engine.immortal_until = engine.excuse or why, 0.0
        self._machine.end(engine, -9)

    def _on(self, host: Host) -> Iterator[Engine]:
        return (each for each in self._machine.engines.values() if not set(host.numbers).isdisjoint(each.devices))


def names(hosts: Iterable[Host]) -> str:
    return ", ".join(host.name for host in hosts)
