"""A request on its way to an engine, or to somebody else's server, which may be a vllama that lists this one."""

from vllama.controller.demand import Endpoint
from vllama.gateway import errors
from vllama.gateway.inference import Refused
from vllama.gateway.wire.request import PASSED, Request

_MOST_PASSED = 5


def addressed(forward: bytes, endpoint: Endpoint) -> bytes:
    """The first line and the headers of a request, as they are wanted there, but for Host and key."""
    if endpoint.base_path:
        method, _, rest = forward.partition(b" ")
        forward = b"%b %b%b" % (method, endpoint.base_path.encode(), rest)
    return forward + PASSED if endpoint.elsewhere else forward


def no_round(request: Request, endpoint: Endpoint, model: str) -> None:
    """Raises Refused where servers pass a request round."""
    if endpoint.elsewhere and request.passed >= _MOST_PASSED:
        raise Refused(errors.goes_round(model, endpoint.authority))
