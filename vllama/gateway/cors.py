"""Which web pages may call the models from a browser (CORS). None unless `vllama serve --cors-origins` says so.

Never with credentials: vllama lets nobody in by a cookie, so a page can do no more than the key that it was given. The
admin API takes nothing from other sites in any case.
"""

from collections.abc import Sequence
from urllib.parse import urlsplit

_EXPOSED = b"access-control-expose-headers: retry-after, x-vllama-state, x-vllama-wait-ms\r\n"
_PREFLIGHT = (
    b"access-control-allow-methods: GET, HEAD, POST, DELETE\r\n"
    b"access-control-allow-headers: %b\r\n"
    b"access-control-max-age: 600\r\n"
)


class Origins:
    def __init__(self, allowed: Sequence[str]) -> None:
        """As browsers write them (`https://chat.example`, lower case), or `*` for all."""
        self._everybody = "*" in allowed
        self._allowed = frozenset(origin.encode() for origin in allowed)

    def lines(self, origin: bytes) -> bytes:
        """Headers of an answer for a page of `origin`, each with its line break; empty where it may not read it."""
        if self._everybody:
            return b"access-control-allow-origin: *\r\n" + _EXPOSED
        if origin not in self._allowed:
            return b""
        return b"access-control-allow-origin: %b\r\nvary: Origin\r\n%b" % (origin, _EXPOSED)


def preflight_lines(asked: bytes) -> bytes:
    """Beside `lines`. `asked`: the headers that the page wants to send."""
    return _PREFLIGHT % (asked or b"authorization, content-type, x-api-key")


def origins(text: str) -> Origins | None:
    """From `https://chat.example, http://localhost:3000` or `*`; None for nothing. Raises ValueError, for people."""
    words = text.replace(",", " ").split()
    return Origins([_checked(word) for word in words]) if words else None


def _checked(word: str) -> str:
    origin = word.rstrip("/").lower()
    try:
        parts = urlsplit(origin)
        whole = bool(parts.scheme and parts.netloc) and f"{parts.scheme}://{parts.netloc}" == origin
    except ValueError:
        whole = False
    if origin != "*" and not whole:
        raise ValueError(f"{word!r} is no origin; write for example https://chat.example, or * for all")
    return origin
