"""What all connections of one server share, and the protocol class that makes them."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vllama.controller.control import Control
from vllama.gateway.cors import Origins
from vllama.gateway.finder import Finder
from vllama.gateway.keys.ring import Keyring
from vllama.gateway.makers import Makers
from vllama.gateway.metrics.finished import Finished
from vllama.gateway.wire.background import Background
from vllama.gateway.wire.limits import Limits
from vllama.gateway.wire.outbox import Outbox
from vllama.gateway.wire.pool import Pool
from vllama.gateway.wire.uploads import Uploads
from vllama.gateway.wire.watch import Watch

if TYPE_CHECKING:
    from vllama.gateway.wire.tunnel import Tunnel


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    control: Control
    limits: Limits
    pool: Pool
    uploads: Uploads
    makers: Makers
    finder: Finder
    background: Background
    tunnels: "set[Tunnel]"
    watch: Watch
    outbox: Outbox
    loop: asyncio.AbstractEventLoop
    finished: Callable[[Finished], None]
    clock: Callable[[], float]
    keyring: Keyring
    origins: Origins | None
