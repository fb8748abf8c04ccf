"""Who may speak to the admin API: programs on this machine, directly. Nobody else, and no web page."""

import ipaddress
from collections.abc import Iterable
from urllib.parse import urlsplit

from vllama.gateway.headers import Header

_PROXY_HEADERS = (b"x-forwarded-for", b"x-real-ip", b"forwarded", b"via")


def admin_refusal(peer: str | None, headers: Iterable[Header]) -> str | None:
    """Why not, as a sentence; None: welcome. `peer` is the address of the other end; header names in lower case.

    A page in the operator's browser comes from loopback too. Its Origin gives it away; and where its own name was made
    to resolve to 127.0.0.1 (DNS rebinding), the Host header does.
    """
    if peer is None or not _is_loopback(peer):
        return f"The admin API answers only to this machine itself, and this came from {peer or 'nowhere known'}."
    values = [(name, value.decode("latin-1")) for name, value in headers]
    for name, _ in values:
        if name in _PROXY_HEADERS:
            return f"The admin API takes nothing through a proxy, and this has a header {name.decode()}."
    hosts = [value for name, value in values if name == b"host"]
    if len(hosts) != 1 or not _names_loopback(hosts[0]):
        return f"The admin API is called as localhost or a loopback address, not as {', '.join(hosts) or 'nothing'}."
    for name, value in values:
        if name == b"origin" and _host_of(value) != hosts[0].lower():
            return f"The admin API takes nothing from pages of other sites, and this came from one of {value}."
    return None


def _is_loopback(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return (mapped or ip).is_loopback


def _names_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or name.endswith(".localhost") or _is_loopback(name)


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
