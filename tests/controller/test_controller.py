"""The whole controller on one device in virtual time: what it is told to do, and what it answers to those who ask."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.profiles import PROFILES
from tests.simulation.runtime import VirtualRuntime
from tests.simulation.virtual import VirtualLoop
from tests.simulation.world import World
from vllama.controller.actuator import NO_PROCESS_COUNTS_S
from vllama.controller.control import Unresolved
from vllama.controller.controller import Controller
from vllama.controller.demand import Grant, WaitFailed
from vllama.controller.manifest.servers import BalanceSpec, ServerSpec
from vllama.controller.reasons import HOLDS_S
from vllama.controller.supposed import Supposed
from vllama.domain.observed import Footprint
from vllama.domain.reason import Reason
from vllama.domain.spec import SleepLevel
from vllama.domain.status import Phase
from vllama.domain.units import GIB
from vllama.planner.rehearse import Outcome

ENTRIES = {
    "org/a": {"memory": "12GiB", "aliases": ["first"]},
    "org/b": {"memory": "16GiB", "auto_start": True},
    "org/huge": {"memory": "99GiB"},
}  # fmt: skip


class House:
    def __init__(self, directory: Path) -> None:
        loop = VirtualLoop()
        self.world = World(
            seed=1, profile=replace(PROFILES["tight"], load_s=(4.0, 8.0)), directory=directory, loop=loop
        )  # fmt: skip
        self.world.fate.on = False
        catalogue = self.world.catalogue
        catalogue.entries = dict(ENTRIES)
        catalogue.footprints = {
            name: Footprint(awake_bytes=catalogue.memory_bytes(name), asleep_bytes=GIB, weights_bytes=8 * GIB)
            for name in ENTRIES
        }
        catalogue.write()

    @property
    def controller(self) -> Controller:
        assert self.world.controller is not None
        return self.world.controller

    def phases(self) -> dict[str, Phase]:
        return {status.model: status.phase for status in self.controller.statuses()}

    async def until(self, model: str, phase: Phase) -> None:
        """In virtual time: a minute is over at once."""
        for _ in range(600):
            await asyncio.sleep(0.1)
            if self.world.controller is not None and self.phases().get(model) is phase:
                return
        raise AssertionError(f"{model} is not {phase}: {self.phases()}")


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[[Callable[[House], Coroutine[None, None, None]]], None]]:
    """Runs a story in a house whose manager came up and has `org/b` ready, as it is preloaded."""
    house = House(tmp_path)

    def run(story: Callable[[House], Coroutine[None, None, None]]) -> None:
        async def whole() -> None:
            house.world.boot()
            await house.until("org/b", Phase.READY)
            await story(house)

        with house.world.owned():
            house.world.loop.run_until_complete(whole())
        assert house.world.story.violation is None

    yield run
    house.world.loop.drain()
    house.world.loop.close()


def test_whose_memory_it_is_and_what_each_model_takes(live) -> None:
    async def story(house: House) -> None:
        [page] = house.controller.memory().nodes[0].devices
        assert [(entry.model, entry.phase, entry.counted_bytes) for entry in page.engines] == [
            ("org/b", Phase.READY, 16 * GIB)
        ]
        figures = {each.model: each for each in house.controller.figures()}
        assert {name: each.awake_bytes for name, each in figures.items()} == {
            "org/a": 12 * GIB, "org/b": 16 * GIB, "org/huge": 99 * GIB,
        }  # fmt: skip
        assert figures["org/a"].load_s is None
        assert 4.0 < figures["org/b"].load_s < 20.0
        matrix = await house.controller.matrix()
        assert list(matrix.never) == ["org/huge"]
        assert list(matrix.pairs) == [("org/a", "org/b")]

    live(story)


def test_nobody_is_said_to_wait_who_is_served_or_went_away(live) -> None:
    async def story(house: House) -> None:
        board = house.controller.board

        def said() -> tuple[int, str]:
            found = next(each for each in house.controller.statuses() if each.model == "org/a")
            return found.waiting, found.message

        def wait() -> asyncio.Future[Grant]:
            return asyncio.ensure_future(board.wait_until_ready("org/a", max_queue=9, timeout_s=99.0))

        waiter = wait()
        await house.until("org/a", Phase.STARTING)
        assert (said()[0], "1 request waits" in said()[1]) == (1, True)
        waiter.cancel()
        await asyncio.wait([waiter])
        assert (said()[0], said()[1].startswith("Loading; nobody waits for it any more")) == (0, True)
        grant = await wait()
        assert said() == (0, "1 in flight.")
        grant.release()
        await asyncio.sleep(HOLDS_S)
        assert (said()[0], said()[1].startswith("Unused for")) == (0, True)

    live(story)


def test_what_would_happen_if_somebody_asked_and_nothing_does(live) -> None:
    async def story(house: House) -> None:
        before = house.phases()
        told = await house.controller.rehearse(["org/a", "org/huge"])
        assert [(asked.model, asked.outcome) for asked in told.asked] == [
            ("org/a", Outcome.READY), ("org/huge", Outcome.REFUSED),
        ]  # fmt: skip
        assert [(step.kind.value, step.model) for step in told.steps] == [("sleep", "org/b"), ("start", "org/a")]
        await asyncio.sleep(1.0)
        assert house.phases() == before

    live(story)


def test_the_plan_now_and_the_plans_until_rest(live) -> None:
    async def story(house: House) -> None:
        house.controller.start("org/a")
        [now] = await house.controller.plans(settle=False)
        assert [type(action).__name__ for action in now.actions] == ["Sleep"]
        settled = await house.controller.plans(settle=True)
        assert [[type(action).__name__ for action in plan.actions] for plan in settled] == [["Sleep"], ["Start"], []]

    live(story)


def test_what_a_change_of_the_file_would_do(live) -> None:
    async def story(house: House) -> None:
        pinned = Supposed(model="org/a", new_engine=False, memory_bytes=12 * GIB, pin=True)
        foreseen = await house.controller.suppose(pinned)
        assert [list(plan.actions) for plan in foreseen.anyway] == [[]]
        assert [sorted(a.model for a in plan.actions) for plan in foreseen.plans] == [["org/b"], ["org/a"], []]
        assert foreseen.before is not None
        unheard = await house.controller.suppose(Supposed(model="org/new", new_engine=True, memory_bytes=GIB))
        assert unheard.before is None
        assert unheard.after.awake_bytes == GIB

    live(story)


def test_the_card_of_a_model(live) -> None:
    async def story(house: House) -> None:
        controller = house.controller
        awake = await controller.show(controller.resolve_here("org/b"))
        assert awake.status.phase is Phase.READY
        assert awake.engine is not None
        assert awake.engine.current
        assert awake.tasks == ("generate",)
        assert awake.command.argv[:3] == ("vllm", "serve", "org/b")
        assert awake.log == str(controller.log_of("org/b"))
        never_ran = await controller.show(controller.resolve("first"))
        assert (never_ran.status.model, never_ran.engine) == ("org/a", None)
        assert never_ran.levels
        never_will = await controller.show(controller.resolve_here("org/huge"))
        assert "99.0 GiB" in never_will.command.problem
        house.world.runtime.reads_fail = True
        assert (await controller.show(controller.resolve("first"))).command.problem == "NVML: Unknown Error"

    live(story)


def test_a_name_that_nobody_has_and_one_that_is_nearly_right(live) -> None:
    async def story(house: House) -> None:
        unknown = house.controller.resolve_here("org/bb")
        assert isinstance(unknown, Unresolved)
        assert not unknown.ambiguous
        assert unknown.elsewhere == ()
        assert list(house.controller.servers()) == []
        assert [each.model for each in house.controller.engines()] == ["org/b"]

    live(story)


def test_an_operator_puts_it_to_sleep_wakes_and_stops_it(live) -> None:
    async def story(house: House) -> None:
        house.controller.sleep("org/b", SleepLevel.WEIGHTS_OFFLOADED)
        await house.until("org/b", Phase.ASLEEP)
        house.controller.start("org/b")
        await house.until("org/b", Phase.READY)
        house.controller.stop("org/b")
        await house.until("org/b", Phase.STOPPED)
        said = {status.model: status.reason for status in house.controller.statuses()}
        assert said["org/b"] is Reason.HELD_BY_OPERATOR

    live(story)


def test_who_waits_for_a_model_that_is_stopped_is_told_so(live) -> None:
    async def story(house: House) -> None:
        waiter = asyncio.create_task(
            house.controller.board.wait_until_ready("org/a", max_queue=10, timeout_s=60.0)
        )  # fmt: skip
        await asyncio.sleep(0.5)
        house.controller.stop("org/a")
        with pytest.raises(WaitFailed) as failed:
            await waiter
        assert failed.value.failure.code == "stopped_by_operator"

    live(story)


def test_all_is_well_until_it_is_not(live) -> None:
    async def story(house: House) -> None:
        def wrong() -> set[str]:
            return {condition.type for condition in house.controller.conditions() if not condition.ok}

        assert wrong() == set()
        assert house.controller.vitals().unready is None
        house.world.runtime.reads_fail = True
        house.world.catalogue._path.write_text("models: [")
        await asyncio.sleep(30.0)
        await house.controller.rescan()
        assert wrong() == {"ManifestValid", "DevicesSeen"}
        assert "org/a" in house.phases()  # by the last good version

    live(story)


@pytest.mark.parametrize("wanted", [True, False])
def test_that_no_process_can_be_started_is_shown_until_one_was_or_nobody_tries_any_more(live, wanted: bool) -> None:
    async def story(house: House) -> None:
        def wrong() -> dict[str, str]:
            return {each.type: each.message for each in house.controller.conditions() if not each.ok}

        house.world.runtime.forks_fail = True
        with pytest.raises(WaitFailed) as failed:
            await house.controller.board.wait_until_ready("org/a", max_queue=10, timeout_s=60.0)
        assert failed.value.failure.code == "engine_failed"
        assert wrong() == {"ProcessesStart": "fork: Resource temporarily unavailable"}
        house.world.runtime.forks_fail = False
        if wanted:
            house.controller.start("org/a")
            await house.until("org/a", Phase.READY)
        else:
            await asyncio.sleep(NO_PROCESS_COUNTS_S)
        assert wrong() == {}

    live(story)


def test_at_its_end_no_engine_is_left_and_it_takes_nobody_in(live) -> None:
    async def story(house: House) -> None:
        controller = house.controller
        await house.world.shut_down()
        assert house.world.machine.engines == {}
        assert controller.vitals().unready == "vllama is shutting down."
        with pytest.raises(WaitFailed) as failed:
            await controller.board.wait_until_ready("org/a", max_queue=10, timeout_s=60.0)
        assert failed.value.failure.code == "shutting_down"

    live(story)


def test_why_a_model_is_where_it_is_and_what_a_bug_of_the_history_costs(live, monkeypatch) -> None:
    async def story(house: House) -> None:
        spec = house.controller.resolve("first")
        assert not isinstance(spec, Unresolved)
        house.controller.start("org/a")
        await house.until("org/a", Phase.READY)
        [told] = await house.controller.why(spec)
        assert [past.decided.reason for past in told.decisions][:2] == ["MakingRoom", "DeviceBusy"]
        assert all(past.whole for past in told.decisions)
        assert told.decisions[0].numbers is not None
        assert [each.model for each in told.decisions[0].numbers.candidates] == ["org/b"]
        other = house.controller.resolve("org/b")
        assert not isinstance(other, Unresolved)
        page = await house.controller.describe(other)
        [engine] = page.engines
        assert engine.status.phase is Phase.ASLEEP
        assert {each.type: each.status.value for each in engine.conditions} == {
            "Ready": "False", "Resident": "True", "Sound": "True",
        }  # fmt: skip
        assert [event.reason for event in page.events][-1] == "Sleeping"
        house.world.loop.on_quiet = None  # who looks at the world then would object to this
        monkeypatch.setattr("vllama.controller.loop.evidence_of", lambda *_: {}["no such key"])
        house.controller.stop("org/a")
        await house.until("org/a", Phase.STOPPED)
        assert {each.type for each in house.controller.conditions() if not each.ok} == {"HistoryKept"}

    live(story)


def test_the_revision_grows_whenever_a_name_may_mean_something_else_or_a_model_can_do_more(live, monkeypatch) -> None:
    async def story(house: House) -> None:
        controller = house.controller
        revision = controller.revision
        controller.resolve("first")
        assert controller.tasks("org/a") is None
        assert controller.revision == revision

        async def found(_: VirtualRuntime) -> tuple[str, ...]:
            return ("org/new",)

        monkeypatch.setattr(VirtualRuntime, "cached_models", found)
        await controller.rescan()
        assert not isinstance(controller.resolve("org/new"), Unresolved)
        assert controller.revision > revision

        controller.start("org/a")  # for the first time: vLLM says what it can do
        while controller.tasks("org/a") is None:
            revision = controller.revision
            await asyncio.sleep(0.1)
        assert controller.revision > revision

        revision, fleet = controller.revision, controller.board.servers
        fleet.apply([ServerSpec(url="http://there")], BalanceSpec())
        fleet.found(fleet.servers["http://there"], ("elsewhere",))
        assert not isinstance(controller.resolve("elsewhere"), Unresolved)
        assert controller.revision > revision

    live(story)
