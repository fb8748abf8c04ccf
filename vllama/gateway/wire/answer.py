"""The head of an engine's answer, read as strictly as a request's: a broken engine must not speak for vllama."""

import re
from functools import lru_cache
from http import HTTPStatus
from typing import Final

import msgspec

from vllama.gateway.headers import NoHeader, of_answer, without
from vllama.gateway.wire.framing import Chunked, Counted, Framing, UntilClose

_FIRST = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]{0,100})?")
_DIGITS = re.compile(rb"[0-9]{1,18}")
_BODILESS: Final = frozenset((204, 304))
STATUS_LINES = {status.value: b"HTTP/1.1 %d %s" % (status, status.phrase.encode()) for status in HTTPStatus}


class Broken(ValueError):
    """The engine does not speak HTTP as it must; the text says in what."""


class Answer(msgspec.Struct):
    """`lines`: the headers that pass, without those of the framing."""

    status: int
    old: bool  # HTTP/1.0
    lines: list[bytes]
    framing: Framing | None = None
    length: bytes | None = None
    chunked: bool = False
    has_date: bool = False
    has_server: bool = False
    reusable: bool = True
    events: bool = False

    @property
    def status_line(self) -> bytes:
        return STATUS_LINES.get(self.status) or b"HTTP/1.1 %d " % self.status


def parse(head: bytes, *, most_headers: int) -> Answer | None:
    """`head` without the empty line that ends it. None: a 1xx, after which the answer proper comes. Raises Broken."""
    first, *lines = head.split(b"\r\n")
    status, old = _status(first)
    if status < 200:
        if status == 101:
            raise Broken("it changed to another protocol unasked")
        return None
    if len(lines) > most_headers:
        raise Broken("its answer has too many headers")
    kept: list[bytes] = []
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
        answer.lines = without(kept, connection)
    _frame(answer)
    return answer


@lru_cache(64)
def _status(first: bytes) -> tuple[int, bool]:
    found = _FIRST.fullmatch(first)
    if found is None:
        raise Broken("what it sent is not HTTP")
    return int(found[2]), found[1] == b"0"


def _tell(answer: Answer, name: bytes, value: bytes) -> bool:
    """Whether the line passes."""
    match name:
        case b"content-type":
            answer.events = value[:17].lower() == b"text/event-stream"
            return True
        case b"content-length":
            if answer.length is not None or not _DIGITS.fullmatch(value):
                raise Broken("its answer has no clear Content-Length")
            answer.length = value
            return False
        case b"transfer-encoding":
            if answer.chunked or answer.old or value.lower() != b"chunked":
                raise Broken("its answer has a Transfer-Encoding that is not just chunked")
            answer.chunked = True
            return False
        case b"date":
            first, answer.has_date = not answer.has_date, True
            return first
        case b"server":
            first, answer.has_server = not answer.has_server, True
            return first
        case _:
            return name == b"content-encoding"


def _frame(answer: Answer) -> None:
    if answer.chunked:
        if answer.length is not None:
            raise Broken("its answer says in two ways how long it is")
        if answer.status in _BODILESS:
            raise Broken(f"it answered {answer.status} and announced a body")
        answer.framing = Chunked()
    elif answer.status in _BODILESS:
        answer.length = answer.length if answer.status == 304 else None
        answer.framing = Counted(0)
    elif answer.length is not None:
        answer.framing = Counted(int(answer.length))
    else:
        answer.framing, answer.reusable = UntilClose(), False
    answer.reusable = answer.reusable and not answer.old
