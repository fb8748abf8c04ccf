"""What systemd hears, over a socket like its own."""

import asyncio
import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.house import ListedControl
from vllama.cli.notify import Notify, notify_of
from vllama.cli.watch_over import tell
from vllama.controller.condition import Condition
from vllama.controller.vitals import Vitals
from vllama.domain.spec import ModelSpec


@contextlib.contextmanager
def ear(address: str | bytes) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hears:
        hears.bind(address)
        hears.settimeout(10)
        yield hears


def test_lines_reach_a_socket_of_the_file_system_and_an_abstract_one(tmp_path: Path) -> None:
    path, name = str(tmp_path / "notify"), f"vllama-test-{os.getpid()}"
    for address, told in ((path, path), (b"\0" + name.encode(), f"@{name}")):
        with ear(address) as hears:
            notify_of({"NOTIFY_SOCKET": told}).say(READY="1", STATUS="two\nlines")
            assert hears.recv(1000) == b"READY=1\nSTATUS=two lines"


def test_nobody_who_listens_is_no_reason_to_fail(tmp_path: Path) -> None:
    notify_of({}).say(READY="1")
    notify_of({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).say(READY="1")
    notify_of({"NOTIFY_SOCKET": "vsock:2:1234"}).say(READY="1")
    with ear(str(tmp_path / "full")):  # and is never read
        notify = notify_of({"NOTIFY_SOCKET": str(tmp_path / "full")})
        for _ in range(1000):
            notify.say(WATCHDOG="1")


@pytest.mark.parametrize(
    ("environ", "every_s"),
    [
        ({"WATCHDOG_USEC": "60000000"}, 20.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 20.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({}, None),
    ],
)
def test_pings_are_for_whom_they_are_meant(environ: dict[str, str], every_s: float | None) -> None:
    assert notify_of({"NOTIFY_SOCKET": "/run/systemd/notify"} | environ).ping_every_s == every_s


def test_ready_is_told_once_and_pings_come_only_from_who_is_not_stuck(tmp_path: Path) -> None:
    control = ListedControl(specs=[ModelSpec(model="org/A")], alive=Vitals(unready="Nothing was planned yet."))
    path = str(tmp_path / "notify")

    async def test(hears: socket.socket) -> None:
        loop, is_open = asyncio.get_running_loop(), False
        hears.setblocking(False)
        notify = Notify(address=path, ping_every_s=0.02)
        telling = asyncio.create_task(tell(notify, control, url="http://here", is_open=lambda: is_open))

        async def heard() -> bytes:
            async with asyncio.timeout(10):
                return await loop.sock_recv(hears, 1000)

        assert await heard() == b"STATUS=Nothing was planned yet. Models: 1 stopped"
        assert await heard() == b"WATCHDOG=1"
        control.alive = Vitals()
        while (line := await heard()) == b"WATCHDOG=1":
            pass
        assert line.startswith(b"STATUS=Serves http://here.")  # the port is not open yet
        is_open = True
        while (line := await heard()) == b"WATCHDOG=1":
            pass
        assert line.startswith(b"READY=1\nSTATUS=Serves http://here.")
        control.alive = Vitals(stuck="the loop made no pass for 61 s")
        for name in ("First", "Second"):
            control.wrong = [Condition(type=name, ok=False, reason="Because", message="m")]
            line = await heard()
            while name == "First" and line == b"WATCHDOG=1":  # of the time before
                line = await heard()
            assert line.endswith(f"look at {name} in /health".encode())
        telling.cancel()
        await asyncio.wait({telling})

    with ear(path) as hears:
        asyncio.run(test(hears))
