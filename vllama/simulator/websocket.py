"""The server's side of a websocket, as far as a simulated engine needs it."""

import base64
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
TEXT, CLOSE, PING, PONG = 1, 8, 9, 10


@dataclass(frozen=True, slots=True)
class Message:
    """Pieces of one message are put together."""

    opcode: int
    payload: bytes


def accept(key: str) -> str:
    return base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()  # noqa: S324 - RFC 6455


def frame(opcode: int, payload: bytes) -> bytes:
    length = len(payload)
    if length < 126:
        return bytes((0x80 | opcode, length)) + payload
    if length < 1 << 16:
        return bytes((0x80 | opcode, 126)) + length.to_bytes(2) + payload
    return bytes((0x80 | opcode, 127)) + length.to_bytes(8) + payload


class MessageReader:
    def __init__(self) -> None:
        self._bytes = bytearray()
        self._opcode = 0
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[Message]:
        self._bytes += data
        while (found := self._take_frame()) is not None:
            final, opcode, payload = found
            if opcode >= CLOSE:
                yield Message(opcode, payload)
                continue
            self._opcode = opcode or self._opcode
            self._pieces.append(payload)
            if final:
                yield Message(self._opcode, b"".join(self._pieces))
                self._pieces.clear()

    def _take_frame(self) -> tuple[bool, int, bytes] | None:
        data = self._bytes
        if len(data) < 2:
            return None
        length, start = data[1] & 127, 2
        if length > 125:
            start += 2 if length == 126 else 8
            length = int.from_bytes(data[2:start])
        mask = data[start : start + 4]
        start += 4
        if len(data) < start + length:
            return None
        payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(data[start : start + length]))
        final, opcode = bool(data[0] & 0x80), data[0] & 15
        del data[: start + length]
        return final, opcode, payload
