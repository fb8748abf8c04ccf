"""The heads of one client's requests, in whatever pieces they come."""

import re
from typing import Final

from vllama.gateway import errors
from vllama.gateway.inference import Refused
from vllama.gateway.wire.alike import Alike
from vllama.gateway.wire.limits import Limits
from vllama.gateway.wire.request import Request, parse

_END_OF_HEAD: Final = b"\r\n\r\n"
_CARRIAGE_RETURN: Final = 13
_EMPTY_LINES = re.compile(rb"(?:\r\n)+")
_LONE_LINE_FEED = re.compile(rb"(?<!\r)\n")

Taken = tuple[Request | None, int, int, bytes]


class Heads:
    """`alike`: what the next head is probably like; None while a part of one is kept, or nothing is known."""

    def __init__(self, limits: Limits) -> None:
        self.alike: Alike[Request] | None = None
        self._limits = limits
        self._partial = bytearray()
        self._latest: Request | None = None

    def take(self, data: bytes) -> Taken:
        """A request, the length of its body, where that begins, and in what. Raises Refused.

        None: its head is not whole. What is to be read further is given back then, and if nothing is the rest is kept.
        """
        end = -1 if self._partial or data[0] == _CARRIAGE_RETURN else data.find(_END_OF_HEAD)
        if end < 0:
            data, end = self._put_together(data)
            if end < 0:
                return None, 0, 0, data
        if end > self._limits.head_bytes:
            raise Refused(errors.head_too_large("longer headers"))
        request, length = parse(data[:end], most_headers=self._limits.headers)
        if request is self._latest:
            self.alike = Alike(data[:end], request)
        self._latest = request
        return request, length, end + 4, data

    @property
    def begun(self) -> bool:
        """A part of one is kept."""
        return bool(self._partial)

    def forget(self) -> None:
        self._partial.clear()

    def _put_together(self, data: bytes) -> tuple[bytes, int]:
        """With what came before, and where the head ends; -1, and then what is to be read further. Raises Refused."""
        partial = self._partial
        if not partial and (lines := _EMPTY_LINES.match(data)):
            return data[lines.end() :], -1  # some clients send one behind a body
        seen = max(0, len(partial) - 3)
        partial += data
        self.alike = None
        end = partial.find(_END_OF_HEAD, seen)
        if end >= 0:
            data = bytes(partial)
            partial.clear()
            if lines := _EMPTY_LINES.match(data):
                return data[lines.end() :], -1
            return data, end
        if len(partial) > self._limits.head_bytes:
            raise Refused(errors.head_too_large("longer headers"))
        if _LONE_LINE_FEED.search(partial, seen):
            raise Refused(errors.malformed("it has a line feed without a carriage return before it"))
        return b"", -1
