"""Events are kept within bounds."""

import asyncio

from vllama.controller.events import KEPT, LONGEST_CHARS, Events


def test_the_latest_are_kept_and_none_is_longer_than_anybody_reads():
    events = Events()
    for number in range(KEPT + 10):
        events.record("Noted", f"{number}")
    events.record("Shouted", "x" * (LONGEST_CHARS + 1))
    kept = list(events)
    assert len(kept) == KEPT
    assert kept[-1].number == KEPT + 11
    assert len(kept[-1].message) == LONGEST_CHARS
    assert kept[-1].message.endswith("x...")


def test_who_follows_hears_what_was_kept_and_then_what_comes_until_the_end():
    async def run():
        events = Events()
        for reason in ("First", "Second"):
            events.record(reason, "")
        heard = asyncio.Queue()

        async def follow():
            async for event in events.follow(after=1):
                if event is not None:
                    heard.put_nowait(event.reason)

        async with asyncio.timeout(10):
            follower = asyncio.create_task(follow())
            assert await heard.get() == "Second"
            events.record("Third", "")
            assert await heard.get() == "Third"
            await asyncio.to_thread(events.record, "Fourth", "in a thread, which wakes nobody for sure")
            assert await heard.get() == "Fourth"
            events.close()
            await follower

    asyncio.run(run())
