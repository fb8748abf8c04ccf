"""The head of an engine's answer, read as strictly as a request's: a broken engine must not speak for vllama."""

import re
from http import HTTPStatus

import msgspec

from vllama.gateway.headers import HOP_BY_HOP, SAID_ANEW_IN_ANSWERS
from vllama.gateway.wire.framing import Chunked, Counted, Framing, UntilClose

_LINE_BREAK = b"\r\n"
_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]*+)?+\r\n"
    rb"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]++:[\t -~\x80-\xff]*+\r\n)*+)\r\n"
)
_DIGITS = re.compile(rb"[0-9]{1,18}")
_BODILESS = frozenset((204, 304))
STATUS_LINES = {status.value: b"HTTP/1.1 %d %s\r\n" % (status, status.phrase.encode()) for status in HTTPStatus}


class Broken(ValueError):
    """The engine does not speak HTTP as it must; the text says in what."""


class Answer(msgspec.Struct, kw_only=True):
    """`lines`: the headers that pass, with their line breaks, without those of the framing."""

    status: int
    lines: bytes
    framing: Framing
    length: bytes | None
    has_date: bool
    has_server: bool
    reusable: bool
    events: bool

    @property
    def status_line(self) -> bytes:
        return STATUS_LINES.get(self.status) or b"HTTP/1.1 %d \r\n" % self.status


def parse(head: bytes, *, most_headers: int) -> Answer | None:
    """`head` ends with its first empty line. None: a 1xx, after which the answer proper comes. Raises Broken."""
    found = _HEAD.fullmatch(head)
    if found is None:
        raise Broken("what it sent is not HTTP")
    minor, digits, block = found.groups()
    status = int(digits)
    if status < 200:
        if status == 101:
            raise Broken("it changed to another protocol unasked")
        return None
    lines = block.split(_LINE_BREAK)
    if len(lines) > most_headers + 1:
        raise Broken("its answer has too many headers")
    return _read(lines, status=status, old=minor == b"0")


def _read(lines: list[bytes], *, status: int, old: bool) -> Answer:
    answer = Answer(
        status=status, lines=b"", framing=_NOT_SAID, length=None, has_date=False, has_server=False,
        reusable=not old, events=False,
    )  # fmt: skip
    kept: list[bytes] = []
    named: list[bytes] = []
    packed = chunked = False
    for line in lines:
        name, _, value = line.partition(b":")
        name = name.lower()
        if name == b"date":
            if answer.has_date:
                continue
            answer.has_date = True
        elif name == b"server":
            if answer.has_server:
                continue
            answer.has_server = True
        elif name == b"content-type":
            answer.events = value.strip()[:17].lower() == b"text/event-stream"
        elif name == b"content-encoding":
            packed = True
        elif name == b"content-length":
            answer.length = _length(value.strip(), before=answer.length)
            continue
        elif name == b"transfer-encoding":
            if chunked or old or value.strip().lower() != b"chunked":
                raise Broken("its answer has a Transfer-Encoding that is not just chunked")
            chunked = True
            continue
        elif name == b"connection":
            named += [one.strip().lower() for one in value.split(b",")]
            continue
        elif not name or name in HOP_BY_HOP or name in SAID_ANEW_IN_ANSWERS:
            continue
        kept.append(line)
    if chunked and answer.length is not None:
        raise Broken("its answer says in two ways how long it is")
    if named:
        answer.reusable = answer.reusable and b"close" not in named
        kept = [line for line in kept if line.partition(b":")[0].lower() not in named]
    kept.append(b"")
    answer.lines = _LINE_BREAK.join(kept)
    answer.framing = _framing(answer, chunked=chunked)
    answer.events = answer.events and not packed and chunked
    return answer


_NOT_SAID = UntilClose()


def _length(value: bytes, *, before: bytes | None) -> bytes:
    if before is not None:
        raise Broken("its answer says twice how long it is")
    if not _DIGITS.fullmatch(value):
        raise Broken("its answer has a Content-Length that is no number")
    return value


def _framing(answer: Answer, *, chunked: bool) -> Framing:
    if answer.status in _BODILESS:
        if chunked:
            raise Broken(f"it answered {answer.status} and announced a body")
        if answer.status == 204:
            answer.length = None
        return Counted(0)
    if chunked:
        return Chunked()
    if answer.length is not None:
        return Counted(int(answer.length))
    answer.reusable = False
    return UntilClose()
