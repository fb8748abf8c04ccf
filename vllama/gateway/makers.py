"""Which engine made which response of /v1/responses, for so many of them and for so long."""

from collections.abc import Callable
from dataclasses import dataclass

_MOST = 10_000
_KEPT_S = 24 * 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    model: str
    engine_id: str
    at: float


class Makers:
    def __init__(self, *, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._makers: dict[str, Maker] = {}  # the oldest first

    def remember(self, response_id: str, *, model: str, engine_id: str) -> None:
        """Of several with one id, which a client may choose, the latest."""
        now = self._clock()
        self._makers.pop(response_id, None)
        self._makers[response_id] = Maker(model=model, engine_id=engine_id, at=now)
        while len(self._makers) > _MOST or now - self._makers[next(iter(self._makers))].at > _KEPT_S:
            del self._makers[next(iter(self._makers))]

    def of(self, response_id: str) -> Maker | None:
        return self._makers.get(response_id)
