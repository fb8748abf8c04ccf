"""The head of an engine's answer, read as strictly as a request's: a broken engine must not speak for vllama."""

import enum
import re
from functools import lru_cache
from http import HTTPStatus

import msgspec

from vllama.gateway.headers import (
    LENGTH,
    LENGTH_IN_LOWER_CASE,
    REMEMBERED_BYTES,
    Header,
    NoHeader,
    apart,
    of_answer,
    without,
)
from vllama.gateway.wire.stamp import SERVER_LINE, date_line

_FIRST = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]{0,100})?")
_MOST_DIGITS = 18
_ONLY_ONCE = (b"date", b"server")
_PASSING = (b"content-type", b"content-encoding", *_ONLY_ONCE)
STATUS_LINES = {status.value: b"HTTP/1.1 %d %s" % (status, status.phrase.encode()) for status in HTTPStatus}


class Broken(ValueError):
    """The engine does not speak HTTP as it must; the text says in what."""


class Body(enum.Enum):
    NONE = "none, whatever is said of its length"
    COUNTED = "content-length"
    CHUNKED = "transfer-encoding: chunked"
    UNTIL_CLOSE = "to the end of the connection"


_COUNTED, _CHUNKED = Body.COUNTED, Body.CHUNKED  # in Python 3.11 a member of an enum costs more than a call


class Answer(msgspec.Struct, frozen=True):
    """All but the length of the body. `lines`: the status and the headers that pass, each with its line break."""

    lines: bytes
    body: Body
    dated: bool
    reusable: bool
    events: bool
    status: int = 200


def parse(head: bytes, *, most_headers: int) -> tuple[Answer | None, int]:
    """`head` without the empty line that ends it. Also the bytes of the body where it is counted. Raises Broken.

    None: a 1xx, after which the answer proper comes.
    """
    if len(head) > REMEMBERED_BYTES:
        return _read(head, most_headers)
    head, length = apart(head, LENGTH_IN_LOWER_CASE, LENGTH)
    answer, otherwise_spelled = _remembered(head, most_headers)
    return answer, length or otherwise_spelled


def _read(head: bytes, most_headers: int) -> tuple[Answer | None, int]:
    first, *lines = head.split(b"\r\n")
    found = _FIRST.fullmatch(first)
    if found is None:
        raise Broken("what it sent is not HTTP")
    old, status = found[1] == b"0", int(found[2])
    if status < 200:
        if status == 101:
            raise Broken("it changed to another protocol unasked")
        return None, 0
    if len(lines) > most_headers:
        raise Broken("its answer has too many headers")
    kept, told = _sorted(head, lines)
    connection = b",".join(value.lower() for name, value in told if name == b"connection")
    if connection:
        kept = without(kept, connection)
    names = [name for name, _ in told]
    if b"server" not in names:
        kept.append(SERVER_LINE)
    body, length = _framed(told, status=status, old=old)
    answer = Answer(
        b"\r\n".join((STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status, *kept, b"")),
        body,
        b"date" in names,
        body is not Body.UNTIL_CLOSE and not old and b"close" not in connection,
        b"content-encoding" not in names and _is_of_events(told),
        status,
    )
    return answer, length


_remembered = lru_cache(1024)(_read)


def beginning(head: Answer, length: int, state: bytes, last: bytes, *, unchunked: bool) -> bytes:
    """What a client gets before the body: with how the body ends, and the date where the engine gave none.

    `state`: header lines of vllama's own. `last`: more of them, and the empty line.
    """
    date = b"" if head.dated else date_line() + b"\r\n"
    if head.body is _COUNTED:
        return b"%b%bcontent-length: %d\r\n%b%b" % (head.lines, state, length, date, last)
    framing = b"transfer-encoding: chunked\r\n" if head.body is _CHUNKED and not unchunked else b""
    return b"".join((head.lines, state, framing, date, last))


def _sorted(head: bytes, lines: list[bytes]) -> tuple[list[bytes], list[Header]]:
    """The lines that pass, and what is told by those that say something to us; some do both."""
    judge = of_answer(head)
    kept: list[bytes] = []
    told: list[Header] = []
    seen: set[bytes] = set()
    for line in lines:
        try:
            what = judge(line)
        except NoHeader:
            raise Broken("its answer has a line that is no header") from None
        if what is None or (what[0] in _PASSING and not (what[0] in _ONLY_ONCE and what[0] in seen)):
            kept.append(line)
        if what is not None:
            told.append(what)
            seen.add(what[0])
    return kept, told


def _framed(told: list[Header], *, status: int, old: bool) -> tuple[Body, int]:
    lengths = [value for name, value in told if name == b"content-length"]
    encodings = [value.lower() for name, value in told if name == b"transfer-encoding"]
    if len(lengths) + len(encodings) > 1:
        raise Broken("its answer says more than once how long it is")
    if any(not value.isdigit() or len(value) > _MOST_DIGITS for value in lengths):
        raise Broken("its answer has no clear Content-Length")
    if encodings and (old or encodings != [b"chunked"]):
        raise Broken("its answer has a Transfer-Encoding that is not just chunked")
    if status in (204, 304):
        if encodings:
            raise Broken(f"it answered {status} and announced a body")
        return Body.NONE, 0
    if encodings:
        return Body.CHUNKED, 0
    return (Body.COUNTED, int(lengths[0])) if lengths else (Body.UNTIL_CLOSE, 0)


def _is_of_events(told: list[Header]) -> bool:
    return any(name == b"content-type" and value[:17].lower() == b"text/event-stream" for name, value in told)
