"""The controller as a whole: what the gateway and the command line talk to, and the tasks behind it."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx

from vllama.controller.actuator import Actuator
from vllama.controller.bell import Bell
from vllama.controller.board import Board
from vllama.controller.card import ModelCard
from vllama.controller.catalog import Catalog
from vllama.controller.condition import Condition
from vllama.controller.control import EngineAddress, Unresolved, WishVerb
from vllama.controller.demand import Failure
from vllama.controller.describe import Description
from vllama.controller.enquiries import Enquiries
from vllama.controller.events import Events
from vllama.controller.figures import Figures
from vllama.controller.history import History, Journal
from vllama.controller.loop import Loop
from vllama.controller.manifest import ManifestWatch
from vllama.controller.measures import Measures
from vllama.controller.nodes import NodeStatus, node_statuses
from vllama.controller.observer import Observer
from vllama.controller.profiles import Profiles
from vllama.controller.pulse import STUCK_AFTER_S, Pulse
from vllama.controller.report import statuses
from vllama.controller.servers.servers import Servers
from vllama.controller.servers.status import ServerStatus
from vllama.controller.stall import Work
from vllama.controller.supposed import Foreseen, Supposed
from vllama.controller.tending import Tending
from vllama.controller.transitions import Transitions
from vllama.controller.vitals import Vitals
from vllama.controller.why import Why
from vllama.controller.wishes import Wishes
from vllama.domain.decision import Plan
from vllama.domain.demand import Override, WantAsleep, WantReady, WantStopped
from vllama.domain.replicas import replica_name
from vllama.domain.spec import ModelSpec, Policy, SleepLevel
from vllama.domain.status import ModelStatus
from vllama.engine.client import EngineClient
from vllama.engine.logs import LogMark, LogPart
from vllama.planner.books import Books
from vllama.planner.outlook import Outlook
from vllama.planner.rehearse import Rehearsal
from vllama.planner.together import Matrix
from vllama.runtime.base import EngineProcess, LogFile, Runtime

CATALOG_EVERY_S = 60.0
CUT_WITHIN_S = 2.0


class Controller:
    """Built once, by the composition root. `start_up`, then `run` until cancelled, then `shut_down`."""

    def __init__(
        self,
        *,
        runtime: Runtime,
        client: EngineClient,
        manifest: Path,
        environ: Mapping[str, str],
        clock: Callable[[], float],
        simulated: bool,
        place: str = "anywhere",
        http: httpx.AsyncClient | None = None,
    ) -> None:
        """`place`: the version of vLLM and the kind of device that measurements hold for.

        `http`: for asking the servers of models.yaml; None: nobody is asked, so that they have no models.
        """
        self._runtime, self._clock = runtime, clock
        self._bell, self._catalog_bell = Bell(), Bell()
        self.events = Events()
        self.history = History(Journal(manifest.parent / "history.jsonl"), events=self.events)
        self.tending = Tending(events=self.events, clock=clock)
        self.further_conditions: list[Callable[[], Condition | None]] = []  # of those who serve it
        self._leaving, self._transitions = False, Transitions()
        self.board = Board(clock=clock, bell=self._bell.ring, ready_in=self._ready_in)
        self._watch = ManifestWatch(manifest, self._catalog_bell.ring, environ=environ)
        self._profiles = Profiles(manifest.parent / "profiles.json", place=place, events=self.events)
        self.offline = environ.get("VLLAMA_OFFLINE_MODE", "").strip().lower() in {"1", "true", "yes", "on"}
        self._catalog = Catalog(
            watch=self._watch, runtime=runtime, profiles=self._profiles, events=self.events,
            offline=self.offline,
        )  # fmt: skip
        self._wishes = Wishes(self.board)
        self._servers = Servers(
            fleet=self.board.servers, watch=self._watch, http=http, clock=clock, events=self.events
        )  # fmt: skip
        self._observer = Observer(
            runtime=runtime, client=client, clock=clock, bell=self._bell.ring, events=self.events,
            canary_of=self._profiles.canary_of, tending=self.tending, at_work=self._work_of,
            far_every_s=lambda: self.policy.probe_interval_s,
        )  # fmt: skip
        self.board.on_unreachable, self.board.on_doubt = self._observer.unreachable, self._observer.doubt
        self._loop = Loop(
            watch=self._watch, catalog=self._catalog, observer=self._observer, board=self.board,
            wishes=self._wishes, events=self.events, profiles=self._profiles, bell=self._bell,
            clock=clock, simulated=simulated, history=self.history,
        )  # fmt: skip
        self._actuator = Actuator(
            runtime=runtime, client=client, observer=self._observer, board=self.board, events=self.events,
            clock=clock, bell=self._bell.ring, profiles=self._profiles, start_failed=self._loop.crashed,
            tally=self._loop.tally,
        )  # fmt: skip
        self._loop.actuator = self._actuator
        self.pulse = Pulse(passes=lambda: self._loop.passes, events=self.events)  # beats where somebody runs it
        self._enquiries = Enquiries(
            loop=self._loop, catalog=self._catalog, profiles=self._profiles, events=self.events, runtime=runtime,
            history=self.history, clock=clock,
        )  # fmt: skip

    async def start_up(self) -> None:
        """Read the file, look at what is there, and want what is to be preloaded."""
        await self._watch.check()
        await asyncio.to_thread(self._profiles.load)
        await self.history.load()
        await self._catalog.refresh()
        await self._servers.start_up()
        await self._observer.look()
        for engine in self._observer.probes.values():
            self.board.touch(engine.engine.name, self._clock())  # an adopted engine is idle from its adoption
        for model, spec in self._catalog.models.items():
            if spec.auto_start and not spec.pin:
                self.start(model)

    async def run(self) -> None:
        """Until cancelled."""
        works = {
            "models.yaml": self._watch.run, "catalog": self._keep_catalog, "observer": self._observer.run,
            "loop": self._loop.run, "servers": self._servers.run, "history": self.history.run,
        }  # fmt: skip
        async with asyncio.TaskGroup() as tasks:
            for name, work in works.items():
                tasks.create_task(self.tending.keep(name, work), name=name)

    async def _keep_catalog(self) -> None:
        while True:
            await self._catalog_bell.wait(CATALOG_EVERY_S)
            self._servers.apply()
            await self._catalog.refresh()
            if self._watch.error is not None:
                self.events.record("ManifestInvalid", str(self._watch.error), warning=True)
            self._bell.ring()

    async def shut_down(self, *, hurry: asyncio.Event) -> None:
        """Stop every engine when it has nothing in flight any more, or when the drain deadline or `hurry` comes."""
        self._leaving = True
        await self._actuator.close()
        deadline_s = self._watch.current.policy.drain_deadline_s
        self.board.shut(Failure(status=503, code="shutting_down", message="vllama is shutting down."))
        await self._drained(hurry, deadline_s)
        # an engine with a stream open ignores SIGTERM until its client leaves, so there is no use in waiting
        cutting = self.board.is_busy
        stop_s = CUT_WITHIN_S if cutting or hurry.is_set() else self._watch.current.policy.stop_deadline_s
        engines = await self._runtime.engines()
        stops = [self._runtime.stop(engine.engine_id, deadline_s=stop_s) for engine in engines]
        for engine, outcome in zip(engines, await asyncio.gather(*stops, return_exceptions=True), strict=True):
            if isinstance(outcome, BaseException):
                self.events.record("stopFailed", str(outcome), model=engine.model, warning=True)
        await asyncio.to_thread(self._profiles.save)
        await self.history.close()
        await self._observer.close()
        await self._runtime.close()
        self.events.close()

    async def _drained(self, hurry: asyncio.Event, deadline_s: float) -> None:
        end = self._clock() + deadline_s
        while self.board.is_busy and self._clock() < end:
            try:
                async with asyncio.timeout(0.1):
                    await hurry.wait()
            except TimeoutError:
                continue
            return

    # Control

    def resolve(self, name: str) -> ModelSpec | Unresolved:
        return self._servers.names(self._catalog.models).resolve(name)

    def resolve_here(self, name: str) -> ModelSpec | Unresolved:
        found = self._catalog.names.resolve(name)
        if not isinstance(found, Unresolved):
            return found
        other = self.resolve(name)
        if isinstance(other, Unresolved):
            return other
        elsewhere = tuple(server.url for server in self.board.servers.having(other.model))
        return Unresolved(name=name, ambiguous=False, candidates=(), elsewhere=elsewhere)

    @property
    def revision(self) -> int:
        return self._catalog.refreshed + self._profiles.revision + self.board.servers.revision

    @property
    def looked(self) -> int:
        return self._catalog.refreshed

    def servers(self) -> Sequence[ServerStatus]:
        return self._servers.statuses()

    def tasks(self, model: str) -> frozenset[str] | None:
        return self._catalog.tasks(model)

    def has_engine(self, engine_id: str) -> bool:
        return engine_id in self._observer.probes or self.board.servers.has_engine(engine_id)

    def engines(self) -> Sequence[EngineAddress]:
        served = (probe for probe in self._observer.probes.values() if probe.was_ready and probe.engine.exit is None)
        latest = {probe.engine.name: probe.engine for probe in sorted(served, key=lambda p: p.engine.started_at)}
        return [EngineAddress(model=engine.model, at=engine.address) for _, engine in sorted(latest.items())]

    def _ready_in(self, model: str) -> Outlook:
        return self._loop.outlook(model)

    def _work_of(self, engine: EngineProcess) -> Work | None:
        spec = self._catalog.replicas.get(engine.name)
        if spec is None:
            return None
        goes_there = self.board.engine_of(engine.name) == engine.engine_id
        in_flight = self.board.demand_of(engine.name).in_flight if goes_there else 0
        return Work(in_flight=in_flight, stall_timeout_s=spec.stall_timeout_s)

    @property
    def policy(self) -> Policy:
        return self._watch.current.policy

    def statuses(self) -> Sequence[ModelStatus]:
        wall_minus_clock = time.time() - self._clock()
        desired, snapshot = self._loop.desired(), self._loop.snapshot(self._clock())
        said = self._loop.reasons.plan(desired, snapshot)
        here = statuses(desired, snapshot, said, wall_minus_clock=wall_minus_clock)
        return self._servers.with_theirs(here, self._catalog.models)

    def conditions(self) -> Sequence[Condition]:
        error = self._watch.error
        polled = "" if self._watch.unwatched is None else f" It is looked at now and then: {self._watch.unwatched}."
        text = f"models.yaml is in force.{polled}"
        manifest = Condition(type="ManifestValid", ok=True, reason="Applied", message=text)
        if error is not None:
            text = f"{error} (the last good version stays in force)"
            manifest = Condition(type="ManifestValid", ok=False, reason="Invalid", message=text)
        blind = self._observer.memory_error
        seen = Condition(type="DevicesSeen", ok=True, reason="Read", message="Devices and engines are observed.")
        if blind is not None or not self._observer.sees_devices:
            seen = Condition(type="DevicesSeen", ok=False, reason="Unreadable", message=blind or "No device yet.")
        devices = Condition(type="DevicesSound", ok=True, reason="Used", message="All devices can be used.")
        if troubles := self._observer.device_troubles:
            devices = Condition(type="DevicesSound", ok=False, reason="Trouble", message="\n".join(troubles))
        sound = Condition(type="PlanSound", ok=True, reason="Checked", message="The second opinion agrees.")
        if self._loop.findings:
            text = "; ".join(finding.message for finding in self._loop.findings[:3])
            sound = Condition(type="PlanSound", ok=False, reason="Rejected", message=f"Nothing is done: {text}")
        passes = Condition(type="PassesComplete", ok=True, reason="Completed", message="The loop goes round.")
        if self._loop.error is not None:
            text = f"The last pass failed, nothing is started or stopped: {self._loop.error}"
            passes = Condition(type="PassesComplete", ok=False, reason="Failed", message=text)
        says = (
            self.tending.condition, self.pulse.condition, self._servers.condition, self.history.condition,
            *self.further_conditions,
        )  # fmt: skip
        further = [condition for say in says if (condition := say()) is not None]
        every = (manifest, seen, devices, sound, passes, *self._actuator.conditions(), *further)
        return self._transitions.dated(every)

    def vitals(self) -> Vitals:
        pulse, age_s = self.pulse, self.pulse.pass_age_s
        stuck = age_s >= STUCK_AFTER_S and not self._leaving
        return Vitals(
            stuck=f"the loop made no pass for {age_s:.0f} s" if stuck else None, unready=self._unready(),
            lag_s=pulse.lag_s, pass_age_s=age_s, pass_s=self._loop.pass_s, blocked=pulse.blocked,
            deaths=self.tending.deaths.copy(),
        )  # fmt: skip

    def _unready(self) -> str | None:
        if self._leaving:
            return "vllama is shutting down."
        if self._watch.generation == 0:
            return "No valid models.yaml was seen yet."
        return None if self._loop.plan is not None else "Nothing was planned yet."

    async def plans(self, *, settle: bool) -> Sequence[Plan]:
        return await self._enquiries.plans(settled=settle)

    async def rehearse(self, models: Sequence[str]) -> Rehearsal:
        return await self._enquiries.rehearse(models)

    async def rehearse_wish(self, model: str, verb: WishVerb, level: SleepLevel | None) -> Rehearsal:
        return await self._enquiries.rehearse_wish(model, _wish(verb, level, at=self._clock()))

    def outlooks(self) -> Mapping[str, Outlook]:
        return self._enquiries.outlooks()

    async def matrix(self) -> Matrix:
        return await self._enquiries.matrix()

    async def suppose(self, wish: Supposed) -> Foreseen:
        return await self._enquiries.suppose(wish)

    def nodes(self) -> Sequence[NodeStatus]:
        now = self._clock()
        snapshot, wall_minus_clock = self._loop.snapshot(now), time.time() - now
        return node_statuses(snapshot, read_at=self._observer.read_at, wall_minus_clock=wall_minus_clock)

    def memory(self) -> Books:
        return self._enquiries.memory()

    def figures(self) -> Sequence[Figures]:
        return self._enquiries.figures()

    async def measures(self) -> Measures:
        return await self._enquiries.measures(self.pulse.lags.copy())

    async def show(self, spec: ModelSpec) -> ModelCard:
        return await self._enquiries.show(spec)

    async def describe(self, spec: ModelSpec) -> Description:
        return await self._enquiries.describe(spec)

    async def why(self, spec: ModelSpec) -> Sequence[Why]:
        return await self._enquiries.why(spec)

    def defaults(self) -> ModelSpec:
        return self._watch.current.undeclared

    def log_of(self, model: str, replica: int = 1) -> LogFile:
        return self._runtime.log_of(replica_name(model, replica))

    async def read_log(self, log: LogFile, after: LogMark) -> LogPart:
        return await self._runtime.read_log(log, after)

    async def log_tail(self, log: LogFile, *, limit_bytes: int) -> tuple[str, ...]:
        return await self._runtime.log_tail(log, limit_bytes=limit_bytes)

    async def rescan(self) -> None:
        await self._watch.check()
        await self._catalog.refresh(anew=True)
        self._bell.ring()

    def start(self, model: str) -> None:
        """One request at this moment. Clears the pause after a crash: somebody thinks that it will work now."""
        self._loop.forgive(model)
        self._wishes.wish(model, _wish("start", None, at=self._clock()))
        self._bell.ring()

    def stop(self, model: str) -> None:
        self._put_aside(model, "stopped")
        self._wishes.wish(model, _wish("stop", None, at=self._clock()))

    def sleep(self, model: str, level: SleepLevel | None) -> None:
        self._put_aside(model, "put to sleep")
        self._wishes.wish(model, _wish("sleep", level, at=self._clock()))

    def _put_aside(self, model: str, how: str) -> None:
        self._loop.forgive(model)
        message = f"{model} was {how} by an operator; a new request brings it back."
        self.board.fail_waiters(model, Failure(status=503, code="stopped_by_operator", message=message))
        self._bell.ring()


def _wish(verb: WishVerb, level: SleepLevel | None, *, at: float) -> Override:
    match verb:
        case "start":
            return WantReady(at=at)
        case "stop":
            return WantStopped(at=at)
        case "sleep":
            return WantAsleep(at=at, level=level)
