"""Connections to engines on other machines, which may vanish without a word: a cable, a power supply, a kernel."""

import asyncio
import socket

# A host that is there acknowledges, whatever its engine does. One that does not for so long is gone, and whoever waits
# for its answer is told; without this, only after a quarter of an hour, or never.
SILENT_S = 5
_ASK_AFTER_S = 2  # of silence, and then every second


def end_with_its_host(transport: asyncio.BaseTransport) -> None:
    """From now on the kernel ends the connection when the other host has acknowledged nothing for SILENT_S."""
    end: socket.socket = transport.get_extra_info("socket")
    end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _ASK_AFTER_S)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, SILENT_S - _ASK_AFTER_S)
    end.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT_S * 1000)
