"""Which headers pass. What passes, passes as it is and in its order."""

from collections.abc import Iterable

Header = tuple[bytes, bytes]

# They speak of one connection, not of the message (RFC 9110, 7.6.1).
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-connection proxy-authenticate proxy-authorization te trailer "
    b"transfer-encoding upgrade http2-settings".split()
)
# The body has arrived in full, perhaps renamed: what speaks of its transport is said anew.
_NOT_TO_APP = HOP_BY_HOP | {b"content-length", b"expect"}
_NOT_TO_ENGINE = _NOT_TO_APP | {b"host"}  # an engine is another host
# What vllama says in every answer, and nobody else may.
SAID_ANEW_IN_ANSWERS = frozenset((b"x-vllama-state", b"x-vllama-wait-ms"))


def to_engine(headers: Iterable[Header]) -> list[Header]:
    """Names in lower case."""
    return _without(headers, _NOT_TO_ENGINE)


def to_app(headers: Iterable[Header]) -> list[Header]:
    """Names in lower case."""
    return _without(headers, _NOT_TO_APP)


def _without(headers: Iterable[Header], dropped: frozenset[bytes]) -> list[Header]:
    kept, named = [], b""
    for header in headers:
        name = header[0]
        if name not in dropped:
            kept.append(header)
        elif name == b"connection":
            named += b"," + header[1].lower()
    if named:
        # A client cannot take from us what we say anew, and Host is what the admin API goes by.
        gone = {name.strip() for name in named.split(b",")} - {b"host"}
        kept = [header for header in kept if header[0] not in gone]
    return kept
