"""The forty-nine faults that vllama is to live with, and which situation plays which."""

import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.faults.house import DEVICES, House

if TYPE_CHECKING:
    from tests.faults.scene import Scene

ROWS = {
    1: "an engine ends with an error while it loads",
    2: "an engine ends with 0 while it loads",
    3: "a load hangs before its port opens",
    4: "a load opens its port and is never healthy",
    5: "a load runs out of device memory",
    6: "a load finds no room for its KV cache",
    7: "an engine dies in the middle of answers",
    8: "/health flaps",
    9: "/health is well and requests hang",
    10: "a sleep frees nothing",
    11: "a sleep hangs",
    12: "a wake finds no memory",
    13: "answers are garbage after a wake",
    14: "/is_sleeping denies what was done",
    15: "every sleep leaves more behind",
    16: "an engine ignores SIGTERM",
    17: "an engine's processes leave its session",
    18: "an engine's log is a flood, in halves and in bytes that are no text",
    19: "an engine ends while it falls asleep",
    20: "an engine answers what is no HTTP, or without measure",
    21: "vllama is killed",
    22: "an API server is killed, and its core lives on",
    23: "vllama is told to stop while streams are open",
    24: "a second vllama is started on the same directory",
    25: "an engine is stopped by a signal",
    26: "process numbers are used again",
    27: "an engine's port is taken by another program",
    28: "there are no file descriptors left, or no processes",
    29: "other programs take and free device memory",
    30: "the disk is full",
    31: "the configuration directory is read-only",
    32: "the driver is absent, fails, knows less or loses a GPU",
    33: "the host has too little memory for sleepers",
    34: "the wall clock jumps",
    35: "models.yaml is half-written, wrong, empty, gone, renamed over or a swapped link",
    36: "a model with open streams is taken out of models.yaml",
    37: "ten reloads a second",
    38: "models.yaml is a bomb",
    39: "many clients wait for a cold model, and leave",
    40: "many clients wait for a cold model, and its load fails",
    41: "clients read slowly or not at all",
    42: "clients send slowly",
    43: "bodies and heads without measure, and lies about their length",
    44: "names of models that are paths, endless, or look like others",
    45: "names of models that are addresses",
    46: "clients ask for an engine's management",
    47: "clients name addresses of pictures",
    48: "flags that are vllama's own, or a shell's",
    49: "one model's flood, and another that waits for its place",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """`own_server`: it ends or spoils the server it has. `env`: what that one is started with."""

    row: int
    name: str
    play: "Callable[[Scene], Awaitable[None]]"
    own_server: bool = False
    bent: bool = False  # its server runs `elsewhere`
    clocked: bool = False  # its server has a wall clock of its own, where there can be one
    simulate: str | None = DEVICES
    env: dict[str, str] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        return self.name.removeprefix("test_").replace("_", " ")

    def house(self, root: Path) -> House:
        """One of its own."""
        program = ("-m", "tests.faults.elsewhere") if self.bent else ("-m", "vllama")
        return House(root, simulate=self.simulate, program=program, clocked=self.clocked, **self.env)

    @property
    def usual_seed(self) -> int:
        return zlib.crc32(self.name.encode())


SITUATIONS: list[Situation] = []


def row(
    number: int, *, own_server: bool = False, bent: bool = False, clocked: bool = False,
    simulate: str | None = DEVICES, **env: str,
) -> "Callable[[Callable[[Scene], Awaitable[None]]], Callable[..., None]]":  # fmt: skip
    """A coroutine function of a scene, as a test and as something that `soak` can play."""

    def register(play: "Callable[[Scene], Awaitable[None]]") -> Callable[..., None]:
        situation = Situation(
            row=number, name=play.__name__, play=play, own_server=own_server or bent or clocked, bent=bent,
            clocked=clocked, simulate=simulate, env=env,
        )  # fmt: skip
        SITUATIONS.append(situation)

        def test(stage: Callable[[Situation], None]) -> None:
            stage(situation)

        test.__name__ = test.__qualname__ = play.__name__
        test.__doc__, test.__module__ = play.__doc__, play.__module__
        return pytest.mark.timeout(300)(pytest.mark.row(number)(test))

    return register
