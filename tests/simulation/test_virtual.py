import asyncio
from collections.abc import Iterator

import pytest

from tests.simulation.virtual import OWNER, Deadlock, Spinning, VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    loop = VirtualLoop()
    yield loop
    loop.drain()
    loop.close()


def test_a_day_passes_at_once_and_in_order(loop: VirtualLoop) -> None:
    heard: list[str] = []

    async def after(seconds: float, what: str) -> None:
        await asyncio.sleep(seconds)
        heard.append(what)

    async def main() -> None:
        await asyncio.gather(after(86400, "tomorrow"), after(0.001, "now"), after(60, "soon"))

    began = loop.now
    loop.run_until_complete(main())
    assert heard == ["now", "soon", "tomorrow"]
    assert 86400 <= loop.now - began < 86401


def test_a_time_out_comes_when_it_should(loop: VirtualLoop) -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        return loop.now

    assert loop.run_until_complete(main()) == pytest.approx(1005.0, abs=0.01)


def test_what_a_thread_would_do_is_done_and_heard_of_later(loop: VirtualLoop) -> None:
    done: list[float] = []

    async def main() -> float:
        await asyncio.to_thread(lambda: done.append(loop.now))
        return loop.now

    heard = loop.run_until_complete(main())
    assert done[0] < heard


def test_a_thread_s_error_is_raised_where_it_is_awaited(loop: VirtualLoop) -> None:
    async def main() -> None:
        await asyncio.to_thread(int, "no number")

    with pytest.raises(ValueError, match="no number"):
        loop.run_until_complete(main())


def test_waiting_for_nobody_is_a_deadlock(loop: VirtualLoop) -> None:
    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Deadlock):
        loop.run_until_complete(main())


def test_never_waiting_is_spinning(loop: VirtualLoop) -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110  # that is the fault
            await asyncio.sleep(0)

    with pytest.raises(Spinning):
        loop.run_until_complete(main())


def test_tasks_belong_to_whoever_began_them(loop: VirtualLoop) -> None:
    async def main() -> tuple[int, int]:
        asyncio.create_task(asyncio.sleep(1), name="nobody's").add_done_callback(lambda _: None)
        OWNER.set("a")
        mine = [asyncio.create_task(asyncio.sleep(1)) for _ in range(3)]
        before = len(loop.tasks_of("a"))
        await asyncio.gather(*mine)
        await asyncio.sleep(0)
        return before, len(loop.tasks_of("a"))

    assert loop.run_until_complete(main()) == (3, 0)


def test_quiet_is_when_everybody_waits(loop: VirtualLoop) -> None:
    quiet: list[float] = []
    loop.on_quiet = lambda: quiet.append(loop.now)

    async def main() -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        await asyncio.sleep(1)

    loop.run_until_complete(main())
    assert len(quiet) == 1
