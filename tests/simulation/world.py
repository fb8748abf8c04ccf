"""The real controller on a machine of our making: boot, live for so many events, come to rest, be judged."""

import asyncio
import contextlib
import contextvars
import logging
import traceback
import uuid
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import structlog

from tests.simulation import accidents, rest
from tests.simulation.catalogue import Catalogue
from tests.simulation.clients import Crowd
from tests.simulation.engines import Engine, Gpu
from tests.simulation.fate import Fate
from tests.simulation.machine import Machine
from tests.simulation.profiles import Profile
from tests.simulation.runtime import VirtualClient, VirtualRuntime
from tests.simulation.story import Story
from tests.simulation.virtual import OWNER, Deadlock, Spinning, VirtualLoop
from vllama.controller.controller import Controller
from vllama.domain.spec import Policy, SleepLevel

EVENTS = ("arrival", "outcome", "action", "exit", "fault", "operator", "edit", "restart")
POLICY = Policy()


class World:
    """`controller` None: no manager runs, or not yet."""

    def __init__(self, *, seed: int, profile: Profile, directory: Path, loop: VirtualLoop, aloud: bool = False) -> None:
        self.profile, self.loop = profile, loop
        self.story = Story(loop, aloud=aloud)
        self.fate = Fate(seed, profile.faults)
        self._manifest = directory / "models.yaml"
        logs = directory / "logs"
        logs.mkdir()
        self.catalogue = Catalogue(self._manifest, profile, self.fate.stream("models"))
        self.catalogue.write()
        self._visible = self.fate.stream("driver").random() < profile.measured_visible
        self.machine = Machine(
            loop=loop, fate=self.fate, story=self.story, reserve=profile.reserve_bytes, load_s=profile.load_s,
            copy_bytes_per_s=profile.copy_bytes_per_s,
            gpus=tuple(Gpu(index=i, total=profile.device_bytes) for i in range(profile.devices)), logs=logs,
            host_budget=profile.host_budget_bytes, sleep_frees=profile.sleep_frees_memory, visible=self._visible,
            hosts=profile.hosts,
        )  # fmt: skip
        self.machine.may_cut = self._may_cut
        self.crowd = Crowd(world=self, rng=self.fate.stream("clients"), demands=self.fate.stream("demands"))
        self.controller: Controller | None = None
        self.runtime: VirtualRuntime
        self.stopped_at: dict[str, float] = {}
        self.ending_since: float | None = None
        self.between_managers = asyncio.Lock()
        self._managers = 0
        self._blind = False
        self._manager: asyncio.Task[None] | None = None
        self._built: Controller | None = None

    # the manager

    def boot(self) -> None:
        self._managers += 1
        name = f"manager-{self._managers}"
        self.machine.now_managed_by, self.machine.ending, self.ending_since = name, False, None
        self.machine.readings = []
        self._blind = self.catalogue.wrong
        self.runtime = VirtualRuntime(
            self.machine, manager=name, footprints=self.catalogue.footprints, visible=self._visible,
            host_budget=self.profile.host_budget_bytes,
        )  # fmt: skip
        context = contextvars.copy_context()
        context.run(OWNER.set, name)
        self._built = context.run(self._build)
        self._manager = self.loop.create_task(self._manage(self._built), context=context)

    def _build(self) -> Controller:
        return Controller(
            runtime=self.runtime, client=VirtualClient(self.machine), manifest=self._manifest, environ={},
            clock=self.loop.time, simulated=False, place="here",
        )  # fmt: skip

    async def _manage(self, controller: Controller) -> None:
        await controller.start_up()
        self.controller = controller
        await controller.run()

    async def kill(self) -> None:
        """As SIGKILL does: nobody says goodbye, and whatever was asked of engines goes on."""
        self.story.tell("restart", f"{self.machine.now_managed_by} is killed")
        await self._end_tasks([*self.crowd.cut_all(), *self.loop.tasks_of(self.machine.now_managed_by)])

    async def shut_down(self) -> None:
        """As SIGTERM does. When it is over no engine is left."""
        controller, manager = self._built, self._manager
        if controller is None or manager is None or self.controller is None:
            await self.kill()  # it does not listen for signals yet
            return
        self.story.tell("restart", f"{self.machine.now_managed_by} is asked to end")
        self.controller, self.ending_since, self.machine.ending = None, self.loop.now, True
        await self._end_tasks([manager])
        await controller.shut_down(hurry=asyncio.Event())
        await self._end_tasks(self.crowd.cut_all())
        left = [
            engine
            for engine in self.machine.engines.values()
            if engine.immortal_until < self.loop.now and self.machine.hosts.asked(engine)
        ]
        if left:
            self.story.wrong("left behind", f"after a shutdown there are {', '.join(map(str, left))}")

    async def _end_tasks(self, tasks: list[asyncio.Task[None]]) -> None:
        self.controller, self._manager = None, None
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def operate(self, verb: str, name: str, *, level: int | None = None) -> None:
        controller = self.controller
        if controller is None:
            return
        self.story.tell("operator", f"{verb} {name}{f' at level {level}' if verb == 'sleep' and level else ''}")
        self.stopped_at.pop(name, None)
        if verb == "start":
            controller.start(name)
        elif verb == "stop":
            self.stopped_at[name] = self.loop.now
            controller.stop(name)
        else:
            controller.sleep(name, None if level is None else SleepLevel(level))

    # what is so, and what must be

    def _may_cut(self, engine: Engine) -> bool:
        """A fault, or the drain deadline after the model was removed, stopped, or the manager asked to end."""
        catalogue = self.catalogue
        since = (
            catalogue.removed_at.get(engine.model), catalogue.replica_removed_at.get((engine.model, engine.replica)),
            self.stopped_at.get(engine.model), self.ending_since,
        )  # fmt: skip
        return engine.excuse is not None or any(
            at is not None and self.loop.now >= at + POLICY.drain_deadline_s for at in since
        )

    def check_unknown(self, name: str) -> None:
        """A name that was declared a while ago is known, unless the manager never saw a good file."""
        declared = self.catalogue.declared_at.get(name, 0.0)
        known = name in self.catalogue.entries and not self.catalogue.wrong and not self._blind
        if known and self.loop.now > declared + 60.0:
            self.story.wrong("unknown model", f"{name} is declared since {declared:.0f}")

    def when_quiet(self) -> None:
        """Everybody waits, so that all counts must agree."""
        if self._manager is not None and self._manager.done():
            error = None if self._manager.cancelled() else self._manager.exception()
            self.story.wrong("the manager ended", "".join(_lines_of(error)))
        if self.controller is None:
            return
        if deaths := self.controller.tending.deaths:
            self.story.wrong("a task died", self.controller.tending.condition().message or str(dict(deaths)))
        if failed := self.controller.history.failed:
            self.story.wrong("history failed", failed)
        for finding in self.controller._loop.findings:
            self.story.wrong("plan rejected", f"{finding.kind}: {finding.message}")
        if not self.crowd.changed:
            return
        self.crowd.changed = False
        board = self.controller.board
        told: dict[str, tuple[int, int]] = {}
        for name, demand in board.demand().items():
            model = name.partition("#")[0]
            before = told.get(model, (0, 0))
            told[model] = before[0] + demand.waiting, before[1] + demand.in_flight
        for model, (are_waiting, in_flight) in told.items():
            waiting, flying = self.crowd.waiting[model] + board.stands_in(model), self.crowd.flying[model]
            if (are_waiting, in_flight) != (waiting, flying):
                self.story.wrong(
                    "counts differ",
                    f"{model}: the board has {are_waiting} waiting and {in_flight} in flight, "
                    f"in truth it is {waiting} and {flying}",
                )

    @property
    def events(self) -> int:
        return sum(self.story.counts[kind] for kind in EVENTS)

    # from the beginning to the end

    async def live(self, events: int) -> None:
        self.boot()
        deeds = (
            self.crowd.keep_coming(),
            accidents.befall(self, self.fate.stream("accidents")),
            accidents.operate(self, self.fate.stream("operators")),
            accidents.edit(self, self.fate.stream("edits")),
            accidents.restart(self, self.fate.stream("restarts")),
            rest.watch_the_waiting(self),
        )
        tasks = [self.loop.create_task(deed) for deed in deeds]
        while self.events < events:
            await asyncio.sleep(1.0)
            for task in tasks:
                if task.done() and (error := task.exception()) is not None:
                    raise error
        async with self.between_managers:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        await rest.come_to_rest(self)

    def run(self, events: int) -> None:
        """Raises what the world itself got wrong; what vllama got wrong is in `story.violation`."""
        with self.owned():
            self.until(self.live(events))

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """Nothing comes from outside: no chance of the system's, no file events of real time, no log."""
        ids = self.fate.stream("ids")
        self.loop.on_quiet = self.when_quiet
        self.loop.set_exception_handler(self._unhandled)
        log_as_before = structlog.get_config()
        structlog.configure(
            wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL), cache_logger_on_first_use=False
        )
        with (
            mock.patch("uuid.uuid4", side_effect=lambda: uuid.UUID(int=ids.getrandbits(128), version=4)),
            mock.patch("vllama.controller.manifest.watch.awatch", _no_watches_left),
        ):
            try:
                yield
            finally:
                structlog.configure(**log_as_before)

    def until(self, done: Coroutine[Any, Any, None]) -> None:
        """Run until `done`, or until something is wrong."""
        try:
            self.loop.run_until_complete(done)
        except (Deadlock, Spinning) as error:
            self.story.wrong(type(error).__name__, str(error))
        except RuntimeError:
            if self.story.violation is None:
                raise

    def _unhandled(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self.story.wrong("nobody caught", f"{context.get('message')}: {''.join(_lines_of(error))}")


def _no_watches_left(*_: object, **__: object) -> None:
    """The kernel's watches are of real time: the file is polled instead, as on a machine that has none left."""
    raise OSError("inotify watches are used up")


def _lines_of(error: BaseException | None) -> list[str]:
    return traceback.format_exception(error) if error is not None else ["without an error"]
