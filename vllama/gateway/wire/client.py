"""What a client's connection is to the exchange that it has."""

import asyncio
from typing import Protocol

from vllama.gateway.errors import ErrorAnswer


class Client(Protocol):
    transport: asyncio.Transport
    address: str  # without the port; empty where it has none

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
