"""Signals that cannot hit a stranger: a pid is opened, checked to be who was meant, and only then signalled."""

import ctypes
import os
import signal

from vllama.runtime.local.proc import Process, process

_PR_SET_CHILD_SUBREAPER = 36


def send(target: Process, number: signal.Signals) -> bool:
    """False: it is gone (or its pid is somebody else's by now)."""
    try:
        fd = os.pidfd_open(target.pid)
    except OSError:
        return False
    try:
        seen = process(target.pid)
        if seen is None or seen.start_ticks != target.start_ticks:
            return False
        signal.pidfd_send_signal(fd, number)
    except OSError:
        return False
    else:
        return True
    finally:
        os.close(fd)


def become_subreaper() -> None:
    """Orphans of our engines become our children instead of init's, so that their end is seen and reaped."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def reap_strangers(known: set[int]) -> None:
    """Collect dead children that nobody waits for: orphans that came to us as their subreaper."""
    while True:
        try:
            peeked = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            return
        if peeked is None or peeked.si_pid in known:
            return
        try:
            os.waitpid(peeked.si_pid, os.WNOHANG)
        except ChildProcessError:
            return
