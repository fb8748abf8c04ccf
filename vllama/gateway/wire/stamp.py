"""What vllama says of itself in every answer."""

import time
from email.utils import formatdate

SERVER_LINE = b"server: vllama"


class _Clock:
    """HTTP's date has whole seconds, so it is written once a second."""

    second = 0
    line = b""


def date_line() -> bytes:
    second = int(time.time())
    if second != _Clock.second:
        _Clock.second, _Clock.line = second, b"date: %s" % formatdate(second, usegmt=True).encode()
    return _Clock.line
