"""`vllama serve --runtime ray` on the head, and what can be seen of its engines on all hosts."""

import json
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.ray.cluster import Cluster, Machine, inner, kill
from tests.ray.hosts import Inside
from tests.waiting import wait_until
from tests.whole.server import Server
from vllama.runtime.local import proc
from vllama.runtime.local.identity import Identity
from vllama.simulator.changes import Changes
from vllama.simulator.devices import SimulatedDevices

PORT = 33258
GRACE_S = 30  # a busy machine may take half of it to have Ray started again
PATIENCE = {"VLLAMA_RAY_GRACE": f"{GRACE_S}s"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """One engine on one host, by the tags of its processes; an engine over several hosts is one on each."""

    host: str
    engine_id: str
    name: str
    port: int
    pids: frozenset[int]


class Manager(Server):
    """Its HTTP goes over loopback, as that of the commands."""

    def __init__(self, cluster: Cluster, models: dict, **env: str) -> None:
        self.cluster, self.models, self.env = cluster, models, env
        config_dir = cluster.head.host.root / "config"
        config_dir.mkdir()
        self.write(models, config_dir)
        super().__init__(config_dir=config_dir, process=None, url=f"http://127.0.0.1:{PORT}")  # type: ignore[arg-type]
        self.quiet_until = 0
        self.outside = f"http://{cluster.head.host.address}:{PORT}"

    @staticmethod
    def write(models: dict, config_dir: Path) -> None:
        (config_dir / "models.yaml").write_text(json.dumps(models))

    def command(self, *more: str) -> list[str]:
        return [sys.executable, "-m", "vllama", "serve", "--runtime", "ray", "--ray-address", self.cluster.address,
                "--simulate", "2x24GiB", "--port", str(PORT), "--config-dir", "/tmp/config", *more]  # fmt: skip

    def start(self, *, ready: bool = True) -> None:
        head = self.cluster.head
        self.http = httpx.Client(transport=Inside(head.host), trust_env=False, timeout=60)
        self.process = head.host.start(
            *self.command(), env=head.environment(**(PATIENCE | self.env)), out=self.config_dir / "serve.out"
        )
        if ready:
            wait_until(self.answers, deadline_s=90, what=f"vllama serve to answer; it said:\n{self.log()[-3000:]}")

    def answers(self) -> bool:
        assert self.process.poll() is None, f"vllama serve ended:\n{self.log()[-3000:]}"
        try:
            return self.http.get(f"{self.url}/readyz").status_code == 200
        except httpx.HTTPError:
            return False

    @property
    def pid(self) -> int:
        return inner(self.process)

    def kill(self) -> None:
        kill(self.pid)
        self.process.wait()
        self.http.close()

    def vllama(self, *args: str) -> str:
        """What a command on the head prints."""
        head = self.cluster.head
        done = head.host.run(
            sys.executable, "-m", "vllama", *args, "--config-dir", "/tmp/config", env=head.environment(COLUMNS="200")
        )
        assert done.returncode == 0, f"vllama {' '.join(args)}\n{done.stdout}{done.stderr}"
        return done.stdout

    def nodes(self) -> dict[str, str]:
        """Name -> ready, lost or fenced."""
        return {node["name"]: node["state"] for node in self._told()}

    def said(self, node: str) -> str:
        """Why it is not ready."""
        (told,) = (each["said"] for each in self._told() if each["name"] == node)
        return told

    def _told(self) -> list[dict]:
        return self.http.get(f"{self.url}/admin/memory").json()["nodes"]

    def node_of(self, name: str) -> str:
        return self.ps()[name]["node"]

    def running(self, hosts: Iterable[Machine] | None = None) -> list[Engine]:
        """Every engine that has a living process on one of the hosts."""
        found = []
        for machine in self.cluster.machines.values() if hosts is None else hosts:
            tags = tagged(machine)
            for identity in {each.engine_id: each for each in tags.values()}.values():
                pids = frozenset(pid for pid, each in tags.items() if each.engine_id == identity.engine_id)
                name = identity.model if identity.replica == 1 else f"{identity.model}#{identity.replica}"
                found.append(
                    Engine(host=machine.name, engine_id=identity.engine_id, name=name, port=identity.port, pids=pids)
                )
        return found

    def kill_processes(self, engine: Engine) -> None:
        kill(*engine.pids)

    def is_there(self, engine: Engine) -> bool:
        """Whether anything of it lives on its host."""
        return any(is_alive(pid) for pid in engine.pids)

    def stop_all(self) -> None:
        """No engine anywhere."""
        for name, each in self.ps().items():
            if each["replica_of"] is None and each["phase"] != "Stopped":
                self.act("stop", name)
        wait_until(lambda: not self.running(), deadline_s=60, what="all engines to end")
        self.quiet_until = len(self.log())

    def since_it_was_quiet(self) -> str:
        """What it logged since no engine ran."""
        return self.log()[self.quiet_until :]

    def times_served(self) -> Counter[str]:
        """Request id -> how many engines, or how often one, were asked it."""
        count: Counter[str] = Counter()
        for machine in self.cluster.machines.values():
            if machine.served.exists():
                count.update(machine.served.read_text().split())
        return count

    def collisions(self) -> list[str]:
        """Engines that were in each other's way on a device, on any host, ever."""
        return [
            f"{machine.name}: {each}"
            for machine in self.cluster.machines.values()
            for directory in machine.host.home.glob(".vllama/ray/*/simulated")
            for each in Changes(SimulatedDevices(directory)).collisions()
        ]

    def agents_of(self, machine: Machine) -> list[int]:
        return [pid for pid, title in machine.ray_processes().items() if re.match(r"ray::Agent", title)]

    def agent_of(self, machine: Machine) -> int:
        """Its process."""
        (pid,) = self.agents_of(machine)
        return pid

    def times(self, event: str, node: str) -> int:
        """How often that happened to a machine."""
        return sum(f'"{event}"' in line and f'"{node}:' in line for line in self.log().splitlines())

    def refusal(self, *more: str, **env: str) -> str:
        """What another one says that is not let in."""
        head = self.cluster.head
        other = Path(tempfile.mkdtemp(dir=head.host.root))
        command = self.command("--port", "0", "--config-dir", f"/tmp/{other.name}", *more)
        ended = head.host.run(*command, env=head.environment(**env), timeout=90)
        assert ended.returncode not in {0, None}
        return ended.stdout + ended.stderr

    def close(self) -> None:
        """Its engines end with it, as with the hosts."""
        self.http.close()
        if self.process is not None and self.process.poll() is None:
            self.kill()


def tagged(machine: Machine) -> dict[int, Identity]:
    """Every process on a host that carries the tag of an engine."""
    found = {}
    for pid in machine.host.processes():
        if (identity := proc.tag_of(pid)) is not None:
            found[pid] = identity
    return found


def environment_of_process(pid: int) -> dict[str, str]:
    parts = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return dict(part.split("=", 1) for part in parts if "=" in part)


def command_of_process(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").replace("\0", " ")


def is_alive(pid: int) -> bool:
    return os.path.exists(f"/proc/{pid}") and ((each := proc.process(pid)) is not None and not each.zombie)  # noqa: PTH110
