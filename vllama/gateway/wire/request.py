"""The head of a request: what it says, and that nobody could read it otherwise.

llhttp (httptools) judges the header lines: no folding, no bare CR or LF, no control characters, no space before a
colon. Where it is lenient, this is not: one space between the words of the first line, HTTP/1.0 or 1.1, a target that
is a path, one Host, and a length that is said once and in one way.
"""

import re

import httptools
import msgspec

from vllama.gateway import errors
from vllama.gateway.headers import Header
from vllama.gateway.inference import Refused
from vllama.gateway.paths import Way, way

_LINE = re.compile(rb"([A-Z]+) (/[!-~]*) HTTP/1\.([01])\r\n")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_TOLD = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"expect"))


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """A head. Header names are in lower case. `length`: of the body, None where it comes in chunks."""

    method: bytes
    target: bytes
    path: bytes
    way: Way
    headers: list[Header]
    length: int | None
    old: bool  # HTTP/1.0: knows neither chunks nor 100 Continue
    last: bool  # nothing follows on this connection
    expects: bool


class _Heard:
    """What httptools calls."""

    __slots__ = ("headers",)

    def __init__(self) -> None:
        self.headers: list[Header] = []

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name.lower(), value))


def parse(head: bytes, *, most_headers: int) -> Request:
    """`head` ends with its first empty line. Raises Refused; what follows on the connection is then not to be read."""
    line = _LINE.match(head)
    if line is None:
        raise Refused(errors.malformed(_wrong_line(head)))
    heard = _Heard()
    try:
        httptools.HttpRequestParser(heard).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass  # an invitation to another protocol, which may be left alone
    except httptools.HttpParserError as error:
        raise Refused(errors.malformed(str(error))) from None
    if len(heard.headers) > most_headers:
        raise Refused(errors.head_too_large(f"more headers ({len(heard.headers)})"))
    method, target, minor = line.groups()
    path = target.partition(b"?")[0]
    told = _told(heard.headers, old=minor == b"0")
    return Request(
        method=method,
        target=target,
        path=path,
        way=way(method.decode(), path),
        headers=heard.headers,
        length=told.length,
        old=minor == b"0",
        last=minor == b"0" or b"close" in told.connection,
        expects=told.expects and minor == b"1",
    )


class _Told(msgspec.Struct):
    """What the headers say of the connection and of the body."""

    length: int | None = 0
    connection: bytes = b""
    expects: bool = False


def _told(headers: list[Header], *, old: bool) -> _Told:
    """Raises Refused."""
    told = _Told()
    hosts = lengths = encodings = 0
    for name, value in headers:
        if name not in _TOLD:
            continue
        if name == b"host":
            hosts += 1
        elif name == b"content-length":
            lengths += 1
            if not _DIGITS.fullmatch(value):
                raise Refused(errors.malformed("its Content-Length is no number"))
            told.length = int(value)
        elif name == b"transfer-encoding":
            encodings += 1
            if old or value.lower() != b"chunked":
                raise Refused(errors.malformed("the only Transfer-Encoding is chunked, and only in HTTP/1.1"))
            told.length = None
        elif name == b"connection":
            told.connection += b"," + value.lower()
        elif value.lower() == b"100-continue":
            told.expects = True
        else:
            raise Refused(errors.expectation_failed())
    if lengths + encodings > 1:
        raise Refused(errors.malformed("it says more than once how long it is"))
    if hosts > 1 or not (hosts or old):
        raise Refused(errors.malformed(f"it has {hosts} Host headers"))
    return told


def _wrong_line(head: bytes) -> str:
    line = head.partition(b"\r\n")[0]
    if re.fullmatch(rb"[A-Z]+ [a-zA-Z][!-~]* HTTP/1\.[01]", line) or line.startswith(b"CONNECT "):
        return "its target is not a path of this server, and vllama is no proxy for others"
    if re.fullmatch(rb"[A-Z]+ [!-~]+ HTTP/[0-9.]+", line):
        return "its first line is not of HTTP/1.1, or its target is no path"
    return "its first line is not METHOD PATH HTTP/1.1"
