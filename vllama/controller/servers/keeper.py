"""Asks every server for its models, its health and its load: at once, at intervals, and when something is doubtful."""

import asyncio
from collections.abc import Callable

import httpx

from vllama.controller.bell import Bell
from vllama.controller.events import Events
from vllama.controller.servers.fleet import LOAD_EVERY_S, Fleet
from vllama.controller.servers.health import Check
from vllama.controller.servers.server import Server
from vllama.engine.address import Address
from vllama.engine.client import EngineClient, EngineRefused, EngineUnanswered, Healthy, Refused, Unanswered, Unhealthy

SOON_S = 1.0  # until a server is asked again that is not well, doubling while it stays so
FIRST_LOOK_S = 2.0


class Keeper:
    """`run` until cancelled. It alone probes."""

    def __init__(self, *, fleet: Fleet, http: httpx.AsyncClient, clock: Callable[[], float], events: Events) -> None:
        self._fleet, self._client, self._clock, self._events = fleet, EngineClient(http), clock, events
        self._changed = Bell()
        self._said: dict[str, str | None] = {}

    def changed(self) -> None:
        """There may be other servers now."""
        self._changed.ring()

    async def first_look(self) -> None:
        """So that who calls right after the start finds the models of servers that answer at once."""
        looks = [asyncio.create_task(self._look(server)) for server in self._fleet.servers.values()]
        if looks:
            _, late = await asyncio.wait(looks, timeout=FIRST_LOOK_S)
            for look in late:
                look.cancel()

    async def run(self) -> None:
        kept: dict[str, tuple[Server, asyncio.Task[None]]] = {}
        async with asyncio.TaskGroup() as tasks:
            while True:
                there = self._fleet.servers
                for url, (server, task) in list(kept.items()):
                    if there.get(url) is not server:
                        task.cancel()
                        del kept[url]
                        self._said.pop(url, None)
                for url in there.keys() - kept.keys():
                    kept[url] = there[url], tasks.create_task(self._keep(there[url]), name=f"server {url}")
                await self._changed.wait(3600.0)

    async def _keep(self, server: Server) -> None:
        late = 0  # looks in a row that went wrong, or one that does not make up for those before
        while True:
            if server.health.checked_at is None or server.checks or late or self._is_due(server):
                server.checks = False
                await self._look(server)
                unwell = server.health.wrong is not None or not server.models
                late = max(1, server.health.failed_checks) if unwell else 0
            else:
                await self._read_load(server)
            due_s = server.balance.health_check_interval_s
            if late:
                await asyncio.sleep(min(SOON_S * 2 ** min(late - 1, 10), due_s))  # whatever happens there
            else:
                await server.look.wait(due_s)
            if not server.checks and not late and server.load_at is not None:
                await asyncio.sleep(max(0.0, min(due_s, server.load_at + LOAD_EVERY_S - self._clock())))

    def _is_due(self, server: Server) -> bool:
        at = server.health.checked_at
        return at is None or self._clock() - at >= server.balance.health_check_interval_s

    async def _look(self, server: Server) -> None:
        began = self._clock()
        try:
            wrong = await self._check(server)
        except Exception as error:  # noqa: BLE001  # whatever a stranger answers, the others are still asked
            wrong = f"it answers what cannot be read ({type(error).__name__}: {str(error)[:200]})"
        server.health.check(Check(took_s=self._clock() - began, wrong=wrong), self._clock())
        if wrong is None:
            await self._read_load(server)
        self._say(server)
        self._fleet.review()

    async def _check(self, server: Server) -> str | None:
        """What is wrong, as the end of a sentence. Not every OpenAI endpoint has /health, so /v1/models decides."""
        at, timeout_s = _address(server), server.balance.health_check_timeout_s
        match await self._client.health(at, timeout_s=timeout_s):
            case Unhealthy(status=status) if status >= 500:
                return f"/health answered {status}"
            case Refused():
                return "nobody listens there"
            case Unanswered(error=error):
                return error
            case Healthy() | Unhealthy():
                pass
        try:
            models = await self._client.served_models(at, timeout_s=timeout_s)
        except EngineRefused as error:
            return f"/v1/models answered {error.status}: {error.text[:200]}"
        except EngineUnanswered as error:
            return f"/v1/models: {error.error}"
        self._fleet.found(server, tuple(dict.fromkeys(name for name in models if _is_name(name))))
        return None

    async def _read_load(self, server: Server) -> None:
        try:
            load = await self._client.load(_address(server), timeout_s=server.balance.health_check_timeout_s)
        except Exception:  # noqa: BLE001  # not every OpenAI endpoint has metrics, and some have strange ones
            load = None
        server.told_load(load, self._clock())

    def _say(self, server: Server) -> None:
        """Once, when it changes."""
        wrong = server.health.unsound
        before = self._said.get(server.url, "")
        self._said[server.url] = wrong
        if wrong is not None and before in {None, ""}:
            self._events.record("ServerUnwell", f"{server.url}: {wrong}", warning=True)
        elif wrong is None and before is not None:
            self._events.record("ServerWell", f"{server.url} has {', '.join(server.models) or 'no models'}.")


def _address(server: Server) -> Address:
    return Address(base_url=server.url, key=server.spec.api_key)


def _is_name(name: str) -> bool:
    return 0 < len(name) <= 200 and name.isprintable()
