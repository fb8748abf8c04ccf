"""The servers of models.yaml as a whole: kept, named, and told of. What the controller has of them."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import httpx

from vllama.controller.condition import Condition
from vllama.controller.events import Events
from vllama.controller.manifest import ManifestWatch
from vllama.controller.names import Names
from vllama.controller.servers.fleet import Fleet
from vllama.controller.servers.keeper import Keeper
from vllama.controller.servers.status import ServerStatus, statuses_of
from vllama.domain.spec import ModelSpec
from vllama.domain.status import ModelStatus, Phase


class Servers:
    def __init__(
        self,
        *,
        fleet: Fleet,
        watch: ManifestWatch,
        http: httpx.AsyncClient | None,
        clock: Callable[[], float],
        events: Events,
    ) -> None:
        """`http` None: nobody is asked for models."""
        self._fleet, self._watch, self._clock = fleet, watch, clock
        self._keeper = Keeper(fleet=fleet, http=http, clock=clock, events=events) if http is not None else None
        self._generation = 0
        self._names = Names([])
        self._names_of: tuple[object, int] = (None, -1)

    def apply(self) -> None:
        """What the file says now."""
        manifest = self._watch.current
        if self._generation == self._watch.generation:
            return
        self._generation = self._watch.generation
        self._fleet.apply(manifest.servers, manifest.balance)
        if self._keeper is not None:
            self._keeper.changed()

    async def start_up(self) -> None:
        self.apply()
        if self._keeper is not None:
            await self._keeper.first_look()

    async def run(self) -> None:
        if self._keeper is not None:
            await self._keeper.run()
        else:
            await asyncio.Event().wait()

    def names(self, here: Mapping[str, ModelSpec]) -> Names:
        """Of all models: what a name means here, it means nowhere else."""
        before, revision = self._names_of
        if before is not here or revision != self._fleet.revision:
            taken = {name for spec in here.values() for name in names_of(spec)}
            self._names = Names([*here.values(), *self._fleet.specs(taken)])
            self._names_of = here, self._fleet.revision
        return self._names

    def statuses(self) -> Sequence[ServerStatus]:
        return statuses_of(self._fleet.servers.values(), wall_minus_clock=time.time() - self._clock())

    def with_theirs(self, here: Sequence[ModelStatus], models: Mapping[str, ModelSpec]) -> Sequence[ModelStatus]:
        """The models here with the servers that have them, too, and those that only servers have."""
        fleet = self._fleet
        if not fleet.servers:
            return here
        self.names(models)  # decides which are only theirs
        taken = {name for spec in models.values() for name in names_of(spec)}
        only = [self._status(spec) for spec in fleet.specs(taken)]
        return sorted((*(self._joined(status) for status in here), *only), key=lambda status: status.model)

    def condition(self) -> Condition | None:
        """None where there are no servers."""
        servers = self._fleet.servers.values()
        if not servers:
            return None
        wrong = [f"{server.url}: {why}." for server in servers if (why := server.health.wrong) is not None]
        if wrong:
            return Condition(type="ServersWell", ok=False, reason="Unwell", message="\n".join(wrong))
        return Condition(type="ServersWell", ok=True, reason="Answered", message="All servers take requests.")

    # inside

    def _joined(self, status: ModelStatus) -> ModelStatus:
        fleet, model = self._fleet, status.model
        having = fleet.having(model)
        if not having:
            return status
        urls = tuple(server.url for server in having)
        return replace(status, servers=urls, in_flight=status.in_flight + fleet.use_of(model).in_flight)

    def _status(self, spec: ModelSpec) -> ModelStatus:
        fleet, model = self._fleet, spec.model
        having = fleet.having(model)
        well = [server for server in having if server.health.wrong is None]
        use = fleet.use_of(model)
        return ModelStatus(
            model=model,
            phase=Phase.READY if well else Phase.LOST,
            reason="OnServers",
            message=f"{len(well)} of {len(having)} servers that have it take requests.",
            declared=True,
            aliases=spec.aliases,
            in_flight=use.in_flight,
            waiting=fleet.waiting(model),
            last_used=None if use.last_at is None else use.last_at + time.time() - self._clock(),
            servers=tuple(server.url for server in having),
        )


def names_of(spec: ModelSpec) -> tuple[str, ...]:
    return (spec.model, *spec.aliases, *(adapter for adapter, _ in spec.lora))
