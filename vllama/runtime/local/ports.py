"""Ports for engines: bound once to see that they are free, then given away. A lost race shows as a failed start."""

import socket
from collections.abc import Collection

from vllama.runtime.base import RuntimeFailed


def bindable(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def free_port(ports: range, taken: Collection[int], *, after: int) -> int:
    """The next port of the range past `after`, going round, that is not `taken` and can be bound."""
    start = ports.index(after) + 1 if after in ports else 0
    for i in range(len(ports)):
        port = ports[(start + i) % len(ports)]
        if port not in taken and bindable(port):
            return port
    raise RuntimeFailed(
        f"No free port between {ports.start} and {ports.stop - 1} for an engine. "
        "Set VLLAMA_VLLM_PORT_START and VLLAMA_VLLM_PORT_END to a range that other programs leave alone."
    )
