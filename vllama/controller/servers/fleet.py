"""All servers: which gets the next request, and who waits until one has room.

Everything happens on the event loop, so every method is one atomic step.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from vllama.controller.demand import Endpoint, Failure, Found, Grant, Waiter, WaitFailed
from vllama.controller.manifest.servers import BalanceSpec, ServerSpec
from vllama.controller.servers.health import Health
from vllama.controller.servers.server import Server
from vllama.domain.spec import ModelSpec
from vllama.planner.balance import choose

LOAD_EVERY_S = 1.0  # while requests come; nobody is asked for its load when none do
_HIT, _QUEUED = Found.HIT, Found.QUEUED  # in Python 3.11 a member of an enum costs more than a call


@dataclass(slots=True, eq=False)
class Queued:
    """`engine_id`: no other server will do."""

    model: str
    engine_id: str | None
    waiter: Waiter


@dataclass(slots=True, eq=False)
class Use:
    """Of one model, at all servers together."""

    in_flight: int = 0
    last_at: float | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Place:
    """A model at a server: all that a request for it needs to know."""

    server: Server
    endpoint: Endpoint
    use: Use


class Fleet:
    def __init__(self, *, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.balance = BalanceSpec()
        self.servers: dict[str, Server] = {}  # by URL, in the order of the file
        self.revision = 0  # of names: counts whenever there may be others
        self.only: frozenset[str] = frozenset()  # models that nobody but servers has
        self.waiting_here = 0  # for an engine here; the board counts them
        self.on_room: Callable[[Collection[str]], None] = lambda _: None  # for those who wait for an engine here
        self._having: dict[str, list[Place]] = {}  # by model
        self._uses: dict[str, Use] = {}  # by model
        self._queue: dict[Queued, None] = {}  # in order of arrival
        self._shut: Failure | None = None

    # what the file and the keeper say

    def apply(self, specs: Iterable[ServerSpec], balance: BalanceSpec) -> None:
        """Those that stay keep what is known of them; what is under way at one that goes, goes on."""
        before, self.servers, self.balance = self.servers, {}, balance
        for spec in specs:
            server = before.get(spec.url) or self._new(spec, balance)
            if server.spec is not spec or server.balance is not balance:
                server.apply(spec, balance)
                server.doubt()
            self.servers[spec.url] = server
        self._index()

    def found(self, server: Server, models: tuple[str, ...]) -> None:
        server.models_at = self.clock()
        if models != server.models:
            server.models = models
            self._index()

    def review(self) -> None:
        """How a server is has changed: some who wait get their turn, and some wait in vain."""
        self.pour(self._having)
        now = self.clock()
        for queued in list(self._queue):
            if not self._may_be_taken(queued.model, queued.engine_id, now):
                self._fail(queued, self._nobody(queued.model))

    def specs(self, taken: Collection[str]) -> tuple[ModelSpec, ...]:
        """Of the models that nobody but servers has, for the names. What is in `taken` means a model here."""
        aliases: dict[str, set[str]] = {}
        for server in self.servers.values():
            for alias, model in server.spec.aliases:
                if alias not in taken:
                    aliases.setdefault(model, set()).add(alias)
        specs = tuple(
            ModelSpec(
                model=model, aliases=tuple(sorted(aliases.get(model, ()))), declared=False,
                max_queue=self.balance.queue, queue_timeout_s=self.balance.queue_timeout_s,
            )
            for model in self._having
            if model not in taken
        )  # fmt: skip
        self.only = frozenset(spec.model for spec in specs)
        return specs

    # what the board does

    def has(self, model: str) -> bool:
        return model in self._having

    def has_engine(self, engine_id: str) -> bool:
        return any(server.engine_id == engine_id for server in self.servers.values())

    def having(self, model: str) -> tuple[Server, ...]:
        return tuple(place.server for place in self._having.get(model, ()))

    def waiting(self, model: str) -> int:
        return sum(queued.model == model for queued in self._queue)

    @property
    def is_busy(self) -> bool:
        return any(use.in_flight for use in self._uses.values())

    def use_of(self, model: str) -> Use:
        return self._uses.get(model) or self._uses.setdefault(model, Use())

    def admit(self, model: str, engine_id: str | None = None) -> Grant | None:
        """At once, or None. Nobody overtakes those who wait for the same model."""
        having = self._having.get(model)
        if having is None or self._shut is not None or (self._queue and self.waiting(model)):
            return None
        return self._grant(having if engine_id is None else self._fit(model, engine_id), since=None)

    def again(self, model: str, tried: Collection[str]) -> Grant | None:
        """For a request that `tried` (engine ids) have failed; None: they were enough, or there is no other."""
        if len(tried) > self.balance.max_retries or self._shut is not None:
            return None
        others = [place for place in self._fit(model, None) if place.endpoint.engine_id not in tried]
        return self._grant(others, since=None)

    async def wait(self, model: str, *, max_queue: int, timeout_s: float, engine_id: str | None = None) -> Grant:
        """Raises WaitFailed: nobody who has it is well, too many wait, or it took too long."""
        if self._shut is not None:
            raise WaitFailed(self._shut)
        if (grant := self.admit(model, engine_id)) is not None:
            return grant
        now = self.clock()
        if not self._may_be_taken(model, engine_id, now):
            raise WaitFailed(self._nobody(model))
        if (waiting := self.waiting(model)) >= max_queue:
            message = (
                f"Every server of {model!r} has as many requests as its max_concurrent_requests allows, and {waiting} "
                f"wait already (queue: {max_queue})."
            )
            raise WaitFailed(Failure(status=429, code="queue_full", message=message, retry_after_s=5.0))
        waiter = Waiter(since=now, granted=asyncio.get_running_loop().create_future())
        queued = Queued(model=model, engine_id=engine_id, waiter=waiter)
        self._queue[queued] = None
        try:
            async with asyncio.timeout(timeout_s):
                return await self._granted(queued)
        except TimeoutError:
            message = f"No server of {model!r} had room within {timeout_s:.0f} s (queue_timeout)."
            raise WaitFailed(Failure(status=503, code="queue_timeout", message=message, retry_after_s=30.0)) from None

    def shut(self, failure: Failure) -> None:
        self._shut = failure
        for queued in list(self._queue):
            self._fail(queued, failure)

    def pour(self, models: Collection[str]) -> None:
        """There may be room for `models`. Who waits gets what is free, in order of arrival."""
        if self._queue:
            self._pour()
        self.on_room(models)

    # inside

    def _new(self, spec: ServerSpec, balance: BalanceSpec) -> Server:
        return Server(spec=spec, balance=balance, health=Health(balance=balance), clock=self.clock)

    def _pour(self) -> None:
        full: set[tuple[str, str | None]] = set()
        for queued in list(self._queue):
            key = queued.model, queued.engine_id
            if key in full:
                continue
            grant = self._grant(self._fit(*key), since=queued.waiter.since)
            if grant is None:
                full.add(key)
                continue
            del self._queue[queued]
            if queued.waiter.granted.done():
                grant.release()
            else:
                queued.waiter.granted.set_result(grant)

    def _index(self) -> None:
        self._having = {}
        for server in self.servers.values():
            for model in server.models:
                place = Place(server, server.endpoint(model), self.use_of(model))
                self._having.setdefault(model, []).append(place)
        self.revision += 1

    def _fit(self, model: str, engine_id: str | None) -> list[Place]:
        having = self._having.get(model, [])
        return having if engine_id is None else [place for place in having if place.endpoint.engine_id == engine_id]

    def _may_be_taken(self, model: str, engine_id: str | None, now: float) -> bool:
        return any(place.server.health.may_take(now) for place in self._fit(model, engine_id))

    def _grant(self, places: Sequence[Place], *, since: float | None) -> Grant | None:
        now = self.clock()
        place = self._alone(places[0], now) if len(places) == 1 else self._least_loaded(places, now)
        if place is None:
            return None
        server, use = place.server, place.use
        health = server.health
        tries = health.failures > 0 and health.half_open
        if tries:
            health.trying = True
        server.in_flight += 1
        server.last_chosen_at = now
        use.in_flight += 1
        return Grant(
            endpoint=place.endpoint, waited_s=0.0 if since is None else now - since,
            found=_HIT if since is None else _QUEUED, give_back=self._give_back, server=server, use=use, tries=tries,
        )  # fmt: skip

    def _give_back(self, grant: Grant) -> None:
        server, use = grant.server, grant.use
        if server is None or use is None:
            raise AssertionError("not granted here")
        server.in_flight -= 1
        use.in_flight -= 1
        use.last_at = self.clock()
        if grant.tries:
            server.health.trying = False
            self.review()
        elif self._queue or self.waiting_here:
            self.pour(server.models)

    def _alone(self, place: Place, now: float) -> Place | None:
        """Nothing is to be weighed, most often, and that is for each request."""
        server = place.server
        if server.in_flight >= server.spec.max_concurrent_requests or not server.health.takes(now):
            return None
        if server.load_at is None or now - server.load_at > LOAD_EVERY_S:
            server.look.ring()
        return place

    def _least_loaded(self, places: Sequence[Place], now: float) -> Place | None:
        well = {place.server.url: place for place in places if place.server.health.takes(now)}
        chosen = choose(place.server.candidate() for place in well.values())
        if chosen is None:
            return None
        for each in well.values():
            if each.server.load_at is None or now - each.server.load_at > LOAD_EVERY_S:
                each.server.look.ring()
        return well[chosen]

    def _nobody(self, model: str) -> Failure:
        having = self.having(model)
        why = "; ".join(f"{server.url}: {server.health.wrong or 'it is at its limit'}" for server in having)
        message = f"No server can take a request for {model!r} now ({why or 'none has it any more'})."
        return Failure(status=503, code="no_server", message=message, retry_after_s=1.0)

    def _fail(self, queued: Queued, failure: Failure) -> None:
        self._queue.pop(queued, None)
        if not queued.waiter.granted.done():
            queued.waiter.granted.set_exception(WaitFailed(failure))

    async def _granted(self, queued: Queued) -> Grant:
        granted = queued.waiter.granted
        try:
            return await granted
        except BaseException:
            self._queue.pop(queued, None)
            if granted.done() and not granted.cancelled() and granted.exception() is None:
                granted.result().release()  # it no longer reached whoever waited
            raise
