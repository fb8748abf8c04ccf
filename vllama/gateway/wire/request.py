"""The head of a request: what it says, and that nobody could read it otherwise.

One space between the words of the first line, HTTP/1.0 or 1.1, a target that is a path, one Host, a length that is
said once and in one way. Everything else is refused, and then the rest of the connection is not read.
"""

import re
from functools import lru_cache

import httptools
import msgspec

from vllama.gateway import errors
from vllama.gateway.headers import (
    LENGTH,
    LENGTH_IN_LOWER_CASE,
    REMEMBERED_BYTES,
    Header,
    NoHeader,
    apart,
    of_request,
    without,
)
from vllama.gateway.inference import Refused
from vllama.gateway.keys.key import shown
from vllama.gateway.paths import Need, Way, need, way
from vllama.gateway.rebinding import may_be_rebound
from vllama.gateway.wire.websocket import is_key

_FIRST = re.compile(rb"([A-Z]{1,20}) ((/[!-\"$->@-~]*)(?:\?[!-\"$-~]*)?) HTTP/1\.([01])")  # no #: none is ever sent
_METHODS = frozenset((b"GET", b"HEAD", b"POST", b"PUT", b"PATCH", b"DELETE", b"OPTIONS"))
_MOST_DIGITS = 18
_FRAMING = (b"content-length", b"transfer-encoding")
PASSED = b"x-vllama-passed: 1\r\n"  # one for each vllama on the way
_SECONDS = re.compile(rb"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_PREFERRED_WAIT = re.compile(rb"(?:^|[,;])[ \t]*wait[ \t]*=[ \t]*\"?([0-9]{1,9})\"?[ \t]*(?:$|[,;])", re.IGNORECASE)


class Target(msgspec.Struct, frozen=True):
    """The first line."""

    method: bytes
    target: bytes
    path: bytes
    way: Way
    need: Need
    old: bool  # HTTP/1.0: knows neither chunks nor 100 Continue

    @property
    def line(self) -> bytes:
        return b"%b %b HTTP/1.1" % (self.method, self.target)


class Request(msgspec.Struct, frozen=True):
    """All but the length of the body. `forward`: the first line and the headers that pass, as an engine gets them."""

    to: Target
    forward: bytes
    host: bytes | None
    chunked: bool
    last: bool  # nothing follows on this connection
    expects: bool  # 100 Continue
    key: bytes | None  # the digest of the API key that it shows
    origin: bytes | None  # of the page that it comes from
    preflight: bytes | None  # a browser asks whether that page may send these headers
    max_wait_s: float | None  # who would wait longer for its model wants to be told so
    comments_s: float | None  # so often a sign of life is wanted while a stream's model comes up
    rebound: bool = False  # a page may have been led here by its own name
    websocket_key: bytes | None = None  # of a whole offer to change to a websocket
    passed: int = 0  # by so many other vllamas


def parse(head: bytes, *, most_headers: int) -> tuple[Request, int]:
    """`head` without the empty line that ends it. Also the bytes of the body, 0 where it is chunked. Raises Refused."""
    if len(head) > REMEMBERED_BYTES:
        return _read(head, most_headers)
    head, length = apart(head, LENGTH, LENGTH_IN_LOWER_CASE)
    request, otherwise_spelled = _remembered(head, most_headers)
    return request, length or otherwise_spelled


def _read(head: bytes, most_headers: int) -> tuple[Request, int]:
    first, *lines = head.split(b"\r\n")
    if len(lines) > most_headers:
        raise Refused(errors.head_too_large(f"more headers ({len(lines)})"))
    kept: list[bytes] = []
    told: list[Header] = []
    judge = of_request(head)
    try:
        for line in lines:
            what = judge(line)
            if what is None or what[0] == b"prefer":  # the engine may see that one, too
                kept.append(line)
            if what is not None:
                told.append(what)
    except NoHeader:
        raise Refused(errors.malformed("one of its lines is no header")) from None
    return _understood(_target(first), kept, told)


_remembered = lru_cache(1024)(_read)


