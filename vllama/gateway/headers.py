"""Header lines, judged strictly: which pass, and which say something that vllama must understand or keep to itself.

A line is judged once and remembered, since the same ones come with every request and every answer. None of the
leniencies of RFC 9112 is granted: no folding, no space before the colon, no control character, no bare CR or LF.
"""

import re
from collections.abc import Callable
from functools import lru_cache

Header = tuple[bytes, bytes]

# They speak of one connection, not of the message (RFC 9110, 7.6.1).
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer "
    b"transfer-encoding upgrade http2-settings".split()
)
_TOLD_BY_REQUESTS = _HOP_BY_HOP | {b"host", b"content-length", b"expect"}
_TOLD_BY_ANSWERS = _HOP_BY_HOP | frozenset(
    b"date server content-length content-type content-encoding x-vllama-state x-vllama-wait-ms".split()
)
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t -~\x80-\xff]*)")
_LONGEST_REMEMBERED_BYTES = 256
_REMEMBERED = 4096


class NoHeader(ValueError):
    """The line is no header line as it must be."""


def _judge(told: frozenset[bytes]) -> Callable[[bytes], Header | None]:
    """None: the line passes as it is. Else its name in lower case, and its value. Raises NoHeader."""

    def judged(line: bytes) -> Header | None:
        found = _LINE.fullmatch(line)
        if found is None:
            raise NoHeader
        name = found[1].lower()
        return (name, found[2].rstrip(b"\t ")) if name in told else None

    remembered = lru_cache(_REMEMBERED)(judged)
    return lambda line: remembered(line) if len(line) <= _LONGEST_REMEMBERED_BYTES else judged(line)


of_request = _judge(_TOLD_BY_REQUESTS)
of_answer = _judge(_TOLD_BY_ANSWERS)


def without(lines: list[bytes], connection: bytes) -> list[bytes]:
    """`lines` without those that the value of a Connection header names, in lower case."""
    named = {name.strip() for name in connection.split(b",")}
    return [line for line in lines if line.partition(b":")[0].lower() not in named]
