"""What a client's connection is to the exchange that it has."""

import asyncio
from typing import Protocol

from vllama.gateway.errors import ErrorAnswer


class Client(Protocol):
    address: str  # without the port; empty where it has none
    wire: asyncio.Transport  # what is written there overtakes what is in the outbox
    shutting_down: bool

    @property
    def transport(self) -> asyncio.Transport:
        """What was in the outbox is written by then."""
        ...

    @property
    def cors(self) -> bytes:
        """Header lines that let the page which asks read the answer, each with its line break; mostly none."""
        ...

    @property
    def closing(self) -> bool:
        """Its connection ends with this answer."""
        ...

    def refuse(self, answer: ErrorAnswer) -> None:
        """The whole answer; the exchange is over."""
        ...

    def finish(self, *, close: bool) -> None:
        """The last byte is written; the exchange is over."""
        ...

    def cut(self, *, abruptly: bool) -> None:
        """What was written stays unfinished; the exchange is over. `abruptly`: else the client would not see it."""
        ...


def address_of(peer: object) -> str:
    """Without the port; empty for a Unix socket."""
    return str(peer[0]) if isinstance(peer, tuple) else ""
