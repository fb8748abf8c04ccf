"""How much and how long: what one client, or one engine, may ask of everybody else's patience."""

from collections.abc import Sized
from dataclasses import dataclass

from vllama.domain.units import GIB, KIB, MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Deadlines in seconds; None: none. They are looked at once a second, or more often where one is short."""

    connections: int | None = None  # of clients; who comes later is refused, before file descriptors run out
    spare_connections: int = 64  # for those who ask how the server does, beside them
    head_bytes: int = 64 * KIB
    headers: int = 100
    body_bytes: int = 64 * MIB
    uploads_bytes: int = GIB  # held by large bodies that are still coming in, all together
    ahead_bytes: int = 64 * KIB  # taken of the next requests while one is being answered
    head_s: float = 30.0
    body_idle_s: float = 60.0
    keep_alive_s: float = 75.0
    linger_s: float = 2.0  # what a refused client still sends is read so long, or its answer would be lost
    connect_s: float = 5.0
    connect_far_s: float = 2.0  # to an engine on another machine of ours, which are near each other
    first_byte_s: float | None = None  # an answer without a stream may take an hour
    engine_idle_s: float | None = 1800.0
    tunnel_idle_s: float = 600.0  # a websocket over which nothing is said keeps its model awake
    background_s: float = 3600.0  # a response in the background keeps its model awake for so long at most
    background_poll_s: float = 2.0
    pooled_s: float = 4.0  # vLLM closes a connection that was idle for 5 s
    pooled_far_s: float = 2.5  # what meets that end on its way to another machine is not sent again
    at_once_s: float = 0.1  # of writes, before it is tried again whether they come many at a time (outbox)
    pooled: int = 512

    @property
    def tick_s(self) -> float:
        deadlines = (self.head_s, self.body_idle_s, self.keep_alive_s, self.linger_s, self.connect_s, self.first_byte_s,
                     self.engine_idle_s, self.tunnel_idle_s, self.pooled_s)  # fmt: skip
        return min(1.0, *(each / 4 for each in deadlines if each is not None))


def is_crowd(connections: Sized, limits: Limits, *, spare: bool = False) -> bool:
    """More are open than may be; `spare`: even with those that only ask how the server does."""
    most = limits.connections
    return most is not None and len(connections) > most + (limits.spare_connections if spare else 0)


def connections_within(file_descriptors: int) -> int:
    """How many clients so many allow: each may need one towards an engine; the rest is for engines and files."""
    return max(16, (file_descriptors - min(512, file_descriptors // 4)) // 2)
