"""Where the body of a message ends (RFC 9112, 6 and 7), read strictly and whatever the cuts between the pieces.

Each framing is fed with what comes and says how much of it belongs to the body; `done` when that was the end.
"""

import re
from typing import Final

# A size as long as that is larger than any body; extensions mean nothing to anybody, so only short ones are read.
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]{0,8}(?:;[\t -~\x80-\xff]{0,64})?\r\n")
_TRAILER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n")
_SIZE_BEGUN = re.compile(rb"(?:[0-9A-Fa-f]{1,15}(?:[ \t]{0,8}|[ \t]{0,8};[\t -~\x80-\xff]{0,64}))\r?")
_TRAILER_BEGUN = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+(?::[\t -~\x80-\xff]*)?)?\r?")
_LONGEST_LINE_BYTES = 4096
_CRLF: Final = b"\r\n"
LENGTHS = 2048  # events of one token are shorter


def _line_of(size: int) -> bytes:
    """The line that begins the one chunk which is `size` bytes long with its framing; where there is none, one that
    is longer than whatever it is looked for in.
    """
    lines = (b"%x\r\n" % (size - 4 - digits) for digits in (1, 2, 3) if size > 4 + digits)
    return next((line for line in lines if int(line, 16) + len(line) + 2 == size), bytes(LENGTHS))


LINES = tuple(map(_line_of, range(LENGTHS)))


def is_one_chunk(data: bytes, size: int) -> bool:
    """`data`, of `size` bytes, where a chunk may begin: just one and all of it, as engines send each token."""
    return size < LENGTHS and data.startswith(LINES[size]) and data.endswith(_CRLF)


class Unframed(ValueError):
    """The body is not framed as HTTP has it; the text says what is wrong."""


class Counted:
    """`content-length`."""

    __slots__ = ("_left", "done")
    between = False

    def __init__(self, length: int) -> None:
        self._left = length
        self.done = length == 0

    def feed(self, data: bytes, into: bytearray | None = None) -> int:
        size = len(data)
        if size < self._left:
            self._left -= size
            used = size
        else:
            used, self._left, self.done = self._left, 0, True
        if into is not None:
            into += data[:used]
        return used


class UntilClose:
    """The end of the connection is the end of the body."""

    __slots__ = ("done",)
    between = False

    def __init__(self) -> None:
        self.done = False

    def feed(self, data: bytes, into: bytearray | None = None) -> int:
        if into is not None:
            into += data
        return len(data)


class Chunked:
    """`transfer-encoding: chunked`. `between`: no chunk is begun, so that another one could follow."""

    __slots__ = ("_in_trailers", "_left", "_stash", "_trailers_bytes", "between", "done")

    def __init__(self) -> None:
        self._left = 0  # of the present chunk, with the CRLF behind it
        self._stash = b""  # the beginning of a line, or of that CRLF
        self._in_trailers = False
        self._trailers_bytes = 0
        self.between = True
        self.done = False

    def feed(self, data: bytes, into: bytearray | None = None) -> int:
        """Raises Unframed. What is in the chunks is added to `into`."""
        if self.between and into is None and is_one_chunk(data, size := len(data)):
            return size
        used = self._feed(data, into)
        self.between = not (self._left or self._stash or self._in_trailers or self.done)
        return used

    def _feed(self, data: bytes, into: bytearray | None) -> int:
        lead = len(self._stash)
        if lead:
            data, self._stash = self._stash + data, b""
        at, size = 0, len(data)
        if self._left:
            at = self._payload(data, 0, into)
        while at < size and not self.done and not self._stash:
            if self._in_trailers:
                at = self._trailer(data, at)
                continue
            line = _SIZE.match(data, at)
            if line is None:
                return self._partial(data, at, _SIZE_BEGUN, "a chunk has no proper size") - lead
            length = int(line[1], 16)
            at = line.end()
            if length == 0:
                self._in_trailers = True
                continue
            end = at + length
            if end + 2 <= size:  # a whole chunk, as nearly always
                if data[end : end + 2] != _CRLF:
                    raise Unframed("a chunk is not as long as its size says")
                if into is not None:
                    into += data[at:end]
                at = end + 2
            else:
                self._left = length + 2
                at = self._payload(data, at, into)
        return at - lead

    def _payload(self, data: bytes, at: int, into: bytearray | None) -> int:
        """More of the present chunk."""
        length = self._left - 2
        end = at + length
        if into is not None:
            into += data[at:end]
        if end >= len(data):
            self._left -= len(data) - at
            return len(data)
        behind = data[end : end + 2]
        if not _CRLF.startswith(behind):
            raise Unframed("a chunk is not as long as its size says")
        if len(behind) == 1:
            self._left, self._stash = 2, behind
            return end + 1
        self._left = 0
        return end + 2

    def _trailer(self, data: bytes, at: int) -> int:
        if data.startswith(_CRLF, at):
            self.done = True
            return at + 2
        line = _TRAILER.match(data, at)
        if line is None:
            return self._partial(data, at, _TRAILER_BEGUN, "what follows the last chunk is no trailer")
        self._trailers_bytes += line.end() - at
        if self._trailers_bytes > _LONGEST_LINE_BYTES:
            raise Unframed("the trailers are too long")
        return line.end()

    def _partial(self, data: bytes, at: int, begun: re.Pattern[bytes], why: str) -> int:
        """The line that begins at `at` is to be continued, if it can become one at all."""
        if len(data) - at > _LONGEST_LINE_BYTES or not begun.fullmatch(data, at):
            raise Unframed(why)
        self._stash = data[at:]
        return len(data)


Framing = Counted | Chunked | UntilClose


def end_of_events(tail: bytes) -> bytes:
    """What the last chunk of `tail` ends with, as far as that tells whether an event is complete."""
    if not tail:
        return b""
    whole = tail.endswith(b"\n\n\r\n") and tail[-5:-4] != b"\r"  # else the first \n may be that of a chunk's size
    return b"\n\n" if whole else b"?"


def says_done(tail: bytes) -> bool:
    """Whether the last chunk of `tail`, or `tail` itself, is the event by which OpenAI's streams say that they end."""
    return tail.removesuffix(b"\r\n").endswith(b"data: [DONE]\n\n")