def _understood(to: Target, kept: list[bytes], told: list[Header]) -> tuple[Request, int]:
    hosts = [value for name, value in told if name == b"host"]
    if len(hosts) > 1 or not (hosts or to.old):
        raise Refused(errors.malformed(f"it has {len(hosts)} Host headers"))
    origins = [value for name, value in told if name == b"origin"]
    if len(origins) > 1:
        raise Refused(errors.malformed("it has more than one Origin header"))
    expected = [value for name, value in told if name == b"expect"]
    if any(value.lower() != b"100-continue" for value in expected):
        raise Refused(errors.expectation_failed())
    connection = b",".join(value.lower() for name, value in told if name == b"connection")
    chunked, length = _framed(told, old=to.old)
    forward = b"".join(b"%b\r\n" % line for line in (to.line, *(without(kept, connection) if connection else kept)))
    request = Request(
        to,
        forward,
        hosts[0] if hosts else None,
        chunked,
        to.old or b"close" in connection,
        bool(expected) and not to.old,
        shown(told),
        origins[0] if origins else None,
        _preflight(to, told) if origins else None,
        _max_wait_s(told),
        _seconds(told, b"x-keep-alive"),
        bool(origins and hosts) and may_be_rebound(hosts[0], origins[0], (*kept, *(name for name, _ in told))),
        _websocket_key(to, kept, told) if to.way is Way.REALTIME and not (chunked or length) else None,
        forward.count(PASSED),
    )
    return request, length


def _preflight(to: Target, told: list[Header]) -> bytes | None:
    values = dict(told)
    if to.method != b"OPTIONS" or b"access-control-request-method" not in values:
        return None
    return values.get(b"access-control-request-headers", b"")


def _websocket_key(to: Target, kept: list[bytes], told: list[Header]) -> bytes | None:
    """RFC 6455, 4.2.1."""
    said: dict[bytes, list[bytes]] = {}
    for line in kept:
        name, _, value = line.partition(b":")
        said.setdefault(name.lower(), []).append(value.strip(b"\t "))
    for name, value in told:
        said.setdefault(name, []).extend(part.strip(b"\t ").lower() for part in value.split(b","))
    key = said.get(b"sec-websocket-key", [])
    offered = b"websocket" in said.get(b"upgrade", []) and b"upgrade" in said.get(b"connection", [])
    if to.old or not offered or said.get(b"sec-websocket-version") != [b"13"] or len(key) != 1 or not is_key(key[0]):
        return None
    return key[0]


def _max_wait_s(told: list[Header]) -> float | None:
    """`Prefer: wait=N` (RFC 7240) asks for the same; of both the shorter counts."""
    asked = [float(found[1]) for name, value in told if name == b"prefer" and (found := _PREFERRED_WAIT.search(value))]
    said = _seconds(told, b"x-max-wait")
    return min(asked if said is None else [said, *asked], default=None)


def _seconds(told: list[Header], header: bytes) -> float | None:
    said = [value for name, value in told if name == header]
    if not all(_SECONDS.fullmatch(value) for value in said):
        raise Refused(errors.no_seconds(header.decode().title()))
    return min(map(float, said), default=None)


def _framed(told: list[Header], *, old: bool) -> tuple[bool, int]:
    """Whether the body is chunked, and its length."""
    framed = [(name, value) for name, value in told if name in _FRAMING]
    if not framed:
        return False, 0
    if len(framed) > 1:
        raise Refused(errors.malformed("it says more than once how long it is"))
    name, value = framed[0]
    if name == b"content-length":
        if not value.isdigit() or len(value) > _MOST_DIGITS:
            raise Refused(errors.malformed("its Content-Length is no number"))
        return False, int(value)
    if old or value.lower() != b"chunked":
        raise Refused(errors.malformed("the only Transfer-Encoding is chunked, and only in HTTP/1.1"))
    return True, 0


def _target(first: bytes) -> Target:
    found = _FIRST.fullmatch(first)
    if found is None:
        raise Refused(errors.malformed(_wrong_first(first)))
    method, target, path, minor = found.groups()
    if method not in _METHODS:
        raise Refused(errors.unknown_method())
    try:
        httptools.parse_url(target)
    except httptools.HttpParserError:
        raise Refused(errors.malformed("its target is no path")) from None
    return Target(method, target, path, way(method.decode(), path), need(path), minor == b"0")


def _wrong_first(first: bytes) -> str:
    if re.fullmatch(rb"[A-Z]+ [a-zA-Z][!-~]* HTTP/1\.[01]", first) or first.startswith(b"CONNECT "):
        return "its target is not a path of this server, and vllama is no proxy for others"
    return "its first line is not METHOD /PATH HTTP/1.1"
