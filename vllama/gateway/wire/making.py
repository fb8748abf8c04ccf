"""A request to /v1/responses on its way back: the id of the response is seen as it goes by."""

import re

import msgspec

from vllama.controller.demand import Endpoint
from vllama.gateway.makers import Makers
from vllama.gateway.wire.answer import Answer
from vllama.gateway.wire.engine import Asker

# The first `id` of a response, or of the first event about it, is its own. A client may have chosen it.
_ID = re.compile(rb'"id": ?"([^"\\]{1,200})"')
_WITHIN_BYTES = 4096
_OK = b"HTTP/1.1 200 "


class Making:
    """Stands between an engine and whoever asked it for a response. Nothing is kept back or changed."""

    def __init__(
        self, asker: Asker, makers: Makers, endpoint: Endpoint, *, model: str, body: bytes | bytearray
    ) -> None:
        self.unchunked = asker.unchunked
        self._asker, self._makers, self._endpoint, self._model = asker, makers, endpoint, model
        self._asked = _asked(body)
        self._id: str | None = None
        self._looks = False
        self._seen = b""

    @property
    def goes_on(self) -> str | None:
        """The id of a response that the engine works on when nobody listens any more; None: there is none."""
        return self._id if self._asked.background else None

    def answered(self, head: Answer, length: int, data: bytes) -> None:
        self._looks = self._asked.store is not False and head.lines.startswith(_OK)
        self._look(data)
        self._asker.answered(head, length, data)

    def whole(self, head: Answer, length: int, data: bytes) -> None:
        self.answered(head, length, data)
        self.complete()

    def piece(self, data: bytes) -> None:
        self._look(data)
        self._asker.piece(data)

    def complete(self) -> None:
        self._asker.complete()

    def broken(self, why: str, *, stale: bool) -> None:
        self._asker.broken(why, stale=stale)

    def silent(self, limit_s: float) -> None:
        self._asker.silent(limit_s)

    def _look(self, data: bytes) -> None:
        if not self._looks:
            return
        self._seen += data[:_WITHIN_BYTES]
        if found := _ID.search(self._seen):
            self._id = found[1].decode("utf-8", "replace")
            self._makers.remember(self._id, model=self._model, engine_id=self._endpoint.engine_id)
        if found or len(self._seen) >= _WITHIN_BYTES:
            self._looks, self._seen = False, b""


class _Asked(msgspec.Struct):
    background: bool | None = False
    store: bool | None = True


def _asked(body: bytes | bytearray) -> _Asked:
    try:
        return msgspec.json.decode(body, type=_Asked)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Asked()  # the engine will say what is wrong with it
