"""Websockets (RFC 6455) as far as a tunnel must understand them: the handshake's answer, and where frames end.

No extension is ever agreed on, so that the frames that pass can be read.
"""

import base64
import hashlib
import os
import re
from typing import Final

import msgspec

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = re.compile(rb"[A-Za-z0-9+/]{22}==")
TEXT: Final = 1
CLOSE: Final = 8
PING: Final = 9
PONG: Final = 10
_DATA = (0, 1, 2)
_KNOWN = (*_DATA, CLOSE, PING, PONG)
GOING_AWAY = 1001
PROTOCOL_ERROR = 1002
TOO_BIG = 1009
BROKEN = 1011
_MOST_OF_CONTROL = 125


class BadFrames(ValueError):
    """What came is not as frames must be; the text says in what."""


class Frame(msgspec.Struct, frozen=True):
    """A short one, whole. `raw` is what it was on the wire."""

    opcode: int
    final: bool
    payload: bytes
    raw: bytes

    @property
    def is_data(self) -> bool:
        return self.opcode in _DATA


class _Head(msgspec.Struct, frozen=True):
    opcode: int
    final: bool
    mask: bytes
    start: int  # of the payload
    end: int


def new_key() -> bytes:
    return base64.b64encode(os.urandom(16))


def is_key(value: bytes) -> bool:
    return _KEY.fullmatch(value) is not None


def accept_of(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + _GUID).digest())  # noqa: S324  # as the protocol has it


def frame(opcode: int, payload: bytes, *, masked: bool) -> bytes:
    """A whole one. Clients mask theirs, servers do not."""
    length, flag = len(payload), 0x80 if masked else 0
    if length < 126:
        head = bytes((0x80 | opcode, flag | length))
    elif length < 1 << 16:
        head = bytes((0x80 | opcode, flag | 126)) + length.to_bytes(2)
    else:
        head = bytes((0x80 | opcode, flag | 127)) + length.to_bytes(8)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + _masked(payload, mask)


def close_frame(code: int, reason: str, *, masked: bool) -> bytes:
    words = reason.encode()[: _MOST_OF_CONTROL - 2].decode(errors="ignore").encode()  # no half a letter
    return frame(CLOSE, code.to_bytes(2) + words, masked=masked)


class Frames:
    """One direction of a connection. A frame of up to `short_bytes` comes whole, of a longer one what there is."""

    def __init__(self, *, masked: bool, short_bytes: int) -> None:
        self._masked = masked
        self._short_bytes = short_bytes
        self._begun = b""  # a frame of which the rest is to come
        self._left = 0  # of a long frame
        self.closed = False  # a close frame went by: nothing follows it

    @property
    def between(self) -> bool:
        """No frame is begun, so that one of ours could follow."""
        return not self._left and not self._begun

    def feed(self, data: bytes) -> list[Frame | bytes]:
        """Raises BadFrames."""
        data, self._begun = self._begun + data if self._begun else data, b""
        came: list[Frame | bytes] = []
        at, size = 0, len(data)
        while at < size:
            if not self._left:
                head = self._head(data, at)
                if head is None:
                    break
                if head.end - head.start <= self._short_bytes:
                    if head.end > size:
                        break
                    payload = data[head.start : head.end]
                    came.append(Frame(head.opcode, head.final, _masked(payload, head.mask), data[at : head.end]))
                    at = head.end
                    continue
                self._left = head.end - at
            piece = data[at : at + self._left]
            self._left -= len(piece)
            at += len(piece)
            came.append(piece)
        self._begun = data[at:]
        return came

    def _head(self, data: bytes, at: int) -> _Head | None:
        """None: it is not all there yet."""
        if len(data) - at < 2:
            return None
        first, second = data[at], data[at + 1]
        opcode, length, start = first & 15, second & 127, at + 2
        if first & 0x70 or opcode not in _KNOWN or self.closed:
            raise BadFrames("a frame is of no kind that was agreed on")
        if bool(second & 0x80) is not self._masked:
            raise BadFrames("a frame is masked that must not be, or the other way round")
        if opcode >= CLOSE and (length > _MOST_OF_CONTROL or not first & 0x80):
            raise BadFrames("a control frame is too long or cut")
        if length >= 126:
            width = 2 if length == 126 else 8
            start += width
            length = int.from_bytes(data[at + 2 : start])
        mask = data[start : start + 4] if self._masked else b""
        start += 4 if self._masked else 0
        if len(data) < start:
            return None
        if length >> 63:
            raise BadFrames("a frame is longer than any can be")
        self.closed = opcode == CLOSE and len(data) >= start + length
        return _Head(opcode, bool(first & 0x80), mask, start, start + length)


def _masked(payload: bytes, mask: bytes) -> bytes:
    if not mask or not payload:
        return payload
    size = len(payload)
    key = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload) ^ int.from_bytes(key)).to_bytes(size)
