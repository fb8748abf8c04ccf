"""On a real (pseudo) terminal: colour, width, and the watch."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import termios

import pytest

from tests.cli.answers import a_running, a_status
from tests.cli.scripted import ScriptedServer
from tests.waiting import wait_until

VLLAMA = [sys.executable, "-c", "from vllama.cli.app import main; main()"]
MODELS = [a_running("org/a"), a_status("org/d", reason="CannotFit", message="Needs 30.0 GiB; gpu0 has 24.0 GiB.")]


class Terminal:
    """A command on a pseudo terminal of the given width, and what it has shown so far."""

    def __init__(self, *arguments: str, columns: int = 80, **environ: str) -> None:
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (40, columns))
        base = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.command = subprocess.Popen(
            [*VLLAMA, *arguments], stdin=theirs, stdout=theirs, stderr=theirs, env={**base, "TERM": "xterm", **environ}
        )
        os.close(theirs)
        self.shown = ""

    def read(self) -> bool:
        """Reads some more. False at the end."""
        with contextlib.suppress(OSError):  # EIO: the command has closed its side
            if content := os.read(self._ours, 65536):
                self.shown += content.decode()
                return True
        return False

    def read_all(self) -> str:
        while self.read():
            pass
        self.command.wait(10)
        os.close(self._ours)
        return self.shown.replace("\r\n", "\n")


def test_a_terminal_gets_colour_and_its_own_width(server: ScriptedServer) -> None:
    server.statuses = [MODELS]
    shown = Terminal("ps", "--server", server.url).read_all()
    assert "\x1b[32mReady\x1b[0m" in shown
    assert "PID" not in shown
    assert "PID" in Terminal("ps", "--server", server.url, columns=120).read_all()


def test_no_color_and_columns_are_heard(server: ScriptedServer) -> None:
    server.statuses = [MODELS]
    shown = Terminal("ps", "--server", server.url, NO_COLOR="1", COLUMNS="30").read_all()
    assert shown == "MODEL  PHASE    DEVICES\norg/a  Ready    gpu0\norg/d  Stopped  -\n"


@pytest.mark.parametrize("name", ["NO_COLOR", "TERM"])
def test_errors_are_red_where_that_is_wanted(server: ScriptedServer, name: str) -> None:
    server.asked = 404, {"error": {"message": f"There is no model 'x'. Nearest: {'org/long-name, ' * 6}org/a."}}
    shown = Terminal("stop", "x", "--server", server.url).read_all()
    assert shown.startswith("\x1b[1;31merror:\x1b[0m There is no model 'x'. Nearest: org/long-name,")
    assert "\n  org/long-name" in shown
    plain = Terminal("stop", "x", "--server", server.url, **{name: "dumb"}).read_all()
    assert plain.startswith("error: There")


@pytest.mark.parametrize("environ", [{}, {"NO_COLOR": "1"}])
def test_a_start_leaves_its_lines_behind(server: ScriptedServer, environ: dict[str, str]) -> None:
    loading = a_running("org/a", "Starting", reason="Starting", message="Loading; " + "word " * 20 + "end.")
    server.asked, server.statuses = (202, a_status("org/a")), [[loading], [a_running("org/a")]]
    shown = Terminal("start", "a", "--server", server.url, **environ).read_all()
    lines = [line for line in shown.splitlines() if " word" in line]
    assert len(lines) == 3
    assert all(line.startswith(" " * 23 + "word") for line in lines[1:])
    assert ("\x1b" in shown) is (not environ)
    assert "org/a is Ready on gpu0, port 33301." in shown


def test_the_watch_follows_until_ctrl_c(server: ScriptedServer) -> None:
    server.statuses = [[a_running("org/a", "Starting")], [a_running("org/a", "Ready")]]
    terminal = Terminal("ps", "-w", "--server", server.url)
    wait_until(lambda: terminal.read() and "Starting" in terminal.shown and "Ready" in terminal.shown)
    terminal.command.send_signal(signal.SIGINT)
    assert "Traceback" not in terminal.read_all()
    assert terminal.command.returncode == 130


def test_the_watch_without_a_terminal_prints_one_table_after_the_other(server: ScriptedServer) -> None:
    server.statuses = [[a_running("org/a", "Starting")], [a_running("org/a", "Ready")]]
    command = subprocess.Popen([*VLLAMA, "ps", "-w", "--server", server.url], stdout=subprocess.PIPE, text=True)
    assert command.stdout is not None
    lines = [command.stdout.readline() for _ in range(5)]
    command.send_signal(signal.SIGINT)
    command.communicate(timeout=10)
    assert [line.split()[1] for line in lines if line.strip()] == ["PHASE", "Starting", "PHASE", "Ready"]
    assert command.returncode == 130
