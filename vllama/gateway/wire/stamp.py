"""What vllama says of itself in every answer."""

import time
from email.utils import formatdate

SERVER_LINE = b"server: vllama"


def own_head(status_line: bytes, headers: bytes, *, close: bool) -> bytes:
    """Of an answer of vllama's own. `headers`, each with its line break, and those that every such answer has."""
    last = b"connection: close\r\n" if close else b""
    return b"%b\r\n%b%b\r\n%b\r\n%b\r\n" % (status_line, headers, date_line(), SERVER_LINE, last)


class _Calendar:
    """HTTP's date has whole seconds, so it is written once a second."""

    __slots__ = ("line", "since", "until")

    def __init__(self) -> None:
        self.since = self.until = 0.0
        self.line = b""


_today = _Calendar()


def date_line() -> bytes:
    now, today = time.time(), _today
    if not today.since <= now < today.until:  # `int(now)` for each answer would cost as much as all of this
        second = int(now)
        today.since, today.until = second, second + 1
        today.line = b"date: %s" % formatdate(second, usegmt=True).encode()
    return today.line
