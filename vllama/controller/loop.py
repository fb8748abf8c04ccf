"""observe -> plan -> act, for ever. One pass is one step of the event loop: nothing changes under it."""

from collections.abc import Callable
from dataclasses import replace

from vllama.controller.actuator import Actuator
from vllama.controller.bell import Bell
from vllama.controller.board import Board
from vllama.controller.catalog import Catalog
from vllama.controller.demand import Endpoint, Failure
from vllama.controller.events import Events, log
from vllama.controller.history import History
from vllama.controller.manifest import ManifestWatch
from vllama.controller.observer import Observer
from vllama.controller.profiles import Profiles
from vllama.controller.reasons import Reasons
from vllama.controller.tally import Cause, Tally
from vllama.controller.wishes import Wishes
from vllama.domain.action import Sleep, Stop
from vllama.domain.decision import Decision, Plan
from vllama.domain.demand import WantReady
from vllama.domain.desired import DesiredState
from vllama.domain.observed import Awake, Crashes, EngineObservation, Snapshot, Verb
from vllama.domain.reason import Reason
from vllama.domain.spec import ModelSpec
from vllama.planner import plan
from vllama.planner.backoff import after_crash, delay_s
from vllama.planner.check import Finding, check
from vllama.planner.evidence import evidence_of, needs_evidence
from vllama.planner.outlook import Outlook, outlook, rests_in_s
from vllama.planner.view import best_engines

AT_LEAST_EVERY_S = 5.0
OUTLOOK_HOLDS_S = 0.5
SLOW_PASS_S = 2.0
CRASHES = frozenset({Reason.ENGINE_EXITED, Reason.ENGINE_BROKEN, Reason.PROBE_DEADLINE, Reason.LOAD_STALLED})
_TAKEN_DOWN = frozenset(
    {Reason.ENGINE_BROKEN, Reason.PROBE_DEADLINE, Reason.NODE_LOST}
)  # while they lived, and did not serve


