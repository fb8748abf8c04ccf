"""Pages whose own name was made to resolve to this machine (DNS rebinding): their browser takes us for their site, and
lets them read all that we say. What gives them away is that name, which such a browser shows as Host and as Origin.
"""

import socket
from collections.abc import Iterable
from functools import cache
from urllib.parse import urlsplit

from vllama.gateway.forwarded import is_address
from vllama.gateway.headers import PROXY_HEADERS

# Nobody far away is given such a name.
_NEAR = (".localhost", ".local", ".internal", ".lan", ".home.arpa")


def may_be_rebound(host: bytes, origin: bytes, lines: Iterable[bytes]) -> bool:
    """A page of `origin` asks its own site, which has a name that anybody may own. `lines`: the other headers.

    Through a proxy that says so it may have any name.
    """
    try:
        page, name = urlsplit(origin.decode("latin-1")), urlsplit(f"//{host.decode('latin-1')}").hostname or ""
    except ValueError:
        return False
    if page.netloc.lower() != host.decode("latin-1").lower() or "." not in name or name.endswith(_NEAR):
        return False
    if is_address(name) or name == _own_name():
        return False
    return not any(line.partition(b":")[0].lower() in PROXY_HEADERS for line in lines)


@cache
def _own_name() -> str:
    return socket.gethostname().lower()
