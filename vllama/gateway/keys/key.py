"""What a key is and may do, and how a request shows one.

Only the SHA-256 of a key is kept. That is enough, and a salt or a slow hash would only make every request dearer: a
key is 256 random bits, so there is no dictionary to try, and nobody finds the key of a hash. It also makes comparing
safe: what is looked up is the hash, of which nobody who guesses can choose any part, so the time that it takes says
nothing of any key.
"""

import enum
import hashlib
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vllama.gateway.headers import Header

# Whoever finds one in a log or a repository sees what it is, and so do the scanners that look for such.
_PREFIX = "vllama-"
_PLAIN = (b"x-api-key", b"api-key")


class Scope(enum.StrEnum):
    MODELS = "models"
    ADMIN = "admin"  # and the models too


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    name: str
    scope: Scope


Ring = Mapping[bytes, Key]  # by digest


def new_secret() -> str:
    return _PREFIX + secrets.token_urlsafe(32)


def digest_of(secret: bytes) -> bytes:
    """32 bytes."""
    return hashlib.sha256(secret).digest()


def shown(headers: Iterable[Header]) -> bytes | None:
    """The digest of the key that a request shows; names in lower case. Of several: Bearer, x-api-key, api-key."""
    values = dict(reversed(list(headers)))
    scheme, _, secret = values.get(b"authorization", b"").partition(b" ")
    secret = secret.strip(b"\t ") if scheme.lower() == b"bearer" else b""
    for name in _PLAIN:
        secret = secret or values.get(name, b"")
    return digest_of(secret) if secret else None
