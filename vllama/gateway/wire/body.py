"""The body of a request as it comes in. It must be there in full, since `model` may stand at its end."""

from vllama.gateway import errors
from vllama.gateway.inference import Refused
from vllama.gateway.wire.framing import Chunked, Unframed

_MANY = 64  # pieces: small ones need many times the memory of what is in them


class CountedBody:
    def __init__(self, length: int) -> None:
        """Whoever calls has seen to it that `length` is within the limit."""
        self._length = self._left = length
        self._pieces: list[bytes] = []
        self._before = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Returns what is behind the body."""
        behind = data[self._left :]
        self._pieces.append(data[: self._left])
        self._left -= len(data) - len(behind)
        if len(self._pieces) > _MANY:
            self._before += b"".join(self._pieces)
            self._pieces.clear()
        return behind

    @property
    def done(self) -> bool:
        return not self._left

    @property
    def held_bytes(self) -> int:
        return self._length - self._left

    def whole(self) -> bytes | bytearray:
        if self._before:
            return self._before + b"".join(self._pieces)
        return b"".join(self._pieces)


class ChunkedBody:
    def __init__(self, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._framing = Chunked()
        self._body = bytearray()

    def feed(self, data: bytes) -> bytes:
        """Returns what is behind the body. Raises Refused."""
        try:
            used = self._framing.feed(data, self._body)
        except Unframed as error:
            raise Refused(errors.malformed(str(error))) from None
        if len(self._body) > self._limit_bytes:
            raise Refused(errors.too_large(self._limit_bytes))
        return data[used:]

    @property
    def done(self) -> bool:
        return self._framing.done

    @property
    def held_bytes(self) -> int:
        return len(self._body)

    def whole(self) -> bytes | bytearray:
        return self._body
