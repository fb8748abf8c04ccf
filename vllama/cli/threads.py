"""The threads that blocking work runs in, all of them begun at once: later the system may have none left to give."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

MOST = 16
_BEGUN_WITHIN_S = 5.0


def all_at_once(count: int = MOST) -> ThreadPoolExecutor:
    """As many as there can be, at most `count`."""
    pool = ThreadPoolExecutor(max_workers=count, thread_name_prefix="blocking")
    together = threading.Barrier(count + 1)

    def wait() -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            together.wait(_BEGUN_WITHIN_S)

    try:
        for _ in range(count):
            pool.submit(wait)
        wait()
    except RuntimeError:  # "can't start new thread"
        together.abort()
    return pool
