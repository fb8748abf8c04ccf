"""Engines that span nodes: `--nnodes`, `--node-rank`, `--master-addr`. Rank 0 says what the others are to hold.

As in vLLM rank 0 waits for the others before it loads, and none of them comes back where the others are gone; rank 0
itself does not notice that one is.
"""

import os
import signal
import socket
import time
from functools import partial

from vllama.simulator.command import ServeCommand
from vllama.simulator.devices import OutOfMemory
from vllama.simulator.log import log, log_traceback
from vllama.simulator.memory import DeviceMemory
from vllama.simulator.settings import Settings

JOIN_WITHIN_S = 120.0
_ANSWER_WITHIN_S = 60.0
_LOOK_S = 0.05
_HELD, _FULL = b"held\n", b"full\n"


class Ranks:
    """The other ranks, as rank 0 has them: each holds what it is told. A wire that broke is left out."""

    def __init__(self, command: ServeCommand) -> None:
        """Blocks until all have joined. TimeoutError: not all did."""
        self._wires: list[socket.socket] = []
        with socket.create_server((command.master_address, command.master_port)) as listener:
            listener.settimeout(JOIN_WITHIN_S)
            while len(self._wires) < command.nodes - 1:
                wire, _ = listener.accept()
                wire.settimeout(_ANSWER_WITHIN_S)
                self._wires.append(wire)

    def hold(self, memory_bytes: int) -> bool:
        """False: one of them has not so much."""
        answers = [_told(wire, memory_bytes) for wire in self._wires]
        return _FULL not in answers


def _told(wire: socket.socket, memory_bytes: int) -> bytes:
    try:
        wire.sendall(b"%d\n" % memory_bytes)
        return wire.recv(16)
    except OSError:
        return b""


def run_headless(command: ServeCommand, settings: Settings) -> int:
    """A rank other than 0: no requests, no API server. Ends when it is told to, or when rank 0 is gone."""
    say = partial(log, f"EngineCore_{command.node_rank}")
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    say("core.py:134", f"Headless: rank {command.node_rank} of {command.nodes} joins {command.master_address}")
    try:
        wire = _join(command)
    except OSError as error:
        log_traceback("EngineCore", f"torch.distributed.DistNetworkError: {error}")
        return 1
    memory = DeviceMemory(settings, tensor_parallel_size=command.tensor_parallel_size)
    with wire, wire.makefile("rb") as lines:
        for line in lines:
            try:
                memory.hold(int(line))
                wire.sendall(_HELD)
            except OutOfMemory:
                wire.sendall(_FULL)
    log_traceback("EngineCore", "RuntimeError: [rank 1] the connection to rank 0 was closed by its peer")
    return 1


def _join(command: ServeCommand) -> socket.socket:
    end = time.monotonic() + JOIN_WITHIN_S
    while True:
        try:
            return socket.create_connection((command.master_address, command.master_port))
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(_LOOK_S)