class Loop:
    """The only writer of the board. A bell wakes it early, time wakes it anyway; the next pass is the retry."""

    def __init__(
        self,
        *,
        watch: ManifestWatch,
        catalog: Catalog,
        observer: Observer,
        board: Board,
        wishes: Wishes,
        events: Events,
        profiles: Profiles,
        bell: Bell,
        clock: Callable[[], float],
        simulated: bool,
        history: History | None = None,
    ) -> None:
        self._history = history or History()
        self._watch, self._catalog, self._observer, self._board = watch, catalog, observer, board
        self._wishes, self._events, self._bell, self._clock, self._simulated = wishes, events, bell, clock, simulated
        self._profiles, self._learned = profiles, set[str]()
        self.actuator: Actuator | None = None
        self.crashes: dict[str, Crashes] = {}
        self._failed_as: dict[str, str] = {}  # the settings, by their hash, with which each of them failed
        self.error: str | None = None  # why the last pass could not be completed
        self.tally = Tally(self._served)
        self.passes = 0
        self.pass_s = 0.0  # how long the last one took
        self.plan: Plan | None = None
        self.reasons = Reasons(clock)
        self.findings: tuple[Finding, ...] = ()
        self._since = clock()
        self._said: dict[str, tuple[Reason, str]] = {}
        self._outlooks: dict[str, tuple[float, Outlook]] = {}  # by model: when, and what

    async def run(self) -> None:
        while True:
            self._pass()
            due = self.plan.requeue_after_s if self.plan is not None else None
            await self._bell.wait(AT_LEAST_EVERY_S if due is None else min(due, AT_LEAST_EVERY_S))

    def _pass(self) -> None:
        """A pass that fails is a bug of ours. It must show, and not end the care for what runs; the next tries anew."""
        began = self._clock()
        try:
            self.reconcile_once()
            self.error = None
        except Exception as error:  # noqa: BLE001
            if self.error is None:
                log.exception("PassFailed")
            self.error = f"{type(error).__name__}: {error}"
            self._events.record("PassFailed", self.error, warning=True)
        self.passes += 1
        self.pass_s = self._clock() - began
        self.tally.passed(self.pass_s, failed=self.error is not None)
        if self.pass_s >= SLOW_PASS_S:
            message = f"A pass of the loop took {self.pass_s:.1f} s, and nobody else had a turn meanwhile."
            self._events.record("PassSlow", message, warning=True)

    def desired(self) -> DesiredState:
        return DesiredState(
            generation=self._watch.generation,
            models=self._catalog.replicas,
            demand=self._board.demand(),
            overrides=dict(self._wishes.overrides),
            policy=self._watch.current.policy,
            since=self._since,
        )

    def snapshot(self, now: float) -> Snapshot:
        return self._observer.snapshot(
            now=now,
            policy=self._watch.current.policy,
            simulated=self._simulated,
            operations=tuple(self.actuator.operations.values()) if self.actuator else (),
            footprints=self._catalog.footprints,
            crashes=dict(self.crashes),
        )

    def reconcile_once(self) -> None:
        """Take the latest of everything, plan, publish, begin. Waits for nothing."""
        if not self._observer.sees_devices or self._watch.generation == 0:
            return  # nothing was seen yet, or nothing good was ever said: neither is a reason to stop engines
        now = self._clock()
        self._forgive_the_mended()
        snapshot = self.snapshot(now)
        engines = best_engines(snapshot)
        desired = self.desired()
        began = self._clock()
        self.plan = plan(desired, snapshot, now)
        plan_s = self._clock() - began
        self.reasons.passed(self.plan, desired)
        findings = check(desired, snapshot, now, self.plan)
        self.tally.planned(plan_s, rejected=bool(findings))
        self._wishes.review(engines, self._catalog.replicas, self.plan, snapshot.operations)
        for decision in self.plan.decisions:
            self._publish(decision, engines.get(decision.model))
            self._say(decision)
        for decision in self.plan.decisions:
            if decision.action is not None and not findings:
                self._act(decision, engines.get(decision.model), desired, now)
        self._turn_away_strangers(desired)
        self._doubt(findings)
        self.tally.see(self.plan, self.actuator.operations.values() if self.actuator else (), now)
        self._board.ring_when_idle = any(d.waits_for or d.drain for d in self.plan.decisions)
        self._remember(self.plan, desired, snapshot)

    def _remember(self, made: Plan, desired: DesiredState, snapshot: Snapshot) -> None:
        """A history that cannot be kept is a bug of ours, and no reason to serve nobody."""
        try:
            self._note(made, desired, snapshot)
        except Exception as error:  # noqa: BLE001
            if not self._history.failed:
                log.exception("HistoryFailed")
            self._history.failed = f"{type(error).__name__}: {error}"

    def _note(self, made: Plan, desired: DesiredState, snapshot: Snapshot) -> None:
        """What is new, with what it rests on."""
        operations = self.actuator.operations.values() if self.actuator else ()
        news = self._history.note(made, best_engines(snapshot), operations)
        plain = [decision for decision in news if not needs_evidence(decision)]
        if plain:
            self._history.keep(plain)
        for decisions, evidence in evidence_of(
            desired, snapshot, snapshot.taken_at, [decision for decision in news if needs_evidence(decision)]
        ):
            self._history.keep(decisions, evidence)

    def _forgive_the_mended(self) -> None:
        """Whose settings are others than those that failed is tried with them at once."""
        for model in self.crashes.keys() & self._catalog.replicas.keys():
            if self._failed_as.get(model, now_as := self._catalog.replicas[model].spec_hash) != now_as:
                del self.crashes[model]

    def _turn_away_strangers(self, desired: DesiredState) -> None:
        """Whoever waits for a model that is no longer in the file waits in vain."""
        for model, demand in desired.demand.items():
            if demand.waiting and model not in desired.models:
                message = f"{model} is no longer in models.yaml or the model cache."
                self._board.fail_waiters(model, Failure(status=404, code="model_not_found", message=message))

    def _doubt(self, findings: tuple[Finding, ...]) -> None:
        """A plan that the second opinion objects to is not carried out: a bug of ours must not touch anybody's GPUs."""
        self.findings = findings
        for finding in findings:
            self._events.record("PlanRejected", f"{finding.kind}: {finding.message}", warning=True)

    def _publish(self, decision: Decision, engine: EngineObservation | None) -> None:
        """Who is ready takes requests, in the step in which that is seen; who can never be, says so to who waits."""
        model, spec = decision.model, self._catalog.replicas.get(decision.model)
        if decision.refused:
            served = self._served(model)
            message = f"{served} {decision.reason.sentence[3:]} {decision.message}"
            failure = Failure(
                status=503, code=_code(decision.reason), message=message, retry_after_s=self._room_in_s(decision)
            )  # fmt: skip
            self._board.fail_waiters(served, failure)
        if spec is None and decision.drain and self._board.is_further(model):
            self._board.drain(model)  # its model is still called
        if engine is None and self._board.engine_of(model) is not None:
            self._board.pause(model)  # nobody is there any more, not even its remains
        if engine is None or spec is None or isinstance(decision.action, Sleep | Stop):
            return
        if isinstance(engine.state, Awake) and self._is_settled(engine):
            if decision.drain:
                self._board.drain(model)
            else:
                self._open(engine, spec, engine.state)
        elif not isinstance(engine.state, Awake) and self._board.engine_of(model) is not None:
            self._board.pause(model)  # gone, broken or silent, or another one was: nobody is sent there

    def _open(self, engine: EngineObservation, spec: ModelSpec, awake: Awake) -> None:
        probe = self._observer.probes.get(engine.engine_id)
        if probe is None:
            return
        process = probe.engine
        endpoint = Endpoint(
            engine_id=engine.engine_id, host=process.host, port=process.port, served_name=spec.served_name,
            api_key=process.key, far=process.is_far,
        )  # fmt: skip
        self._board.open(
            engine.model, endpoint, max_concurrency=spec.max_concurrency, woken=probe.wakes > 0,
            replica_of=spec.replica_of,
        )  # fmt: skip
        self._learn(engine, spec, awake)

    def _served(self, name: str) -> str:
        """The model whose replica has this name."""
        spec = self._catalog.replicas.get(name)
        return name if spec is None else spec.served_name

    def _room_in_s(self, decision: Decision) -> float | None:
        """When a model that displaces nobody may find its room free; None: nobody can tell, or never."""
        if decision.reason is not Reason.WOULD_EVICT:
            return None
        now = self._clock()
        return rests_in_s(self.desired(), self.snapshot(now), now)

    def outlook(self, model: str) -> Outlook:
        """When `model` would be ready for one who asks now. Worked out anew twice a second at most."""
        now = self._clock()
        known = self._outlooks.get(model)
        if known is None or now >= known[0] + OUTLOOK_HOLDS_S:
            desired, snapshot = self.desired(), self.snapshot(now)
            demand = desired.demand_of(model)
            if not demand.waiting:
                asked = replace(demand, waiting=1, oldest_waiting_at=now)
                desired = replace(desired, demand={**desired.demand, model: asked})
            known = now, outlook(desired, snapshot, plan(desired, snapshot, now), model, now)
            self._outlooks[model] = known
        return known[1]

    def _learn(self, engine: EngineObservation, spec: ModelSpec, awake: Awake) -> None:
        """What a start that went well has taught, once per engine. An adopted one started before our time."""
        probe = self._observer.probes.get(engine.engine_id)
        if probe is None or engine.engine_id in self._learned:
            return
        self._learned = {engine.engine_id, *self._learned} & self._observer.probes.keys()
        if not probe.engine.adopted:
            load_s = round(awake.ready_at - engine.started_at, 3)
            self._profiles.note(spec, load_s=load_s)
            self.tally.took(spec.model, Verb.START, load_s)
            self._events.record("loadDone", f"took {load_s:.2f} s", model=spec.model)
        learned = probe.learned
        if learned.weights_bytes is not None:
            self._profiles.note(spec, weights_bytes=learned.weights_bytes * spec.device_count)
        if learned.fixed_bytes is not None:
            self._profiles.note(spec, fixed_bytes=learned.fixed_bytes)
        if learned.supported_tasks:
            self._profiles.note(spec, supported_tasks=learned.supported_tasks)

    def _is_settled(self, engine: EngineObservation) -> bool:
        """No operation under way on it; a wake has happened by the time its engine is seen awake."""
        operation = self.actuator.operations.get(engine.engine_id) if self.actuator else None
        return operation is None or operation.verb is Verb.WAKE

    def _act(self, decision: Decision, engine: EngineObservation | None, desired: DesiredState, now: float) -> None:
        if self.actuator is None or self.plan is None or decision.action is None:
            return
        begun = self.actuator.carry_out(
            decision.action,
            spec=self._catalog.replicas.get(decision.model),
            footprint=self._catalog.footprints.get(decision.model),
            policy=self._watch.current.policy,
        )
        if begun:
            self.tally.begun(decision, decision.action, self.plan, _cause(desired, self._served(decision.model)))
        if not begun or engine is None:
            return
        if decision.reason in _TAKEN_DOWN:
            self._board.give_up(engine.engine_id)
        if decision.reason in CRASHES:
            probe = self._observer.probes.get(engine.engine_id)
            loaded = probe is not None and probe.was_ready
            self.crashed(
                decision.model, decision.message, up_s=_up_s(engine, now), loaded=loaded, failed_as=engine.spec_hash,
                reason=decision.reason,
            )  # fmt: skip
        elif decision.reason is Reason.SPEC_CHANGED and isinstance(engine.state, Awake):
            self._wishes.wish(
                self._served(decision.model), WantReady(at=now)
            )  # what was ready comes back with its new settings

    def forgive(self, model: str) -> None:
        """The pause after a failure is over, of all its replicas."""
        self.crashes = {name: crashes for name, crashes in self.crashes.items() if self._served(name) != model}

    def crashed(
        self, model: str, cause: str, *, up_s: float = 0.0, loaded: bool = False, failed_as: str | None = None,
        reason: str = "StartFailed",
    ) -> None:  # fmt: skip
        """Who waits for a load that failed is told at once. An engine that had been ready (`loaded`) is started anew,
        and who waits for that waits on, as do those who come later.
        """
        crashes = after_crash(self.crashes.get(model), now=self._clock(), up_s=up_s, cause=cause)
        self.crashes[model] = crashes
        if (spec := self._catalog.replicas.get(model)) is not None:
            self._failed_as[model] = spec.spec_hash if failed_as is None else failed_as
        self._events.record("Crashed", cause, model=model, warning=True)
        self.tally.failed(model, reason, was_ready=loaded)
        served = self._served(model)
        if loaded or self._board.is_open(served):  # then they wait for another replica
            return
        self._wishes.failed(served)
        retry = delay_s(crashes.count)
        message = f"The engine of {served} failed: {cause}"
        self._board.fail_waiters(
            served, Failure(status=503, code="engine_failed", message=message, retry_after_s=retry)
        )  # fmt: skip

    def _say(self, decision: Decision) -> None:
        """An event for every new reason, and for every action."""
        said = decision.reason, type(decision.action).__name__
        if self._said.get(decision.model) == said:
            return
        first = decision.model not in self._said
        self._said[decision.model] = said
        if decision.action is not None or not (first and decision.reason is Reason.NOT_WANTED):
            self._events.record(decision.reason, decision.message, model=decision.model, warning=decision.refused)


def _code(reason: Reason) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in reason).lstrip("_")


def _cause(desired: DesiredState, model: str) -> Cause:
    """Why it is wanted, if it is."""
    if desired.demand_of(model).waiting:
        return Cause.REQUEST
    return Cause.OPERATOR if isinstance(desired.overrides.get(model), WantReady) else Cause.PIN


def _up_s(engine: EngineObservation, now: float) -> float:
    """How long it had been up when it failed, as far as can be told."""
    return now - engine.started_at
