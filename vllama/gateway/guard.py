"""Who may speak to the admin API: who shows a key for it, and programs on this machine, directly. And no web page."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.types import Scope as AsgiScope

from vllama.gateway import errors
from vllama.gateway.errors import ErrorAnswer
from vllama.gateway.forwarded import Proxies, is_loopback
from vllama.gateway.headers import PROXY_HEADERS, Header
from vllama.gateway.keys.key import Key, Scope
from vllama.gateway.keys.ring import Keyring

KEY = "vllama.key"  # in the `state` of an ASGI scope: the Key that the request showed, or None


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """`admin_loopback`: a program on this machine needs no key for the admin API. `proxies`: whose word counts."""

    keyring: Keyring = field(default_factory=Keyring)
    admin_loopback: bool = True
    proxies: Proxies = field(default_factory=Proxies)

    def admin_refusal(self, scope: AsgiScope) -> ErrorAnswer | None:
        """None: welcome. A key only adds to what its bearer may do anyway."""
        client, headers, key = scope.get("client"), scope["headers"], scope.get("state", {}).get(KEY)
        if key is not None and key.scope is Scope.ADMIN:
            why = from_another_site(headers)
            return None if why is None else errors.forbidden(why)
        why = not_from_here(self.proxies.way(client[0] if client else None, headers), self._told(client, headers))
        if why is None and self.admin_loopback:
            return None
        return self._without(key, why)

    def _told(self, client: Sequence[str] | None, headers: Iterable[Header]) -> list[Header]:
        """Without what a proxy said that is believed."""
        believed = client is not None and self.proxies.believes(client[0])
        return [header for header in headers if not (believed and header[0] in PROXY_HEADERS)]

    def _without(self, key: Key | None, why: str | None) -> ErrorAnswer:
        if self.keyring.ring is None:
            return errors.forbidden(why or "The admin API wants a key (--no-admin-loopback), and there are no keys.")
        if key is None:
            return errors.unauthorized(b"/admin")
        return errors.forbidden(
            f"The key {key.name} is for the models only; the admin API wants one that was added with --scope admin."
        )


def not_from_here(way: Sequence[str | None], headers: Iterable[Header]) -> str | None:
    """Why this is no program on this machine, as a sentence; None: it is one. Header names in lower case.

    `way`: the addresses that the request came from and through. A page in the operator's browser comes from loopback
    too. Its Origin gives it away; and where its own name was made to resolve to 127.0.0.1 (DNS rebinding), the Host
    header does.
    """
    headers = list(headers)
    for address in way:
        if not is_loopback(address):
            who = address or "nowhere known"
            return f"The admin API answers only to this machine itself, and this came from {who}."
    for name, _ in headers:
        if name in PROXY_HEADERS:
            return f"The admin API takes nothing through a proxy, and this has a header {name.decode()}."
    hosts = _values(headers, b"host")
    if len(hosts) != 1 or not _names_loopback(hosts[0]):
        return f"The admin API is called as localhost or a loopback address, not as {', '.join(hosts) or 'nothing'}."
    return from_another_site(headers)


def from_another_site(headers: Iterable[Header]) -> str | None:
    """Which other site's page this comes from, as a sentence; None: none."""
    headers = list(headers)
    hosts = [host.lower() for host in _values(headers, b"host")]
    for origin in _values(headers, b"origin"):
        if [_host_of(origin)] != hosts:
            return f"The admin API takes nothing from pages of other sites, and this came from one of {origin}."
    return None


def _values(headers: Iterable[Header], wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name == wanted]


def _names_loopback(host: str) -> bool:
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name == "localhost" or name.endswith(".localhost") or is_loopback(name)


def _host_of(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
