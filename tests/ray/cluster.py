"""Three hosts with Ray on them, started as the units of manifests/ray start it; `vllama serve` runs on the first."""

import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import textwrap
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tests.packaging.test_ray import HEAD, WORKER, environment_of, unit
from tests.ray.hosts import ROOT, Host, Lan, child_of
from tests.waiting import wait_until
from tests.whole.server import QUICK, environment

PORT = 6379
# How long Ray waits before it gives a silent node up, cut down from a minute to eight seconds.
IMPATIENT = {
    "RAY_health_check_initial_delay_ms": "2000", "RAY_health_check_period_ms": "2000",
    "RAY_health_check_timeout_ms": "2000", "RAY_health_check_failure_threshold": "3",
}  # fmt: skip


@dataclass
class Machine:
    """A host, and what systemd would do there for Ray: start it, and start it again whenever it ends."""

    host: Host
    head: Host
    token: str
    env: dict[str, str]
    unit: subprocess.Popen | None = None

    @property
    def name(self) -> str:
        return self.host.name

    @property
    def served(self) -> Path:
        """Which requests began to be answered by the engines of this host."""
        return self.host.root / "served"

    def environment(self, **more: str) -> dict[str, str]:
        """What programs see there: the unit's own, with this host's paths, and Ray's patience cut down."""
        ours = environment_of(HEAD) | IMPATIENT | {"HOME": "/tmp/home", "RAY_AUTH_TOKEN_PATH": "/tmp/home/token"}
        return environment(**(QUICK | ours | self.env | {"PYTHONPATH": str(ROOT)} | more))

    def command(self) -> list[str]:
        """ExecStart, as systemd would run it on this host."""
        line = unit(HEAD if self.host is self.head else WORKER)["Service"]["ExecStart"]
        here = {"%H": self.name, "${NODE_ADDRESS}": self.host.address, "${HEAD_ADDRESS}": self.head.address,
                "/opt/vllama/bin": str(Path(sys.prefix) / "bin"), "/var/lib/vllama/ray": "/tmp/home/ray"}  # fmt: skip
        line = re.sub("|".join(map(re.escape, here)), lambda found: here[found[0]], line)
        return [*line.split(), "--num-gpus=2"]

    def start(self) -> None:
        """Boots the host, unless it is up, and switches Ray on."""
        if not self.host.is_up:
            self.host.boot()
            (self.host.home / "token").write_text(self.token)
        # as Restart=always does
        again = ["sh", "-c", 'while :; do setsid --wait "$@"; sleep 1; done', "restart-always", *self.command()]
        self.unit = self.host.start(*again, env=self.environment(), out=self.host.root / "ray.out")

    def ray_processes(self) -> dict[int, str]:
        """What Ray itself runs here: number -> its first words."""
        found = {}
        for pid in self.host.processes():
            title = title_of(pid)
            if re.search(r"/bin/ray start |/ray/core/src/|site-packages/ray/|^ray::", title):
                found[pid] = title[:150]
        return found

    def main_process(self) -> int:
        """What systemd would know as the unit's: `ray start --block`."""
        (pid,) = (pid for pid, title in self.ray_processes().items() if re.match(r"\S*python\S* \S*/ray start ", title))
        return pid

    def raylet(self) -> int | None:
        return next((pid for pid, title in self.ray_processes().items() if "/raylet/raylet " in title), None)

    def stop_ray(self) -> None:
        """As `systemctl stop`: nothing starts it again."""
        assert self.unit is not None
        kill(inner(self.unit))
        self.unit.wait()
        kill(self.main_process(), number=signal.SIGTERM)
        wait_until(lambda: self.raylet() is None, deadline_s=30, what="Ray's end")

    def kill_ray(self) -> None:
        """All of Ray on this host but what the unit starts again: as after a crash."""
        kill(*(pid for pid, title in self.ray_processes().items() if "restart-always" not in title))

    def power_off(self) -> None:
        self.host.power_off()
        if self.unit is not None:
            self.unit.wait()

    def log(self) -> str:
        with suppress(FileNotFoundError):
            return (self.host.root / "ray.out").read_text(errors="replace")
        return ""


class Cluster:
    """`directory` has a directory for each host, which is its /tmp."""

    def __init__(self, directory: Path, names: tuple[str, ...] = ("head", "left", "right"), **env: str) -> None:
        self.directory = directory
        self.token = secrets.token_hex(32)
        self.lan = Lan()
        hosts = [Host(self.lan, number, name, directory / name) for number, name in enumerate(names, start=1)]
        env = {"VLLAMA_SIM_SERVED": "/tmp/served"} | env
        self.machines = {each.name: Machine(each, hosts[0], self.token, env) for each in hosts}
        self.head = self.machines[names[0]]

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    @property
    def address(self) -> str:
        return f"{self.head.host.address}:{PORT}"

    def start(self) -> None:
        for machine in self.machines.values():
            machine.start()
            if machine is self.head:
                self.wait_for_head()

    def wait_for_head(self) -> None:
        wait_until(self._head_listens, deadline_s=60, what=f"Ray's head; it said:\n{self.head.log()}")

    def _head_listens(self) -> bool:
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex((self.head.host.address, PORT)) == 0

    def alive(self, **env: str) -> set[str]:
        """The nodes that Ray takes for alive."""
        asked = """
            import ray, sys
            ray.init(address=sys.argv[1], logging_level="ERROR", log_to_driver=False)
            print(*(node["NodeName"] for node in ray.nodes() if node["Alive"]))
        """
        return set(self.python(self.head, asked, self.address, **env).split())

    def python(self, machine: Machine, program: str, *args: str, **env: str) -> str:
        """What a small program on a host prints; Refused with what it said of errors."""
        done = machine.host.run(
            sys.executable, "-c", textwrap.dedent(program), *args, env=machine.environment(**env), timeout=100
        )
        if done.returncode != 0:
            raise Refused(done.stderr)
        return done.stdout

    def close(self) -> None:
        for machine in self.machines.values():
            machine.power_off()
        self.lan.close()


class Refused(Exception):
    """A program ended badly; the text is its standard error."""


def title_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def kill(*pids: int, number: signal.Signals = signal.SIGKILL) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def inner(process: subprocess.Popen) -> int:
    """The number, as seen from here, of what `Host.start` started: signals to the outer one would not reach it."""
    return child_of(process.pid)
