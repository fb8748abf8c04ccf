"""A thread that sees the event loop stand still."""

import asyncio
import threading

import structlog
from structlog.testing import capture_logs

from tests.waiting import wait_until
from vllama.cli.watch_over import watchdog
from vllama.controller.events import Events
from vllama.controller.pulse import Pulse


def a_driver_that_hangs(until: threading.Event) -> None:
    until.wait(20)


def test_the_stack_of_a_loop_that_stands_still_is_written_once() -> None:
    structlog.reset_defaults()
    with capture_logs() as logged:

        def told() -> list:
            return [line for line in logged if line["event"] == "LoopStandsStill"]

        async def live() -> None:
            pulse = Pulse(passes=lambda: 0, events=Events())
            beating = asyncio.create_task(pulse.run())
            with watchdog(pulse, after_s=0.8, every_s=0.01):
                await asyncio.sleep(0.1)
                assert told() == []
                enough = threading.Event()
                threading.Thread(target=lambda: (wait_until(told), enough.wait(0.2), enough.set())).start()
                a_driver_that_hangs(enough)
            beating.cancel()
            await asyncio.wait({beating})

        asyncio.run(live())
        assert len(told()) == 1
        assert "a_driver_that_hangs" in told()[0]["stack"]
        assert told()[0]["log_level"] == "error"
