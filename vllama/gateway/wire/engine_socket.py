"""A websocket to an engine: vllama's own handshake with it, and then bytes both ways."""

import asyncio
import re
from typing import Protocol, cast

from vllama.controller.demand import Endpoint
from vllama.gateway.wire.far import end_with_its_host
from vllama.gateway.wire.limits import Limits
from vllama.gateway.wire.passing import addressed
from vllama.gateway.wire.trust import trust
from vllama.gateway.wire.websocket import accept_of, new_key

_END_OF_HEAD = b"\r\n\r\n"
_FIRST = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9])(?: [\t -~\x80-\xff]{0,100})?")
_OURS = re.compile(rb"sec-websocket-(?:key|version|extensions):", re.IGNORECASE)
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


class User(Protocol):
    """Whoever opened it. After `engine_refused` or `engine_closed` nothing is called any more."""

    def engine_opened(self, subprotocol: bytes | None) -> None: ...

    def engine_refused(self, status: int | None) -> None:
        """`status`: of its answer; None: it gave none, or none that is HTTP."""
        ...

    def engine_said(self, data: bytes) -> None: ...

    def engine_closed(self) -> None: ...

    def engine_is_full(self, *, full: bool) -> None: ...


class EngineSocket(asyncio.Protocol):
    def __init__(self, user: User, *, limits: Limits) -> None:
        self._user: User | None = user
        self._limits = limits
        self._key = new_key()
        self._head: bytes | None = b""  # None: the handshake is over

    @classmethod
    async def dial(cls, endpoint: Endpoint, user: User, request: bytes, *, limits: Limits) -> "EngineSocket":
        """`request`: the first line of the client's request, and what passes of its headers. Raises OSError."""
        tls = await asyncio.to_thread(trust) if endpoint.tls else None
        async with asyncio.timeout(limits.connect_far_s if endpoint.far else limits.connect_s):
            loop = asyncio.get_running_loop()
            transport, made = await loop.create_connection(
                lambda: cls(user, limits=limits), endpoint.host, endpoint.port, ssl=tls
            )  # fmt: skip
        if endpoint.far:
            end_with_its_host(transport)
        made.write(made.handshake(addressed(request, endpoint), endpoint.presented))
        return made

    def handshake(self, request: bytes, host: bytes) -> bytes:
        kept = [line for line in request.split(b"\r\n") if line and not _OURS.match(line)]
        own = (b"host: " + host, b"connection: Upgrade", b"upgrade: websocket", b"sec-websocket-version: 13")
        return b"\r\n".join((*kept, *own, b"sec-websocket-key: " + self._key, b"", b""))

    # what its user does

    def write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)

    def pause(self) -> None:
        self._transport.pause_reading()

    def resume(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def close(self) -> None:
        """What is written still goes out, if it is taken. Its user hears no more of it."""
        self._user = None
        self._transport.close()
        if self._transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(self._limits.linger_s, self._transport.abort)

    # what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._head is not None:
            data = self._take_head(self._head + data)
        if data and self._user is not None:
            self._user.engine_said(data)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        user, self._user = self._user, None
        if user is None:
            return
        if self._head is None:
            user.engine_closed()
        else:
            user.engine_refused(None)

    def pause_writing(self) -> None:
        if self._user is not None:
            self._user.engine_is_full(full=True)

    def resume_writing(self) -> None:
        if self._user is not None:
            self._user.engine_is_full(full=False)

    def _take_head(self, data: bytes) -> bytes:
        """Returns what is behind it."""
        head, end, behind = data.partition(_END_OF_HEAD)
        if len(head) > self._limits.head_bytes or not data.startswith(b"HTTP/1.1 "[: len(data)]):
            self._refused(None)
            return b""
        if not end:
            self._head = data
            return b""
        status, agreed, subprotocol = self._agreed(head)
        if not agreed:
            self._refused(status)
            return b""
        self._head = None
        if self._user is not None:
            self._user.engine_opened(subprotocol)
        return behind

    def _agreed(self, head: bytes) -> tuple[int | None, bool, bytes | None]:
        """The status, whether the rest is frames, and the subprotocol that was chosen."""
        first, *lines = head.split(b"\r\n")
        found = _FIRST.fullmatch(first)
        if found is None:
            return None, False, None
        said = {}
        for line in lines:
            name, _, value = line.partition(b":")
            said[name.lower()] = value.strip(b" \t")
        agreed = (
            found[1] == b"101"
            and said.get(b"upgrade", b"").lower() == b"websocket"
            and said.get(b"sec-websocket-accept") == accept_of(self._key)
            and b"sec-websocket-extensions" not in said
        )
        subprotocol = said.get(b"sec-websocket-protocol")
        if subprotocol is not None and not _TOKEN.fullmatch(subprotocol):
            agreed = False
        return int(found[1]), agreed, subprotocol

    def _refused(self, status: int | None) -> None:
        user, self._user = self._user, None
        self._transport.abort()
        if user is not None:
            user.engine_refused(status)
