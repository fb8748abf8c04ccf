"""What must hold after every trouble, whatever it was.

1  Every client had exactly one answer that is well-formed, or a clean error, and no engine was asked twice for one
   that it could have answered.
2  No two engines were ever in each other's way on a device, and no model has an engine too many.
3  No process of an engine is left on any host that vllama does not list.
4  All machines are ready again, and what is asked for is served.
"""

import asyncio
import itertools
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from tests.faults.clients import NEVER, Asking, Kind, Outcome, ask
from tests.ray.manager import Manager
from tests.waiting import wait_until

_PAUSE_S = 0.1
_numbers = itertools.count(1)


class Load:
    """Clients, one for each of `models`, that ask again as soon as they are answered. They come from another host."""

    def __init__(self, manager: Manager, models: tuple[str, ...]) -> None:
        self._manager, self._models = manager, models
        self.outcomes: list[Outcome] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()), name="clients")

    def whole(self, model: str) -> int:
        """How many of its requests had all of the right answer."""
        return sum(each.kind is Kind.WHOLE for each in self.outcomes if each.model == model)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._end.set()
        self._thread.join()

    async def _all(self) -> None:
        await asyncio.gather(*(self._ask(model) for model in self._models))

    async def _ask(self, model: str) -> None:
        stream = False
        while not self._end.is_set():
            stream = not stream
            asking = Asking(request_id=f"{os.getpid()}-{next(_numbers)}", model=model, stream=stream, deadline_s=60)
            self.outcomes.append(await ask(self._manager.outside, asking))
            await asyncio.sleep(_PAUSE_S)


@contextmanager
def load(manager: Manager, *models: str, cut: bool = False) -> Iterator[Load]:
    """While inside, clients call the models; afterwards each is served, and what they were told is looked at.

    `cut`: requests may break off, as what served them was taken away.
    """
    clients = Load(manager, models)
    clients.start()
    try:
        for model in models:
            wait_until(lambda model=model: clients.whole(model) > 0, deadline_s=60, what=f"a first answer of {model}")
        yield clients
        for model in models:
            before = clients.whole(model)
            wait_until(
                lambda model=model, before=before: clients.whole(model) > before + 2, deadline_s=60,
                what=f"{model} to be served again; last: {[str(each) for each in clients.outcomes[-5:]]}",
            )  # fmt: skip
    finally:
        clients.stop()
    answered_once(manager, clients.outcomes, cut=cut)


def answered_once(manager: Manager, outcomes: list[Outcome], *, cut: bool) -> None:
    served = manager.times_served()
    bad = NEVER if cut else frozenset(Kind) - {Kind.WHOLE}
    assert [str(each) for each in outcomes if each.kind in bad] == []
    assert [str(each) for each in outcomes if each.kind is Kind.WHOLE and served[each.request_id] == 0] == []
    twice = Counter({each.request_id: served[each.request_id] for each in outcomes if served[each.request_id] > 1})
    assert not twice, f"asked of an engine more than once: {twice}"


def all_is_well(manager: Manager) -> None:
    """All of it is so within a minute."""
    wrong: list[str] = []

    def so() -> bool:
        wrong[:] = not_yet(manager)
        return not wrong

    try:
        wait_until(so, deadline_s=60, what="all to be as it should")
    except BaseException as error:
        raise AssertionError(f"after the trouble, still: {wrong}") from error
    assert manager.collisions() == []


def not_yet(manager: Manager) -> list[str]:
    """What keeps it from being as it should."""
    nodes = manager.nodes()
    wrong = [f"{name} is {nodes.get(name)}" for name in manager.cluster.machines if nodes.get(name) != "ready"]
    listed = manager.ps()
    wrong += [f"{name} is {each['phase']}" for name, each in listed.items() if each["phase"] in {"Lost", "Unknown"}]
    there = manager.running()
    engines = Counter(each.name for each in there)
    for name, count in engines.items():
        if listed.get(name, {}).get("pid") is None:
            wrong.append(f"{name} has processes, and is not listed: {[each for each in there if each.name == name]}")
        elif len({each.engine_id for each in there if each.name == name}) > 1:
            wrong.append(f"{name} has {count} engines: {[each for each in there if each.name == name]}")
    return wrong
