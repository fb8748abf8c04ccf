"""Tasks that die are begun again."""

import asyncio
import itertools

from tests.simulation.virtual import VirtualLoop
from vllama.controller.events import Events
from vllama.controller.tending import FIRST_S, FORGIVEN_AFTER_S, LONGEST_S, Tending


def lived(work, *, seconds: float) -> tuple[Tending, Events, list[float]]:
    """What became of `work(began)` within so much virtual time: `began` are the times at which it was begun."""
    loop, events, began = VirtualLoop(), Events(), []
    tending = Tending(events=events, clock=loop.time)

    async def once() -> None:
        began.append(loop.time())
        await work(began)

    async def live() -> None:
        kept = asyncio.create_task(tending.keep("clerk", once))
        await asyncio.sleep(seconds)
        kept.cancel()
        await asyncio.wait({kept})
        assert kept.cancelled()

    loop.run_until_complete(live())
    return tending, events, began


def test_a_task_that_dies_is_begun_again_ever_more_slowly() -> None:
    async def dies(_: list[float]) -> None:
        raise ValueError("no such page")

    tending, events, began = lived(dies, seconds=300.0)
    pauses = [round(after - before) for before, after in itertools.pairwise(began)]
    assert pauses[:4] == [FIRST_S, 2 * FIRST_S, 4 * FIRST_S, 8 * FIRST_S]
    assert pauses[-1] == LONGEST_S
    assert tending.deaths == {"clerk": len(began)}
    assert not tending.condition().ok
    assert "clerk (ValueError: no such page)" in tending.condition().message
    assert {event.reason for event in events} == {"TaskDied"}


def test_what_was_long_ago_is_forgiven() -> None:
    async def dies_once(began: list[float]) -> None:
        if len(began) == 1:
            raise OSError("disk")
        await asyncio.Event().wait()

    tending, _, began = lived(dies_once, seconds=FORGIVEN_AFTER_S + 2 * FIRST_S)
    assert len(began) == 2
    assert tending.condition().ok
    assert tending.deaths["clerk"] == 1


def test_the_end_of_a_task_that_should_have_none_counts_as_its_death() -> None:
    async def returns(_: list[float]) -> None:
        return

    async def gives_itself_up(_: list[float]) -> None:
        raise asyncio.CancelledError

    for work in (returns, gives_itself_up):
        tending, _, began = lived(work, seconds=4.0)
        assert len(began) > 1
        assert tending.deaths["clerk"] == len(began)
