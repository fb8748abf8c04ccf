"""Which models a world declares, as plain data and as the models.yaml that says it. Edits are as people make them."""

import json
import random
from pathlib import Path
from typing import Any

from tests.simulation.profiles import Profile
from vllama.domain.observed import Footprint
from vllama.domain.spec import VictimPolicy
from vllama.domain.units import GIB, MIB, parse_bytes

BROKEN = ("models: {a: {memory: lots}}\n", "models: [\n", "", "models: {a: {memroy: 1GiB}}\n")


class Catalogue:
    """`entries`: what the file says now, once it was read. `removed_at`: since when a model is gone from it."""

    def __init__(self, path: Path, profile: Profile, rng: random.Random) -> None:
        self._path, self._profile, self._rng = path, profile, rng
        self.entries: dict[str, dict[str, Any]] = {}
        self.footprints: dict[str, Footprint] = {}
        self.removed: dict[str, dict[str, Any]] = {}
        self.removed_at: dict[str, float] = {}
        self.replica_removed_at: dict[tuple[str, int], float] = {}
        self.declared_at: dict[str, float] = {}
        self.wrong = False  # the file, now
        self.host_budget_bytes = profile.host_budget_bytes
        for number in range(profile.models):
            self._invent(number, too_large=number >= profile.models - profile.too_large)
        for name in list(self.entries)[: profile.pinned]:
            self.entries[name] |= {"pin": True, "memory": _gib(profile.smallest_bytes)}
        self._victims = str(rng.choice(list(VictimPolicy)))

    def _invent(self, number: int, *, too_large: bool) -> None:  # noqa: C901  one case per kind of key
        profile, rng = self._profile, self._rng
        name = f"org/m{number:02}"
        memory = rng.randrange(profile.smallest_bytes // GIB * 2, profile.largest_bytes // GIB * 2 + 1) * GIB // 2
        if too_large:
            memory = profile.device_bytes + GIB
        timeouts = {"queue_timeout": "6h", "load_timeout": "60s", "stall_timeout": "45s"}
        entry: dict[str, Any] = {"memory": _gib(memory), **timeouts}
        if rng.random() < profile.parallel and not too_large:
            entry["tensor_parallel_size"] = 2
        if profile.spanning and rng.random() < profile.spanning and not too_large:
            entry |= {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}
        if rng.random() < 0.3:
            entry["idle"] = {"sleep_after": rng.choice(["1m", "3m", "10m"]), "stop_after": rng.choice(["5m", "30m"])}
        if rng.random() < 0.3:
            entry["aliases"] = [f"alias-{number}"]
        if rng.random() < 0.2:
            entry["eviction_level"] = rng.choice([1, 2, 3])
        if rng.random() < 0.2:
            entry["priority"] = rng.choice([-1, 1, 2])
        if rng.random() < 0.15:
            entry["max_concurrency"] = rng.choice([8, 32])
        if rng.random() < 0.05:
            entry["on_conflict"] = "refuse"
        if profile.replicated and rng.random() < profile.replicated and not too_large:
            entry["replicas"] = rng.choice([2, 2, 3])
        self.entries[name] = entry
        self.footprints[name] = Footprint(
            awake_bytes=memory, asleep_bytes=rng.randrange(400, 1400) * MIB, weights_bytes=int(memory * 0.6),
            discardable=rng.random() < 0.6,
        )  # fmt: skip

    def names(self) -> list[str]:
        """What clients call: ids in the order of their popularity; aliases now and then."""
        return list(self.entries)

    def spoken(self, name: str) -> str:
        aliases = self.entries.get(name, {}).get("aliases")
        return aliases[0] if aliases and self._rng.random() < 0.5 else name

    def memory_bytes(self, name: str) -> int:
        return parse_bytes(self.entries[name]["memory"])

    def device_count(self, name: str) -> int:
        entry = self.entries[name]
        return int(entry.get("tensor_parallel_size", 1)) * int(entry.get("pipeline_parallel_size", 1))

    def write(self) -> None:
        policy = {
            "reserve": f"{self._profile.reserve_bytes // MIB}MiB", "host_memory": _gib(self.host_budget_bytes),
            "victims": self._victims,
        }  # fmt: skip
        self.wrong = False
        self._path.write_text(json.dumps({"policy": policy, "models": self.entries}, indent=1))

    def edit(self, now: float) -> str:  # noqa: C901  one case per kind of edit
        """Change one thing and write the file; says what."""
        rng = self._rng
        name = rng.choice(sorted(self.entries))
        entry = self.entries[name]
        changes = ["idle", "alias", "priority", "engine", "remove", "bring back", "broken", "memory", "host memory"]
        changes += ["replicas"] if self._profile.replicated else []
        match rng.choice(changes):
            case "idle":
                entry["idle"] = {"sleep_after": rng.choice(["30s", "2m", "never"])}
                said = f"idle of {name} {entry['idle']}"
            case "alias":
                entry["aliases"] = [f"also-{rng.randrange(1000)}-{name[-2:]}"]
                said = f"aliases of {name} {entry['aliases']}"
            case "priority":
                entry["priority"] = rng.randrange(-2, 3)
                said = f"priority of {name} {entry['priority']}"
            case "replicas":
                before, entry["replicas"] = entry.get("replicas", 1), rng.choice([1, 2, 3])
                for number in range(1, 4):
                    self.replica_removed_at.pop((name, number), None)
                    if entry["replicas"] < number <= before:
                        self.replica_removed_at[name, number] = now
                said = f"replicas of {name} {entry['replicas']}"
            case "engine":
                entry["max_model_len"] = rng.randrange(1, 64) * 1024
                said = f"max_model_len of {name} {entry['max_model_len']}"
            case "memory" if self.memory_bytes(name) <= self._profile.largest_bytes:
                entry["memory"] = _gib(rng.randrange(self._profile.smallest_bytes, self._profile.largest_bytes))
                said = f"memory of {name} {entry['memory']}"
            case "host memory":
                self.host_budget_bytes = int(self._profile.host_budget_bytes * rng.choice([0.1, 0.5, 1.0]))
                said = f"host memory {_gib(self.host_budget_bytes)}"
            case "remove" if len(self.entries) > 2 and not entry.get("pin"):
                self.removed[name], self.removed_at[name] = self.entries.pop(name), now
                said = f"{name} removed"
            case "bring back" if self.removed:
                name = rng.choice(sorted(self.removed))
                self.entries[name], self.declared_at[name] = self.removed.pop(name), now
                self.removed_at.pop(name, None)
                said = f"{name} brought back"
            case _:
                self.wrong = True
                self._path.write_text(rng.choice(BROKEN))
                return "a file that is wrong"
        self.write()
        return said


def _gib(size: int) -> str:
    return f"{round(size / GIB * 2) / 2}GiB"
