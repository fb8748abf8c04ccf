"""Who watches over a server that runs: a thread that sees the event loop stand still, and systemd, where it started us.

Pings come from the loop itself and only while it makes its passes, so that whoever waits for them in vain is right to
restart us. Our engines live on meanwhile, and are adopted.
"""

import asyncio
import contextlib
import sys
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterator

from vllama.cli.notify import Notify
from vllama.controller.control import Control
from vllama.controller.events import log
from vllama.controller.pulse import BLOCKED_AFTER_S, Pulse
from vllama.domain.status import one_per_model

STATUS_EVERY_S = 5.0
LOOK_EVERY_S = 1.0


async def tell(notify: Notify, control: Control, *, url: str, is_open: Callable[[], bool]) -> None:
    """READY once requests can be sent here, STATUS as it changes, WATCHDOG while we live. Until cancelled."""
    told_ready, told_status = False, ""
    every_s = min(STATUS_EVERY_S, notify.ping_every_s or STATUS_EVERY_S)
    while True:
        vitals, status = control.vitals(), status_line(control, url)
        if not told_ready and vitals.unready is None and is_open():
            told_ready = True
            notify.say(READY="1", STATUS=status)
        elif status != told_status:
            notify.say(STATUS=status)
        told_status = status
        if notify.ping_every_s is not None and vitals.stuck is None:
            notify.say(WATCHDOG="1")
        await asyncio.sleep(every_s if told_ready else min(every_s, 0.1))


def status_line(control: Control, url: str) -> str:
    """As `systemctl status` shows it."""
    vitals = control.vitals()
    phases = Counter(str(status.phase) for status in one_per_model(control.statuses()))
    wrong = [condition.type for condition in control.conditions() if not condition.ok]
    models = ", ".join(f"{count} {phase.lower()}" for phase, count in sorted(phases.items())) or "no models"
    trouble = f"; look at {', '.join(wrong)} in /health" if wrong else ""
    return f"{vitals.unready or f'Serves {url}.'} Models: {models}{trouble}"


@contextlib.contextmanager
def watchdog(pulse: Pulse, *, after_s: float = BLOCKED_AFTER_S, every_s: float = LOOK_EVERY_S) -> Iterator[None]:
    """Entered in the thread of the event loop: writes where that stands, once each time it stands still for long."""
    over, watched = threading.Event(), threading.get_ident()

    def look() -> None:
        said = False
        while not over.wait(every_s):
            silent_s = pulse.silent_s
            if silent_s < after_s:
                said = False
            elif not said:
                said = True
                log.error("LoopStandsStill", for_s=round(silent_s, 1), stack=_stack_of(watched))

    thread = threading.Thread(target=look, name="watchdog", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=after_s)


def _stack_of(thread: int) -> str:
    frame = sys._current_frames().get(thread)  # noqa: SLF001  # documented, and there is no other way
    return "gone" if frame is None else "".join(traceback.format_stack(frame))
