"""Hosts made of namespaces: own network, processes, mounts and name each, on one bridge in a namespace of its own.

All of them hang on this process: where it ends, however it ends, the kernel ends them with all that ran there, and with
them their network. Only a link's name and the directories of a killed run can be left; the next run clears these away.
"""

import ctypes
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
_CLONE_NEWNET = 0x40000000
_DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")  # who is started so is killed when this process ends


def why_not() -> str | None:
    """Why no hosts can be made here; None: they can."""
    if os.geteuid() != 0:
        return "hosts are made of namespaces, which takes root"
    for program in ("ip", "unshare", "nsenter", "setpriv", "setsid", "mount"):
        if shutil.which(program) is None:
            return f"hosts are made of namespaces, which takes the program {program}"
    tried = subprocess.run(["unshare", "--net", "--pid", "--mount", "--fork", "true"], capture_output=True, check=False)
    return None if tried.returncode == 0 else f"no namespaces can be made here: {tried.stderr.decode().strip()}"


def run(*command: str, **more) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, **more)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


class Lan:
    """The switch: a bridge, with this process at address .254 of it, reached by a link that has the name."""

    def __init__(self, name: str = "vllama-hosts", network: str = "10.213.87") -> None:
        self.name, self.network = name, network
        self._only = (Path(tempfile.gettempdir()) / f"{name}.lock").open("w")
        try:
            fcntl.flock(self._only, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pytest.fail(f"the hosts of {name} are in use: these tests run once at a time on a machine")
        self._clear_away()
        self.process = subprocess.Popen(
            [*_DIES_WITH_US, "unshare", "--net",
             sys.executable, "-c", "import signal; print(flush=True); signal.pause()"],
            stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.process.stdout.readline()
        self.ip("link", "add", "name", "bridge", "type", "bridge")
        self.ip("link", "set", "bridge", "up")
        run("ip", "link", "add", "name", name, "type", "veth", "peer", "name", "us", "netns", str(self.process.pid))
        run("ip", "address", "add", f"{network}.254/24", "dev", name)
        run("ip", "link", "set", name, "up")
        self.ip("link", "set", "us", "master", "bridge", "up")

    def _clear_away(self) -> None:
        """What a run that was killed may have left of its network; its processes went with it."""
        link = Path(f"/sys/class/net/{self.name}")
        if link.exists():
            subprocess.run(["ip", "link", "delete", self.name], capture_output=True, check=False)
            wait_until(lambda: not link.exists(), what="an earlier run's link to go")

    def ip(self, *args: str) -> None:
        run(*self._command(*args))

    def _command(self, *args: str) -> list[str]:
        return ["nsenter", "--net", "--target", str(self.process.pid), "ip", *args]

    def plug_in(self, port: str, host: int) -> None:
        """A link from a port of the bridge to `eth0` in the network of process `host`."""
        self.ip("link", "add", "name", port, "type", "veth", "peer", "name", "eth0", "netns", str(host))
        self.ip("link", "set", "dev", port, "master", "bridge", "up")

    def unplug(self, port: str) -> None:
        """Also where a socket of ours still holds the network at the other end; else it goes by itself."""
        command = self._command("link", "delete", "dev", port)
        subprocess.run(command, capture_output=True, check=False)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._clear_away()
        self._only.close()


class Host:
    """One machine: `root` is its /tmp, with its HOME below, and outlives a loss of power."""

    def __init__(self, lan: Lan, number: int, name: str, directory: Path) -> None:
        self.lan, self.number, self.name, self.root = lan, number, name, directory
        self.address = f"{lan.network}.{number}"
        self.home = self.root / "home"
        self._unshare: subprocess.Popen | None = None
        self.pid = 0

    def boot(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        kept = {str(path) for path in (ROOT, Path(sys.prefix)) if path.is_relative_to("/tmp")}
        first = str(Path(__file__).parent / "first_process.py")
        with (self.root / "console").open("w") as console:
            self._unshare = subprocess.Popen(
                [*_DIES_WITH_US, "unshare", "--net", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child",
                 "--mount-proc", sys.executable, "-S", first, self.name, str(self.root), *kept],
                stdout=subprocess.PIPE, stderr=console, text=True, cwd="/",
            )  # fmt: skip
        assert self._unshare.stdout is not None
        booted = self._unshare.stdout.readline() == "ready\n"
        assert booted, f"{self.name} does not boot: {(self.root / 'console').read_text()}"
        self.pid = child_of(self._unshare.pid)
        self.lan.plug_in(self.name, self.pid)
        # the same card as before: the others would send to the old one for half a minute
        self._ip("link", "set", "dev", "eth0", "address", f"02:00:00:00:00:{self.number:02x}")
        self._ip("address", "add", f"{self.address}/24", "dev", "eth0")
        self._ip("link", "set", "eth0", "up")

    def _ip(self, *args: str) -> None:
        run("nsenter", "--net", "--target", str(self.pid), "ip", *args)

    @property
    def is_up(self) -> bool:
        return self._unshare is not None and self._unshare.poll() is None

    def power_off(self) -> None:
        """All its processes at once, without a word to anybody."""
        if self._unshare is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            self._unshare.wait()
            self._unshare = None
            self.lan.unplug(self.name)

    def cut_off(self) -> None:
        """The cable is pulled; all that runs goes on."""
        self.lan.ip("link", "set", "dev", self.name, "down")

    def reconnect(self) -> None:
        self.lan.ip("link", "set", "dev", self.name, "up")

    def command(self, *command: str) -> list[str]:
        """What runs `command` there."""
        return ["nsenter", "--target", str(self.pid), "--net", "--mount", "--pid", "--uts", "--ipc", "--wdns=/tmp",
                *command]  # fmt: skip

    def start(self, *command: str, env: dict[str, str], out: Path) -> subprocess.Popen:
        """It runs below the process that is returned, which ends as it does."""
        with out.open("ab") as log:
            return subprocess.Popen(self.command(*command), env=env, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def run(
        self, *command: str, env: dict[str, str] | None = None, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*command), env=env, capture_output=True, text=True, check=False, timeout=timeout
        )

    def processes(self) -> Iterator[int]:
        """The numbers, as seen from here, of all that runs there, process 1 left out."""
        if not self.is_up:
            return
        mine = namespace_of(self.pid)
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.pid and namespace_of(int(entry.name)) == mine:
                yield int(entry.name)


def namespace_of(pid: int) -> str | None:
    try:
        return os.readlink(f"/proc/{pid}/ns/pid")  # noqa: PTH115  # a link to no path
    except OSError:
        return None


def child_of(pid: int) -> int:
    """The only child of a process, which comes at once."""
    children = Path(f"/proc/{pid}/task/{pid}/children")
    (child,) = wait_until(lambda: children.read_text().split(), what=f"a child of {pid}")
    return int(child)


class Inside(httpx.HTTPTransport):
    """HTTP as programs on a host speak it: over its own loopback, for one."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._host = host

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        with network_of(self._host.pid):
            return super().handle_request(request)


@contextmanager
def network_of(pid: int) -> Iterator[None]:
    """Sockets that this thread makes meanwhile belong to the network that a process has."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as own, Path(f"/proc/{pid}/ns/net").open() as other:
        assert libc.setns(other.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
        try:
            yield
        finally:
            assert libc.setns(own.fileno(), _CLONE_NEWNET) == 0, os.strerror(ctypes.get_errno())
