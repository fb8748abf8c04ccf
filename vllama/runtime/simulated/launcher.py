"""What runs instead of vLLM: the simulator, told through its environment what the model takes."""

import sys
from collections.abc import Mapping
from pathlib import Path

from vllama.domain.action import Start
from vllama.domain.observed import Footprint
from vllama.domain.spec import ModelSpec
from vllama.domain.units import GIB, MIB, parse_bytes
from vllama.engine.cache import arrived_bytes, hub_directory, scan
from vllama.engine.command import ALONE, EngineCommand, Seat, serve_command
from vllama.engine.platform import Platform

SILENT_BYTES = GIB  # of a model that does not say what it takes
RESIDUE_BYTES = 400 * MIB
WEIGHTS_SHARE = 0.8


class SimulatorLauncher:
    def __init__(self, *, directory: Path, parent_env: Mapping[str, str]) -> None:
        self._directory, self._parent_env = directory, parent_env

    def command(
        self, spec: ModelSpec, action: Start, *, port: int, tag: tuple[str, str], seat: Seat = ALONE
    ) -> EngineCommand:  # fmt: skip
        made_up = {"VLLAMA_SIM_MEMORY": str(action.memory_bytes)} | dict(self._parent_env)
        return serve_command(
            spec=spec, action=action, port=port, executable=(sys.executable, "-m", "vllama.simulator.engine"),
            platform=Platform.CUDA, cache_root=self._directory,
            parent_env=made_up | {"VLLAMA_SIM_DEVICES": str(self._directory)}, tag={tag[0]: tag[1]},
            door=seat.door, rank=seat.rank,
        )  # fmt: skip

    def footprint(self, spec: ModelSpec) -> Footprint:
        awake = spec.memory_bytes or SILENT_BYTES
        said = dict(self._parent_env) | dict(spec.launch.env)
        residue = said.get("VLLAMA_SIM_RESIDUE")
        return Footprint(
            awake_bytes=awake,
            asleep_bytes=RESIDUE_BYTES if residue is None else parse_bytes(residue),
            weights_bytes=int(WEIGHTS_SHARE * awake),
        )

    def arrived_bytes(self, model: str) -> int:
        """Of a cache that was named, as below."""
        return arrived_bytes(self._parent_env, model) if "VLLAMA_TRANSFORMERS_CACHE" in self._parent_env else 0

    def cached_models(self) -> tuple[str, ...]:
        """Of a cache that was named; the user's own has no business in a simulation."""
        if "VLLAMA_TRANSFORMERS_CACHE" not in self._parent_env:
            return ()
        return tuple(each.model for each in scan(hub_directory(self._parent_env)) if each.complete)
