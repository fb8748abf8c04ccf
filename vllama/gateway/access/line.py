"""One line of the log of requests: what of a request is told, made safe to be shown, as JSON or for a terminal."""

import re
import time
from collections.abc import Callable
from functools import lru_cache

import msgspec

from vllama.gateway.forwarded import Proxies
from vllama.gateway.headers import PROXY_HEADERS, REMEMBERED_BYTES, Header
from vllama.gateway.keys.ring import Keyring
from vllama.gateway.metrics.finished import Finished

_LONGEST = 200
_USER_AGENT = re.compile(rb"\r\nuser-agent:[\t ]*([^\r]*)", re.IGNORECASE)


class Line(msgspec.Struct, gc=False, kw_only=True):
    """As structlog writes its lines: `event` and `level`, then what it is about. `None`: does not apply."""

    event: str = "request"
    level: str = "info"
    timestamp: str = ""
    method: str
    path: str
    model: str = ""
    status: int
    outcome: str
    wait_ms: float = 0.0
    ttft_ms: float | None = None
    duration_ms: float
    bytes_in: int = 0
    bytes_out: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    client: str
    key: str | None = None
    user_agent: str | None = None


class Lines:
    """What is needed beside a request to tell of it: whose keys they are, and which proxies are believed."""

    def __init__(self, *, keyring: Keyring, proxies: Proxies) -> None:
        self._keyring, self._proxies = keyring, proxies

    def of(self, one: Finished) -> Line:
        request, usage = one.request, one.usage
        first_byte_s = one.first_byte_s
        return Line(
            method="" if request is None else request.to.method.decode(),
            path="" if request is None else plain(request.to.path),
            model=plain(one.model.encode()),
            status=one.status,
            outcome=one.outcome,
            wait_ms=_ms(one.wait_s),
            ttft_ms=None if first_byte_s is None else _ms(first_byte_s),
            duration_ms=_ms(one.duration_s),
            bytes_in=one.request_bytes,
            bytes_out=one.answer_bytes,
            prompt_tokens=None if usage is None else usage[0],
            completion_tokens=None if usage is None else usage[1],
            client=self.client(one.client, b"" if request is None else request.forward),
            key=self._key(None if request is None else request.key),
            user_agent=None if request is None else _user_agent(request.forward),
        )

    def client(self, peer: str, head: bytes) -> str:
        """Who a believed proxy says it is, else whoever is connected. `head`: the first line, and headers."""
        if not self._proxies.networks or not self._proxies.believes(peer):
            return peer
        return self._proxies.way(peer, _proxy_headers(head))[0] or peer

    def _key(self, digest: bytes | None) -> str | None:
        key = self._keyring.key(digest)
        return None if key is None else key.name


def plain(text: bytes) -> str:
    """Nothing in it can move a cursor, end a line or turn one round; and it has an end."""
    return _plain(text) if len(text) <= _LONGEST else f"{_plain(text[:_LONGEST])}..."


@lru_cache(1024)
def _plain(text: bytes) -> str:
    read = text.decode("utf-8", "backslashreplace")
    return read if read.isascii() and read.isprintable() else ascii(read)[1:-1]


def _user_agent(head: bytes) -> str | None:
    return _remembered_agent(head) if len(head) <= REMEMBERED_BYTES else _agent(head)


def _agent(head: bytes) -> str | None:
    found = _USER_AGENT.search(head)
    return None if found is None else plain(found[1])


_remembered_agent = lru_cache(1024)(_agent)


def _proxy_headers(head: bytes) -> list[Header]:
    pairs = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    headers = ((name.lower(), value.strip(b"\t ")) for name, _, value in pairs)
    return [header for header in headers if header[0] in PROXY_HEADERS]


def _ms(seconds: float) -> float:
    return round(seconds * 1e3, 1)


class Json:
    """As structlog's JSONRenderer with an ISO timestamp in UTC."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall, self._encode = wall, msgspec.json.Encoder().encode
        self._second, self._prefix = -1, ""

    def __call__(self, line: Line) -> bytes:
        now = self._wall()
        second = int(now)
        if second != self._second:
            self._second, self._prefix = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        line.timestamp = f"{self._prefix}.{int((now - second) * 1e6):06d}Z"
        return self._encode(line) + b"\n"


class ForEyes:
    """As structlog's ConsoleRenderer, without colours; what does not apply is left out."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall

    def __call__(self, line: Line) -> bytes:
        stamp = time.strftime("%H:%M:%S", time.localtime(self._wall()))
        values = msgspec.structs.asdict(line)
        said = " ".join(
            f"{name}={_word(value)}"
            for name, value in values.items()
            if name not in {"event", "level", "timestamp"} and value not in {None, ""}
        )
        return f"{stamp} [info     ] {line.event:<22} {said}\n".encode()


def _word(value: object) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return repr(text) if " " in text else text
