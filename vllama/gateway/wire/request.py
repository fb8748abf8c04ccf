"""The head of a request: what it says, and that nobody could read it otherwise.

One space between the words of the first line, HTTP/1.0 or 1.1, a target that is a path, one Host, a length that is
said once and in one way. Everything else is refused, and then the rest of the connection is not read.
"""

import re
from functools import lru_cache

import msgspec

from vllama.gateway import errors
from vllama.gateway.headers import REMEMBERED_BYTES, Header, NoHeader, of_request, without
from vllama.gateway.inference import Refused
from vllama.gateway.paths import Way, way

_FIRST = re.compile(rb"([A-Z]{1,20}) ((/[!->@-~]*)(?:\?[!-~]*)?) HTTP/1\.([01])")
_MOST_DIGITS = 18


class Target(msgspec.Struct, frozen=True):
    """The first line."""

    method: bytes
    target: bytes
    path: bytes
    way: Way
    old: bool  # HTTP/1.0: knows neither chunks nor 100 Continue


class Request(msgspec.Struct, frozen=True):
    """`lines`: the headers that pass. `length`: of the body, None where it comes in chunks."""

    to: Target
    lines: list[bytes]
    host: bytes | None
    length: int | None
    last: bool  # nothing follows on this connection
    expects: bool  # 100 Continue


def parse(head: bytes, *, most_headers: int) -> Request:
    """`head` without the empty line that ends it. Raises Refused."""
    first, *lines = head.split(b"\r\n")
    if len(lines) > most_headers:
        raise Refused(errors.head_too_large(f"more headers ({len(lines)})"))
    to = _remembered(first) if len(head) <= REMEMBERED_BYTES else _read(first)
    kept: list[bytes] = []
    told: list[Header] = []
    judge = of_request(head)
    try:
        for line in lines:
            what = judge(line)
            if what is None:
                kept.append(line)
            else:
                told.append(what)
    except NoHeader:
        raise Refused(errors.malformed("one of its lines is no header")) from None
    return _understood(to, kept, told)


def _understood(to: Target, kept: list[bytes], told: list[Header]) -> Request:
    host: bytes | None = None
    length: int | None = 0
    framed, connection, expects = 0, b"", False
    for name, value in told:
        if name == b"host":
            if host is not None:
                raise Refused(errors.malformed("it has several Hosts"))
            host = value
        elif name == b"content-length":
            if not value.isdigit() or len(value) > _MOST_DIGITS:
                raise Refused(errors.malformed("its Content-Length is no number"))
            framed, length = framed + 1, int(value)
        elif name == b"transfer-encoding":
            if to.old or value.lower() != b"chunked":
                raise Refused(errors.malformed("the only Transfer-Encoding is chunked, and only in HTTP/1.1"))
            framed, length = framed + 1, None
        elif name == b"connection":
            connection += b"," + value.lower()
        elif name == b"expect":
            if value.lower() != b"100-continue":
                raise Refused(errors.expectation_failed())
            expects = not to.old
    if framed > 1:
        raise Refused(errors.malformed("it says more than once how long it is"))
    if host is None and not to.old:
        raise Refused(errors.malformed("it has no Host"))
    if connection:
        kept = without(kept, connection)
    return Request(to, kept, host, length, to.old or b"close" in connection, expects)


def _read(first: bytes) -> Target:
    found = _FIRST.fullmatch(first)
    if found is None:
        raise Refused(errors.malformed(_wrong_first(first)))
    method, target, path, minor = found.groups()
    return Target(method, target, path, way(method.decode(), path), minor == b"0")


_remembered = lru_cache(256)(_read)


def _wrong_first(first: bytes) -> str:
    if re.fullmatch(rb"[A-Z]+ [a-zA-Z][!-~]* HTTP/1\.[01]", first) or first.startswith(b"CONNECT "):
        return "its target is not a path of this server, and vllama is no proxy for others"
    return "its first line is not METHOD /PATH HTTP/1.1"
