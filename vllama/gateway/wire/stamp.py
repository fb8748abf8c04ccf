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

    second = 0
    line = b""


def date_line() -> bytes:
    second = int(time.time())
    if second != _Clock.second:
        _Clock.second, _Clock.line = second, b"date: %s" % formatdate(second, usegmt=True).encode()
    return _Clock.line
