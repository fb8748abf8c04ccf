"""The head of an engine's answer, read as strictly as a request's: a broken engine must not speak for vllama."""

import re
from functools import lru_cache
from http import HTTPStatus

import msgspec

from vllama.gateway.headers import NoHeader, of_answer, without
from vllama.gateway.wire.framing import Chunked, Framing, UntilClose

_FIRST = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]{0,100})?")
_MOST_DIGITS = 18
STATUS_LINES = {status.value: b"HTTP/1.1 %d %s" % (status, status.phrase.encode()) for status in HTTPStatus}


class Broken(ValueError):
    """The engine does not speak HTTP as it must; the text says in what."""


class Answer(msgspec.Struct):
    """`lines`: status and headers that pass, without those of the framing."""

    status: int
    old: bool  # HTTP/1.0
    lines: list[bytes]
    framing: Framing | None = None  # None: `size` bytes
    size: int = 0
    length: bytes | None = None
    chunked: bool = False
    packed: bool = False
    has_date: bool = False
    has_server: bool = False
    reusable: bool = True
    events: bool = False


def parse(head: bytes, *, most_headers: int) -> Answer | None:
    """`head` without the empty line that ends it. None: a 1xx, after which the answer proper comes. Raises Broken."""
    first, *lines = head.split(b"\r\n")
    status, old, line_of_status = _status(first)
    if status < 200:
        if status == 101:
            raise Broken("it changed to another protocol unasked")
        return None
    if len(lines) > most_headers:
        raise Broken("its answer has too many headers")
    kept = [line_of_status]
    answer = Answer(status, old, kept)
    judge, connection = of_answer(head), b""
    try:
        for line in lines:
            told = judge(line)
            if told is None:
                kept.append(line)
            elif told[0] == b"connection":
                connection += b"," + told[1].lower()
            elif _tell(answer, told[0], told[1]):
                kept.append(line)
    except NoHeader:
        raise Broken("its answer has a line that is no header") from None
    if connection:
        answer.reusable = b"close" not in connection
        answer.lines = [kept[0], *without(kept[1:], connection)]
    _frame(answer)
    return answer


@lru_cache(64)
def _status(first: bytes) -> tuple[int, bool, bytes]:
    """The status, whether it is HTTP/1.0, and the first line as vllama says it."""
    found = _FIRST.fullmatch(first)
    if found is None:
        raise Broken("what it sent is not HTTP")
    status = int(found[2])
    return status, found[1] == b"0", STATUS_LINES.get(status) or b"HTTP/1.1 %d " % status


def _tell(answer: Answer, name: bytes, value: bytes) -> bool:
    """Whether the line passes."""
    if name == b"content-type":
        answer.events = value[:17].lower() == b"text/event-stream"
        return True
    if name == b"content-length":
        if answer.length is not None or not value.isdigit() or len(value) > _MOST_DIGITS:
            raise Broken("its answer has no clear Content-Length")
        answer.length = value
        return False
    if name == b"date":
        first, answer.has_date = not answer.has_date, True
        return first
    if name == b"server":
        first, answer.has_server = not answer.has_server, True
        return first
    if name == b"transfer-encoding":
        if answer.chunked or answer.old or value.lower() != b"chunked":
            raise Broken("its answer has a Transfer-Encoding that is not just chunked")
        answer.chunked = True
    if name == b"content-encoding":
        answer.packed = True
        return True
    return False


def _frame(answer: Answer) -> None:
    bodiless = answer.status == 204 or answer.status == 304  # noqa: PLR1714  # a set is slower here
    answer.reusable = answer.reusable and not answer.old
    answer.events = answer.events and answer.chunked and not answer.packed
    if answer.chunked:
        if answer.length is not None:
            raise Broken("its answer says in two ways how long it is")
        if bodiless:
            raise Broken(f"it answered {answer.status} and announced a body")
        answer.framing = Chunked()
    elif bodiless:
        answer.length = answer.length if answer.status == 304 else None
    elif answer.length is not None:
        answer.size = int(answer.length)
    else:
        answer.framing, answer.reusable = UntilClose(), False
