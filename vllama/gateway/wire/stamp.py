"""What vllama says of itself in every answer."""

import time
from email.utils import formatdate

SERVER_LINE = b"server: vllama"


def own_head(status_line: bytes, headers: bytes, *, close: bool) -> bytes:
    """Of an answer of vllama's own. `headers`, each with its line break, and those that every such answer has."""
    last = b"connection: close\r\n" if close else b""
    return b"%b\r\n%b%b\r\n%b\r\n%b\r\n" % (status_line, headers, date_line(), SERVER_LINE, last)


class _Clock:
    """HTTP's date has whole seconds, so it is written once a second."""

    since = until = 0.0
    line = b""


def date_line() -> bytes:
    now = time.time()
    if not _Clock.since <= now < _Clock.until:  # `int(now)` for each answer would cost as much as all of this
        second = int(now)
        _Clock.since, _Clock.until = second, second + 1
        _Clock.line = b"date: %s" % formatdate(second, usegmt=True).encode()
    return _Clock.line
