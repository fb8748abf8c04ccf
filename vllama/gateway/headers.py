"""Which headers pass. Names come in lower case or not; what passes, passes as it is and in its order."""

from collections.abc import Iterable

Header = tuple[bytes, bytes]

# They speak of one connection, not of the message (RFC 9110, 7.6.1).
_HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer "
    b"transfer-encoding upgrade".split()
)
# The body has arrived in full, perhaps renamed, and goes to another host: these are said anew.
_SAID_ANEW = frozenset((b"host", b"content-length", b"expect"))


def to_engine(headers: Iterable[Header]) -> list[Header]:
    return _without(headers, _HOP_BY_HOP | _SAID_ANEW)


def from_engine(headers: Iterable[Header]) -> list[Header]:
    return _without(headers, _HOP_BY_HOP)


def _without(headers: Iterable[Header], dropped: frozenset[bytes]) -> list[Header]:
    kept = list(headers)
    named = {name.strip().lower() for key, value in kept if key.lower() == b"connection" for name in value.split(b",")}
    return [(key, value) for key, value in kept if (low := key.lower()) not in dropped and low not in named]
