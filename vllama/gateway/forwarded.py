"""Which way a request came: what proxies write into X-Forwarded-For or Forwarded (RFC 7239), as far as it counts.

Anybody can write these headers. Only a proxy that was named to vllama is believed, and only in what it wrote itself:
each appends the address that it saw, so the entries are read from the right, for as long as who wrote them is believed.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from vllama.gateway.headers import PROXY_HEADERS, Header

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network
# An element is pairs, a value is a token or quoted: for=1.2.3.4;proto=https, for="[::1]:80"
_PAIR = re.compile(r'[\t ]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=("(?:[^"\\]|\\.)*"|[^",;\t ]*)[\t ]*(;|,|$)')


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxies:
    """Whose word counts. None by default."""

    networks: tuple[_Network, ...] = ()

    def believes(self, address: str | None) -> bool:
        ip = _ip(address)
        return ip is not None and any(ip in network for network in self.networks)

    def way(self, peer: str | None, headers: Iterable[Header]) -> tuple[str | None, ...]:
        """The addresses that a request came from and through: the client's first, `peer` last. None: cannot be told.

        `headers` with names in lower case. A peer that is not believed is the client, whatever it says.
        """
        way = [peer]
        if not self.believes(peer):
            return (peer,)
        for address in reversed(_told(headers)):
            way.insert(0, address)
            if not self.believes(address):
                break
        return tuple(way)


def proxies(text: str) -> Proxies:
    """From `127.0.0.1, 10.0.0.0/8`. Raises ValueError with a text for people."""
    networks: list[_Network] = []
    for word in text.replace(",", " ").split():
        try:
            networks.append(ipaddress.ip_network(word))
        except ValueError as error:
            hint = "; name the proxies, or anybody could say anything" if word == "*" else ""
            raise ValueError(f"{word!r} is no address or network: {error}{hint}") from None
    return Proxies(networks=tuple(networks))


def is_loopback(address: str | None) -> bool:
    ip = _ip(address)
    return ip is not None and ip.is_loopback


def is_address(text: str) -> bool:
    return _ip(text) is not None


def _told(headers: Iterable[Header]) -> Sequence[str | None]:
    """What the headers say, leftmost first; [None] where a proxy did not say it, or two headers disagree."""
    values = [(name, value.decode("latin-1")) for name, value in headers if name in PROXY_HEADERS]
    usual = [part for name, value in values if name == b"x-forwarded-for" for part in value.split(",")]
    standard = [part for name, value in values if name == b"forwarded" for part in _of_rfc_7239(value)]
    if usual and standard:  # one of them may be the client's own
        told = [_address(part) for part in usual]
        return told if told == [_address(part or "") for part in standard] else [None]
    if usual or standard:
        return [None if part is None else _address(part) for part in usual or standard]
    return [None] if values else []


def _of_rfc_7239(value: str) -> list[str | None]:
    """The `for` of each element; None where it has none. [None] where the whole is not as it must be."""
    found: list[str | None] = []
    at, begun = 0, False
    while at < len(value):
        pair = _PAIR.match(value, at)
        if pair is None:
            return [None]
        if not begun:
            found.append(None)
        if pair[1].lower() == "for":
            found[-1] = re.sub(r"\\(.)", r"\1", pair[2][1:-1]) if pair[2].startswith('"') else pair[2]
        at, begun = pair.end(), pair[3] == ";"
    return found or [None]


def _address(part: str) -> str | None:
    """`1.2.3.4`, `1.2.3.4:80`, `[::1]:80`, `::1`; None for `unknown`, `_hidden` and whatever else."""
    word = part.strip()
    bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?", word)
    with_port = re.fullmatch(r"([0-9.]+):\d+", word)
    found = bracketed or with_port
    ip = _ip(found[1] if found else word)
    return None if ip is None else str(ip)


def _ip(address: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        ip = ipaddress.ip_address(address or "")
    except ValueError:
        return None
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    return mapped or ip
