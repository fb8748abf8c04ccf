"""Whether a request is let in, by its head alone: nothing of a stranger's body is waited for."""

from collections.abc import Sized

from vllama.gateway import errors
from vllama.gateway.cors import Origins
from vllama.gateway.forwarded import is_loopback
from vllama.gateway.guard import from_another_site
from vllama.gateway.inference import Refused
from vllama.gateway.keys.ring import Keyring
from vllama.gateway.paths import Need, Way
from vllama.gateway.wire.limits import Limits, is_crowd
from vllama.gateway.wire.request import Request

_REALTIME = Way.REALTIME  # in Python 3.11 a member of an enum costs more than a call


def let_in(request: Request, keyring: Keyring, origins: Origins | None, *, peer: str) -> None:
    """Raises Refused. `peer` is an address.

    /admin is let in here: `guard` decides on it, by the path as the routes read it.
    """
    to, ring = request.to, keyring.ring
    if ring is not None and request.key not in ring and to.need is Need.MODELS and not _is_preflight(request, origins):
        raise Refused(errors.unauthorized(to.path))
    if request.rebound and ring is None and is_loopback(peer) and not cors_lines(request, origins):
        raise Refused(errors.rebound((request.host or b"").decode("latin-1")))
    if to.way is _REALTIME and request.origin is not None and not cors_lines(request, origins):
        _refuse_other_sites(request, request.origin)


def keep_out(request: Request, connections: Sized, limits: Limits) -> None:
    """Who came when there was no more room may still ask how the server does. Raises Refused."""
    if request.to.way is not Way.OURS and is_crowd(connections, limits):
        raise Refused(errors.too_many_connections())


def cors_lines(request: Request, origins: Origins | None) -> bytes:
    """Header lines that let the page which asks read the answer, each with its line break; mostly none."""
    if origins is None or request.origin is None or request.to.need is Need.ADMIN:
        return b""
    return origins.lines(request.origin)


def _is_preflight(request: Request, origins: Origins | None) -> bool:
    """Browsers ask for leave without showing a key."""
    return request.preflight is not None and bool(cors_lines(request, origins))


def _refuse_other_sites(request: Request, origin: bytes) -> None:
    """Any page may open a websocket to anywhere, and read it, without asking."""
    if from_another_site(((b"host", request.host or b""), (b"origin", origin))) is not None:
        raise Refused(errors.forbidden("A page of another site opens this websocket; --cors-origins could allow it."))
