"""The whole state first, then what changes; and nobody who watches costs more than a frame."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from tests.gateway.house import FACTS, MODEL, SPEC, House, ListedControl, live
from tests.waiting import async_wait_until
from vllama.controller.condition import Condition
from vllama.domain.spec import Policy
from vllama.domain.status import Phase
from vllama.gateway import watch
from vllama.gateway.watch import EVENTS, Feed
from vllama.planner.outlook import Doing, Outlook


class Told:
    """The events of one stream, as they come; `words` are the comments."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer, self.words = answer, 0
        self._lines = answer.aiter_lines()

    async def next(self) -> tuple[str, dict[str, Any]]:
        name = ""
        async for line in self._lines:
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                return name, json.loads(line[6:])
            elif line.startswith(":"):
                self.words += 1
                return "", {}
        raise EOFError


@asynccontextmanager
async def watching(here: House, **headers: str) -> AsyncIterator[Told]:
    async with here.http.stream("GET", "/admin/watch", headers=headers) as answer:
        yield Told(answer)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("EVERY_S", 0.02), ("HELD_S", 0.0), ("LOOK_EVERY_S", 0.01)):
        monkeypatch.setattr(watch, name, value)


def test_the_whole_state_comes_first_and_then_what_changes() -> None:
    async def test(here: House) -> None:
        here.control.events.record("Idle", "before", model=MODEL)
        async with watching(here) as told:
            assert told.answer.headers["content-type"].startswith("text/event-stream")
            assert told.answer.headers["cache-control"] == "no-store"
            name, state = await told.next()
            assert name == "state"
            assert set(state) == {"about", "conditions", "memory", "servers", "models", "events"}
            assert state["about"] == {
                "version": "1.2.3", "started_at": "2025-06-15T15:06:40Z", "runs_on": FACTS.runs_on, "simulated": False,
            }  # fmt: skip
            [model] = state["models"]
            assert (model["model"], model["phase"], model["ready_at"], model["doing"]) == (MODEL, "Stopped", None, None)
            assert [event["message"] for event in state["events"]] == ["before"]
            assert "taken_at" not in state["memory"]

            here.control.phase = Phase.STARTING
            here.control.ready_in[MODEL] = Outlook(doing=Doing.LOADING, ready_in_s=30.0)
            name, change = await told.next()
            assert (name, set(change)) == ("change", {"models"})
            assert [(each["phase"], each["doing"]) for each in change["models"]] == [("Starting", "loading")]
            assert change["models"][0]["ready_at"]

            here.control.ready_in.clear()
            here.control.phase = Phase.STOPPED
            await told.next()
            here.control.events.record("Idle", "after")
            here.control.wrong.append(Condition(type="X", ok=False, reason="R", message="m"))
            change = (await told.next())[1]
            assert set(change) <= {"conditions", "events"}
            if len(change) == 1:
                change |= (await told.next())[1]
            assert [event["message"] for event in change["events"]] == ["after"]
            assert change["conditions"][-1]["type"] == "X"

    live(test)


def test_a_model_that_goes_is_named() -> None:
    async def test(here: House) -> None:
        async with watching(here) as told:
            await told.next()
            here.control.specs.clear()
            assert (await told.next())[1] == {"gone": [MODEL]}
            here.control.specs.append(SPEC)
            assert [each["model"] for each in (await told.next())[1]["models"]] == [MODEL]

    live(test)


def test_where_nothing_happens_there_is_a_word_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "QUIET_S", 0.03)

    async def test(here: House) -> None:
        async with watching(here) as told:
            await told.next()
            assert await told.next() == ("", {})
            assert told.words == 1

    live(test)


def test_it_ends_with_the_server() -> None:
    async def test(here: House) -> None:
        async with watching(here) as told:
            await told.next()
            here.control.events.close()
            with pytest.raises(EOFError):
                await told.next()

    live(test)


def test_only_so_many_may_watch_and_who_leaves_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "MOST_WATCHERS", 2)
    monkeypatch.setattr(watch, "QUIET_S", 0.03)

    async def test(here: House) -> None:
        async with watching(here) as first:
            await first.next()
            async with watching(here) as second:
                await second.next()
                refused = await here.http.get("/admin/watch")
                assert (refused.status_code, refused.json()["error"]["code"]) == (503, "too_many_watchers")
                assert refused.headers["retry-after"]

        async def let_in() -> bool:
            async with here.http.stream("GET", "/admin/watch") as again:
                return again.status_code == 200

        await async_wait_until(let_in, what="room for another")

    live(test)


def test_strangers_see_nothing() -> None:
    async def test(here: House) -> None:
        for headers in ({"origin": "http://evil.example"}, {"x-forwarded-for": "203.0.113.9"}):
            assert (await here.http.get("/admin/watch", headers=headers)).status_code == 403

    live(test)


def test_all_who_watch_share_a_frame_and_who_is_slow_skips_some(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a server: who reads only now and then is told of the state of that moment, once."""
    monkeypatch.setattr(watch, "HELD_S", 0.01)
    clock = [0.0]
    control = ListedControl(specs=[SPEC])
    looks: list[int] = []
    real: Callable[[], Any] = control.memory
    control.memory = lambda: looks.append(1) or real()  # type: ignore[method-assign, func-returns-value]
    feed = Feed(control, {"version": "1"}, clock=lambda: clock[0], wall=lambda: 0.0)

    async def run() -> None:
        slow, other = feed.follow(), feed.follow()
        await anext(slow)
        await anext(other)
        assert (len(looks), feed.watchers) == (1, 2)
        for number in range(EVENTS + 50):
            control.events.record("Idle", str(number))
            control.phase = Phase.STARTING if number % 2 else Phase.STOPPED
        waits = asyncio.create_task(anext(slow))  # type: ignore[arg-type]
        while not waits.done():
            clock[0] += 0.02
            await asyncio.sleep(0)
        said = json.loads((await waits).split(b"data: ")[1])
        assert [each["phase"] for each in said["models"]] == ["Starting"]
        assert len(said["events"]) == EVENTS + 50
        await slow.aclose()  # type: ignore[attr-defined]
        await other.aclose()  # type: ignore[attr-defined]
        assert feed.watchers == 0

    asyncio.run(run())


def test_what_happened_before_is_bounded() -> None:
    async def test(here: House) -> None:
        for number in range(EVENTS + 5):
            here.control.events.record("Idle", str(number))
        async with watching(here) as told:
            events = (await told.next())[1]["events"]
        assert (len(events), events[-1]["message"]) == (EVENTS, str(EVENTS + 4))

    live(test)


def test_who_reads_nothing_is_cut_off_and_the_others_are_told_on() -> None:
    async def test(here: House) -> None:
        here.control.events.record("Idle", "x" * 4000)
        _, writer = await here.raw(b"GET /admin/watch HTTP/1.1\r\nhost: localhost\r\n\r\n")
        async with watching(here) as told:
            await told.next()
            there = len(here.server.server_state.connections)

            async def cut_off() -> bool:
                for _ in range(200):
                    here.control.events.record("Idle", "x" * 4000)
                assert (await told.next())[1]["events"]
                return len(here.server.server_state.connections) < there

            await async_wait_until(cut_off, what="the one that reads nothing to be cut off")
        writer.close()

    live(test, policy=Policy(stalled_client_s=0.1))
