"""Header lines, judged strictly: which pass, and which say something that vllama must understand or keep to itself.

A line is judged once and remembered, since the same ones come with every request and every answer. None of the
leniencies of RFC 9112 is granted: no folding, no space before the colon, no control character, no bare CR or LF.
"""

import re
from collections.abc import Callable
from functools import lru_cache

Header = tuple[bytes, bytes]

# What proxies say of the way that a request came; guard and forwarded judge by them.
PROXY_HEADERS = (b"x-forwarded-for", b"x-real-ip", b"forwarded", b"via")

# They speak of one connection, not of the message (RFC 9110, 7.6.1).
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer "
    b"transfer-encoding upgrade http2-settings".split()
)
# Keys are shown to vllama and to nobody behind it; so are the questions of browsers, which an engine would answer with
# `Access-Control-Allow-Origin: *` for everybody.
_TOLD_BY_REQUESTS = _HOP_BY_HOP | frozenset(
    b"host content-length expect authorization x-api-key api-key origin prefer x-max-wait x-keep-alive "
    b"access-control-request-method access-control-request-headers".split()
)
_TOLD_BY_ANSWERS = _HOP_BY_HOP | frozenset(
    b"date server content-length content-type content-encoding x-vllama-state x-vllama-wait-ms "
    b"access-control-allow-origin access-control-allow-credentials access-control-expose-headers "
    b"access-control-allow-private-network".split()
)
_LINE = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t -~\x80-\xff]*)")
_REMEMBERED = 1024
REMEMBERED_BYTES = 2048  # of whole heads; the lines of longer ones are judged anew, so that memory stays bounded


class NoHeader(ValueError):
    """The line is no header line as it must be."""


Judge = Callable[[bytes], Header | None]


def _judging(told: frozenset[bytes]) -> Judge:
    """None: the line passes as it is. Else its name in lower case, and its value. Raises NoHeader."""

    def judge(line: bytes) -> Header | None:
        found = _LINE.fullmatch(line)
        if found is None:
            raise NoHeader
        name = found[1].lower()
        return (name, found[2].rstrip(b"\t ")) if name in told else None

    return judge


_of_request, _of_answer = _judging(_TOLD_BY_REQUESTS), _judging(_TOLD_BY_ANSWERS)
_of_request_remembered, _of_answer_remembered = lru_cache(_REMEMBERED)(_of_request), lru_cache(_REMEMBERED)(_of_answer)


def of_request(head: bytes) -> Judge:
    """What judges the lines of `head`."""
    return _of_request_remembered if len(head) <= REMEMBERED_BYTES else _of_request


def of_answer(head: bytes) -> Judge:
    return _of_answer_remembered if len(head) <= REMEMBERED_BYTES else _of_answer


# As most clients spell it, and as uvicorn does.
LENGTH, LENGTH_IN_LOWER_CASE = b"\r\nContent-Length: ", b"\r\ncontent-length: "
_MOST_DIGITS = 18


def apart(head: bytes, likely: bytes, otherwise: bytes) -> tuple[bytes, int]:
    """`head` with 0 for its Content-Length, and that length (0 for none). `likely` and `otherwise` are the spellings.

    The heads of a client, or of an engine within a second, differ in nothing else: so they are read once. (`partition`
    takes half as long as a regular expression.)
    """
    before, name, rest = head.partition(likely)
    if not name:
        before, name, rest = head.partition(otherwise)
        if not name:
            return head, 0
    digits, end, after = rest.partition(b"\r")
    if not digits.isdigit() or len(digits) > _MOST_DIGITS:
        return head, 0  # whoever reads it will say what is wrong with it
    return b"%b%b0%b%b" % (before, name, end, after), int(digits)


def without(lines: list[bytes], connection: bytes) -> list[bytes]:
    """`lines` without those that the value of a Connection header names, in lower case.

    What proxies said stays: a client could name it there, and look as if it had come directly.
    """
    named = {name.strip() for name in connection.split(b",")}.difference(PROXY_HEADERS)
    return [line for line in lines if line.partition(b":")[0].lower() not in named]
