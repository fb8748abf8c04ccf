"""What systemd is told of a service with `Type=notify`: datagrams to the socket that it names (see sd_notify(3))."""

import contextlib
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass

_A_SHARE_OF_THE_DEADLINE = 3  # a ping that comes a little late must not be the last


@dataclass(frozen=True, slots=True, kw_only=True)
class Notify:
    """`address` None: nobody is to be told. `ping_every_s` None: nobody waits for pings."""

    address: str | bytes | None = None
    ping_every_s: float | None = None

    def say(self, **fields: str) -> None:
        """`say(READY="1", STATUS="...")`. Never blocks and never raises: who does not listen is not served worse."""
        if self.address is None:
            return
        lines = "\n".join(f"{name}={' '.join(value.split())}" for name, value in fields.items())
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto(lines.encode(), socket.MSG_DONTWAIT, self.address)


def notify_of(environ: Mapping[str, str]) -> Notify:
    """As systemd set the environment of this very process, or nothing to tell."""
    name = environ.get("NOTIFY_SOCKET", "")
    if not name.startswith(("/", "@")):  # nothing, or a kind of socket that no service here is given
        return Notify()
    address = b"\0" + name[1:].encode() if name.startswith("@") else name
    meant = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    usec = environ.get("WATCHDOG_USEC", "")
    every_s = int(usec) / 1e6 / _A_SHARE_OF_THE_DEADLINE if meant and usec.isdigit() and int(usec) else None
    return Notify(address=address, ping_every_s=every_s)
