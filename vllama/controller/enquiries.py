"""Questions that people ask: whose memory it is, what a model is and takes, what would happen if. Nothing is changed.

Both states are taken on the event loop, where nothing changes under it; what may take long is worked out in a thread.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from vllama.controller.card import Command, LevelVerdict, ModelCard, failures, lately, levels, running, supposed
from vllama.controller.catalog import Catalog
from vllama.controller.describe import Description, demand_state, engine_state, gathered
from vllama.controller.events import Events
from vllama.controller.figures import Figures, figures_of
from vllama.controller.histogram import Histogram
from vllama.controller.history import History
from vllama.controller.loop import Loop
from vllama.controller.manifest.effective import effective
from vllama.controller.measures import Measures, measures_of
from vllama.controller.profiles import Profiles
from vllama.controller.report import statuses
from vllama.controller.supposed import Foreseen, Supposed
from vllama.controller.why import Why, why
from vllama.domain.action import Start
from vllama.domain.decision import Decision, Plan
from vllama.domain.demand import Override
from vllama.domain.desired import DesiredState
from vllama.domain.observed import EngineObservation, Footprint, Snapshot
from vllama.domain.spec import ModelSpec
from vllama.planner import plan
from vllama.planner.books import Books, books_of
from vllama.planner.outlook import Outlook, outlooks
from vllama.planner.project import settle
from vllama.planner.rehearse import Rehearsal, rehearse, rehearse_wish
from vllama.planner.suppose import changed, start_of
from vllama.planner.together import Matrix, matrix_of
from vllama.planner.view import best_engines
from vllama.runtime.base import Runtime, RuntimeFailed


class Enquiries:
    def __init__(
        self,
        *,
        loop: Loop,
        catalog: Catalog,
        profiles: Profiles,
        events: Events,
        runtime: Runtime,
        history: History,
        clock: Callable[[], float],
    ) -> None:
        self._loop, self._catalog, self._profiles, self._history = loop, catalog, profiles, history
        self._events, self._runtime, self._clock = events, runtime, clock

    def _states(self) -> tuple[DesiredState, Snapshot, float]:
        now = self._clock()
        return self._loop.desired(), self._loop.snapshot(now), now

    def memory(self) -> Books:
        desired, snapshot, _ = self._states()
        return books_of(desired, snapshot)

    def figures(self) -> Sequence[Figures]:
        desired, snapshot, _ = self._states()
        return [
            figures_of(model, desired, snapshot, self._profiles.of(spec))
            for model, spec in sorted(desired.models.items())
        ]

    async def measures(self, lags: Histogram) -> Measures:
        desired, snapshot, now = self._states()
        return await asyncio.to_thread(measures_of, desired, snapshot, self._loop.tally.copy(now), lags)

    async def plans(self, *, settled: bool) -> Sequence[Plan]:
        desired, snapshot, now = self._states()
        if not settled:
            return (plan(desired, snapshot, now),)
        return await asyncio.to_thread(settle, desired, snapshot, now)

    async def rehearse(self, models: Sequence[str]) -> Rehearsal:
        return await asyncio.to_thread(rehearse, *self._states(), models)

    async def rehearse_wish(self, model: str, wish: Override) -> Rehearsal:
        return await asyncio.to_thread(rehearse_wish, *self._states(), model, wish)

    def outlooks(self) -> Mapping[str, Outlook]:
        """By the loop's latest plan, so that asking costs no other one."""
        desired, snapshot, now = self._states()
        made = self._loop.plan
        return {} if made is None else outlooks(desired, snapshot, made, now)

    async def matrix(self) -> Matrix:
        return await asyncio.to_thread(matrix_of, *self._states())

    async def suppose(self, wish: Supposed) -> Foreseen:
        """What would be done if models.yaml said this."""
        known = self._catalog.models.get(wish.model)
        spec = wish.over(known or ModelSpec(model=wish.model))
        footprint = await self._footprint(spec, known)
        desired, snapshot, now = self._states()
        then = changed(desired, snapshot, now, spec, footprint)
        start = await asyncio.to_thread(start_of, *then, now, spec.model)
        before = None
        if known is not None and known.model in desired.models:
            before = figures_of(known.model, desired, snapshot, self._profiles.of(known))
        return Foreseen(
            plans=await asyncio.to_thread(settle, *then, now),
            anyway=await asyncio.to_thread(settle, desired, snapshot, now),
            start=start, before=before, after=figures_of(spec.model, *_unstarted(*then, spec), self._profiles.of(spec)),
        )  # fmt: skip

    async def _footprint(self, spec: ModelSpec, known: ModelSpec | None) -> Footprint | None:
        if known is not None and known.spec_hash == spec.spec_hash:
            return self._catalog.footprints.get(spec.model)
        try:
            return await self._runtime.footprint(spec)
        except (OSError, ValueError):
            return None

    async def why(self, spec: ModelSpec) -> Sequence[Why]:
        desired, snapshot, now = self._states()
        names = sorted(
            (name for name, each in desired.models.items() if each.served_name == spec.served_name),
            key=lambda name: desired.models[name].replica,
        )
        kept = [self._history.decisions_of(name) for name in names]
        return await asyncio.to_thread(why, desired, snapshot, now, names, kept)

    async def show(self, spec: ModelSpec) -> ModelCard:
        desired, snapshot, now = self._states()
        model, profile = spec.model, self._profiles.of(spec)
        wall_minus_clock = time.time() - now
        said = self._loop.reasons.plan(desired, snapshot)
        every = statuses(desired, snapshot, said, wall_minus_clock=wall_minus_clock)
        engine = best_engines(snapshot).get(model)
        tasks = self._catalog.tasks(model)
        decision = await asyncio.to_thread(start_of, desired, snapshot, now, model)
        return ModelCard(
            status=next(status for status in every if status.model == model),
            settings=effective(spec),
            figures=figures_of(model, desired, snapshot, profile),
            levels=self._levels(desired, snapshot, spec, engine, decision),
            engine=running(engine, spec.spec_hash, wall_minus_clock=wall_minus_clock),
            tasks=None if tasks is None else tuple(sorted(tasks)),
            command=await self._command(spec, engine, decision),
            failures=failures(snapshot.crashes.get(model), now, wall_minus_clock=wall_minus_clock),
            lately=lately(self._events, model),
            log=str(self._runtime.log_of(model)),
        )

    async def describe(self, spec: ModelSpec) -> Description:
        card = await self.show(spec)
        desired, snapshot, now = self._states()
        wall_minus_clock = time.time() - now
        said = self._loop.reasons.plan(desired, snapshot)
        every = statuses(desired, snapshot, said, wall_minus_clock=wall_minus_clock)
        own = [status for status in every if (status.replica_of or status.model) == spec.served_name]
        return Description(
            card=card, demand=demand_state(desired, own, spec.served_name, now),
            engines=tuple(
                engine_state(
                    status, self._history.changes_of(status.model),
                    failures(snapshot.crashes.get(status.model), now, wall_minus_clock=wall_minus_clock),
                )
                for status in own
            ),
            events=gathered(self._events, spec.served_name),
        )  # fmt: skip

    def _levels(
        self,
        desired: DesiredState,
        snapshot: Snapshot,
        spec: ModelSpec,
        engine: EngineObservation | None,
        decision: Decision,
    ) -> tuple[LevelVerdict, ...]:
        action, now = decision.action, snapshot.taken_at
        if engine is None and isinstance(action, Start):
            engine = supposed(spec.model, action.node, action.devices, action.memory_bytes, now)
        if engine is None and snapshot.nodes:
            engine = supposed(spec.model, snapshot.nodes[0].name, (), 0, now)
        return () if engine is None else levels(desired, snapshot, spec.model, self._profiles.of(spec), engine)

    async def _command(self, spec: ModelSpec, engine: EngineObservation | None, decision: Decision) -> Command:
        if not isinstance(decision.action, Start):
            return Command(problem=decision.message)
        port = spec.launch.port if engine is None else engine.port
        try:
            seen = await self._runtime.preview(spec, decision.action, port=port)
        except RuntimeFailed as failed:
            return Command(problem=str(failed))
        return Command(argv=seen.argv, env=seen.env)


def _unstarted(desired: DesiredState, snapshot: Snapshot, spec: ModelSpec) -> tuple[DesiredState, Snapshot]:
    """Without engines of other settings than these: what those take says nothing of it."""
    kept = tuple(e for e in snapshot.engines if e.model != spec.model or e.spec_hash == spec.spec_hash)
    return desired, replace(snapshot, engines=kept)
