"""A house in which something goes wrong, and the clients who go on asking meanwhile."""

import asyncio
import contextlib
import copy
import random
import time
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.faults.clients import NEVER, Asking, Kind, Outcome, ask
from tests.faults.house import BASE, RIVAL, STEADY, STREAMING, VICTIM, House
from tests.waiting import async_wait_until

ONLY_WHOLE = frozenset({Kind.WHOLE})
ENDED = frozenset({Kind.WHOLE, Kind.TOLD, Kind.BROKE_OFF})  # each of them tells its client all there is to know
CUT_OFF = ENDED | {Kind.CUT}  # a plain answer that is shorter than announced: nothing better can be done
NO_SERVER = CUT_OFF | {Kind.REFUSED}
BYSTANDERS: frozenset[Kind] = frozenset()  # what `bystanders_may` says when the answer is there


class Scene:
    """`dice` decides every moment and number. `outcomes` is what became of each request that was ever made here."""

    def __init__(self, house: House, seed: int) -> None:
        self.house, self.dice = house, random.Random(seed)
        self.outcomes: list[Outcome] = []
        self.unexpected: list[str] = []
        self.bystanders_may: Collection[Kind] = ONLY_WHOLE
        self.asked_again = False  # who heard nothing from a hung engine may be sent to the next one
        self.notes: dict[str, float] = {}  # figures for whoever counts
        self.troubles = 0
        self._clients: set[asyncio.Task[Outcome]] = set()
        self._http = httpx.AsyncClient(trust_env=False, timeout=30)
        self._load: list[asyncio.Task[None]] = []
        self._leaving = asyncio.Event()

    # clients

    def ask(
        self, model: str = VICTIM, *, may: Collection[Kind] = ONLY_WHOLE, url: str | None = None, **how: Any
    ) -> asyncio.Task[Outcome]:
        """A client of its own. Whatever is not among `may` is a failure of the situation."""
        asking = Asking(request_id=self.house.next_id(), model=model, **how)
        task = asyncio.create_task(self._ask(url or self.house.up.url, asking, may), name=model)
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)
        return task

    async def answer(self, model: str = VICTIM, **how: Any) -> Outcome:
        return await self.ask(model, **how)

    async def told(self, model: str = VICTIM, **how: Any) -> Outcome:
        """Who is to hear why it cannot be."""
        return await self.ask(model, may={Kind.TOLD}, **how)

    def ask_many(self, count: int, model: str = VICTIM, **how: Any) -> list[asyncio.Task[Outcome]]:
        """Streams and plain requests by turns."""
        return [self.ask(model, stream=bool(number % 2), **how) for number in range(count)]

    async def _ask(self, url: str, asking: Asking, may: Collection[Kind]) -> Outcome:
        began = time.monotonic()
        try:
            outcome = await ask(url, asking)
        except asyncio.CancelledError:
            self.outcomes.append(Outcome(
                request_id=asking.request_id, model=asking.model, kind=Kind.LEFT, began=began, ended=time.monotonic()
            ))  # fmt: skip
            raise
        self.outcomes.append(outcome)
        if outcome.kind in NEVER or outcome.kind not in (self.bystanders_may if may is BYSTANDERS else may):
            self.unexpected.append(str(outcome))
        return outcome

    async def all_answered(self) -> None:
        await asyncio.gather(*self._clients)

    # the common load

    @asynccontextmanager
    async def under_load(self) -> AsyncIterator[None]:
        """Two models that have nothing to do with the fault: plain requests to the one, streams from the other."""
        self._load = [
            asyncio.create_task(self._go_on_asking(STEADY, stream=False)),
            asyncio.create_task(self._go_on_asking(STREAMING, stream=True)),
        ]
        try:
            yield
        finally:
            self._leaving.set()
            await asyncio.gather(*self._load)

    async def _go_on_asking(self, model: str, *, stream: bool) -> None:
        while not self._leaving.is_set():
            if self.house.is_up:
                url = self.house.up_or_ended.url  # it may end between two looks at it
                await self.ask(model, may=BYSTANDERS, url=url, stream=stream, tokens=self.dice.randint(1, 12))
            try:
                async with asyncio.timeout(self.dice.uniform(0.03, 0.2)):
                    await self._leaving.wait()
            except TimeoutError:
                continue

    async def others_serve(self, since: float | None = None) -> None:
        """Until both had a whole answer to a question that was asked after `since`."""
        since = time.monotonic() if since is None else since

        def so() -> bool:
            good = (each for each in reversed(self.outcomes) if each.kind is Kind.WHOLE and each.began >= since)
            return {STEADY, STREAMING} <= {each.model for each in good}

        await self.until(so, what="the other models to serve")

    # faults

    @asynccontextmanager
    async def trouble(self, lift: Callable[[], object] = lambda: None) -> AsyncIterator[None]:
        """While inside, something is wrong. Before `lift` the others must have been served in spite of it."""
        began = time.monotonic()
        self.troubles += 1
        try:
            yield
            await self.others_serve(began)
        finally:
            lift()

    @asynccontextmanager
    async def faulty(self, faults: str, *, env: dict[str, str] | None = None, **settings: Any) -> AsyncIterator[None]:
        """While inside, engines of the victim have these bad manners. It is stopped at first, and well afterwards."""
        await self.stop(VICTIM)
        played = {"VLLAMA_SIM_FAULTS": faults, "PLAYED": self.house.next_id()}  # nothing was ever learned of it
        await self.configure(VICTIM, env=played | (env or {}), **settings)
        async with self.trouble():
            yield
        await self.restore()

    async def configure(self, model: str, **settings: Any) -> None:
        """models.yaml says this of `model`, and vllama has read it."""
        config = copy.deepcopy(BASE)
        config["models"][model].update(settings)
        await self.apply(config)

    async def apply(self, config: dict[str, Any]) -> None:
        await asyncio.to_thread(self.house.write, config)
        reloaded = (await self.post("/admin/reload")).json()
        wrong = [
            each["message"] for each in reloaded["conditions"] if each["type"] == "ManifestValid" and not each["ok"]
        ]
        assert not wrong, wrong

    async def restore(self) -> None:
        await self.apply(BASE)

    async def moment(self, longest_s: float = 0.5) -> None:
        """Not to wait for anything: the moment of what comes next is drawn."""
        await asyncio.sleep(self.dice.uniform(0.0, longest_s))

    # what vllama says, and what it is told

    async def get(self, path: str) -> httpx.Response:
        return await self._http.get(f"{self.house.up.url}{path}")

    async def post(self, path: str, **how: Any) -> httpx.Response:
        return await self._http.post(f"{self.house.up.url}{path}", **how)

    async def status(self, model: str = VICTIM) -> dict[str, Any]:
        return next(each for each in (await self.get("/admin/status")).json()["models"] if each["model"] == model)

    async def conditions(self) -> dict[str, bool]:
        return {each["type"]: each["ok"] for each in (await self.get("/admin/status")).json()["conditions"]}

    async def start(self, model: str = VICTIM) -> None:
        """An operator who thinks that it will work now."""
        await self.post(f"/admin/models/{model}/start")

    async def stop(self, model: str = VICTIM) -> None:
        await self.post(f"/admin/models/{model}/stop")
        await self.until_it_is("Stopped", model)

    async def sleep(self, model: str = VICTIM, level: int = 1) -> None:
        await self.post(f"/admin/models/{model}/sleep", json={"level": level})

    async def until_it_is(self, phase: str, model: str = VICTIM, deadline_s: float = 60) -> dict[str, Any]:
        async def so() -> dict[str, Any] | None:
            status = await self.status(model)
            return status if status["phase"] == phase else None

        found = await async_wait_until(so, deadline_s=deadline_s, what=f"{model} to be {phase}")
        assert found is not None
        return found

    async def until(self, so: Callable[[], object], *, deadline_s: float = 60, what: str) -> None:
        async def asked() -> object:
            return so()

        await async_wait_until(asked, deadline_s=deadline_s, what=what)

    async def pids(self, model: str = VICTIM) -> tuple[int, list[int]]:
        """Its API server, and the rest of its processes."""
        leader = (await self.status(model))["pid"]
        engines = await asyncio.to_thread(self.house.up.engines)
        ids = {pid: each.sid for pid, each in engines.items()}
        return leader, [pid for pid, sid in ids.items() if sid == leader and pid != leader]

    async def hurried(self, model: str = VICTIM) -> None:
        """An operator ends the pause that a failure earned, as long as somebody waits."""

        async def nobody_waits() -> bool:
            status = await self.status(model)
            if status["reason"] == "BackingOff":
                await self.start(model)
            return not any(each.get_name() == model for each in self._clients)

        await async_wait_until(nobody_waits, deadline_s=60, what=f"all who wait for {model}")

    async def swap(self) -> None:
        """The victim makes room for its rival, which gives it back."""
        await self.answer(RIVAL)

    async def raw(self, data: bytes, *, deadline_s: float = 20) -> bytes:
        """All that comes back for these bytes on a connection of their own, up to its end."""
        host, _, port = self.house.up.url.removeprefix("http://").partition(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            async with asyncio.timeout(deadline_s):
                with contextlib.suppress(OSError):  # it may be answered before it is all sent
                    writer.write(data)
                    await writer.drain()
                try:
                    return await reader.read()
                except OSError:
                    return b""
        finally:
            writer.transport.abort()

    async def close(self) -> None:
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        await self._http.aclose()
