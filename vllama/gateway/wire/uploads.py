"""What the bodies hold together that are still coming in; what waits for a model afterwards is `queue_memory`.

What was sent counts, not what was announced: whoever announces much and sends nothing takes no room from others. Beyond
the bound whoever comes with a large body, or goes on with one, is refused, and what it held is free for those who stay.
"""

from typing import Final

from vllama.domain.units import KIB
from vllama.gateway import errors
from vllama.gateway.inference import Refused
from vllama.gateway.wire.body import ChunkedBody, CountedBody
from vllama.gateway.wire.limits import Limits

SMALL_BYTES: Final = 256 * KIB  # neither counted nor refused: the number of connections bounds these


class Uploads:
    def __init__(self, limits: Limits) -> None:
        self.held_bytes = 0
        self.most_bytes = max(limits.uploads_bytes, limits.body_bytes)  # one body must be possible
        self._limit_bytes = limits.body_bytes

    def body(self, length: int, *, chunked: bool) -> "CountedBody | LargeBody":
        """Raises Refused."""
        if chunked:
            return LargeBody(ChunkedBody(limit_bytes=self._limit_bytes), self)
        if length <= SMALL_BYTES:
            return CountedBody(length)
        if self.held_bytes + length > self.most_bytes:
            raise Refused(errors.upload_memory_full(self.most_bytes))
        return LargeBody(CountedBody(length), self)


class LargeBody:
    """One that is, or may become, large."""

    __slots__ = ("_body", "_counted", "_uploads")

    def __init__(self, body: CountedBody | ChunkedBody, uploads: Uploads) -> None:
        self._body, self._uploads = body, uploads
        self._counted = 0  # bytes, in the sum

    def feed(self, data: bytes) -> bytes:
        """Returns what is behind the body. Raises Refused."""
        behind = self._body.feed(data)
        held = self._body.held_bytes
        if held > SMALL_BYTES and not self._body.done:
            self._uploads.held_bytes += held - self._counted
            self._counted = held
            if self._uploads.held_bytes > self._uploads.most_bytes:
                raise Refused(errors.upload_memory_full(self._uploads.most_bytes))
        return behind

    @property
    def done(self) -> bool:
        return self._body.done

    def whole(self) -> bytes | bytearray:
        self.drop()
        return self._body.whole()

    def drop(self) -> None:
        """It holds nothing any more, or is none of those that are still coming in."""
        self._uploads.held_bytes -= self._counted
        self._counted = 0
