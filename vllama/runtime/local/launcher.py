"""What runs for a model on this machine: `vllm serve`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from vllama.domain.action import Start
from vllama.domain.observed import Footprint
from vllama.domain.spec import ModelSpec
from vllama.engine.cache import arrived_bytes, find_on_disk, models_on_disk
from vllama.engine.command import ALONE, EngineCommand, Seat, serve_command
from vllama.engine.estimate import NoEstimate, WeightsEstimate, estimate, footprint_of
from vllama.engine.platform import EngineUnavailable, Platform, find_vllm
from vllama.runtime.base import RuntimeFailed


class VllmLauncher:
    def __init__(self, *, platform: Platform, cache_root: Path, parent_env: Mapping[str, str]) -> None:
        self._platform, self._cache_root, self._parent_env = platform, cache_root, parent_env
        self._callable: dict[str, Path] = {}

    def command(
        self, spec: ModelSpec, action: Start, *, port: int, tag: tuple[str, str], seat: Seat = ALONE
    ) -> EngineCommand:  # fmt: skip
        try:
            vllm = find_vllm(spec.launch.vllm, self._parent_env)
        except EngineUnavailable as error:
            raise RuntimeFailed(str(error)) from error
        return serve_command(
            spec=self._located(spec), action=action, port=port, executable=(vllm,), platform=self._platform,
            cache_root=self._cache_root, parent_env=self._parent_env, tag={tag[0]: tag[1]},
            door=seat.door, rank=seat.rank,
        )  # fmt: skip

    def footprint(self, spec: ModelSpec) -> Footprint | None:
        directory = self._directory_of(spec)
        sizes = None if directory is None else estimate(directory, dtype=str(spec.launch.setting("dtype") or "auto"))
        match sizes:
            case WeightsEstimate():
                return footprint_of(spec, sizes, platform=self._platform)
            case NoEstimate() | None:
                # not downloaded yet: what is declared still counts
                return None if spec.memory_bytes is None else footprint_of(spec, None, platform=self._platform)

    def _directory_of(self, spec: ModelSpec) -> Path | None:
        if spec.launch.path is not None:
            return Path(spec.launch.path)
        revision = spec.launch.setting("revision")
        cached = find_on_disk(self._parent_env, spec.served_name, revision=None if revision is None else str(revision))
        return None if cached is None else cached.directory

    def _located(self, spec: ModelSpec) -> ModelSpec:
        """A model that is complete where vLLM would not look by its id, with the directory where it is."""
        if spec.launch.path is not None or any(spec.launch.setting(name) for name in ("revision", "download_dir")):
            return spec
        cached = find_on_disk(self._parent_env, spec.served_name)
        if cached is None or not cached.complete or cached.path is None:
            return spec
        return replace(spec, launch=replace(spec.launch, path=cached.path))

    def arrived_bytes(self, model: str) -> int:
        return arrived_bytes(self._parent_env, model)

    def cached_models(self) -> tuple[str, ...]:
        """What was complete stays so while more of it is fetched: somebody may be using it."""
        self._callable = {
            each.model: each.directory
            for each in models_on_disk(self._parent_env)
            if each.complete or (each.arriving and self._callable.get(each.model) == each.directory)
        }
        return tuple(self._callable)
