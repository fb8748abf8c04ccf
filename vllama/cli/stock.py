"""The models of this machine: what lies on disk, what models.yaml declares, and what a server says of them."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllama.controller.manifest.load import Manifest, load
from vllama.controller.manifest.problems import ManifestInvalid
from vllama.controller.names import Names
from vllama.controller.profiles import known_tasks
from vllama.domain.spec import ModelSpec
from vllama.engine.cache import CachedModel, find_on_disk, in_directory, models_on_disk
from vllama.engine.kinds import Task, task_from, task_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Stocked:
    """One model. `on_disk` None: nothing of it is here. `phase` None: no server told."""

    model: str
    task: Task
    declared: bool
    aliases: tuple[str, ...] = ()
    on_disk: CachedModel | None = None
    phase: str | None = None

    def as_json(self) -> dict[str, Any]:
        found = self.on_disk
        return {
            "model": self.model,
            "type": self.task.value,
            "size_bytes": None if found is None else found.size_bytes,
            "phase": self.phase,
            "declared": self.declared,
            "aliases": list(self.aliases),
            "complete": found is not None and found.complete,
            "missing": [] if found is None else list(found.missing),
            "note": "" if found is None else found.note,
            "directory": None if found is None else str(found.directory),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Stock:
    """`problem`: what is wrong with models.yaml, of which then nothing is known."""

    models: tuple[Stocked, ...]
    specs: Mapping[str, ModelSpec]
    problem: str | None

    @property
    def names(self) -> Names:
        """Of all that is declared or on disk."""
        undeclared = [each.model for each in self.models if each.model not in self.specs]
        return Names([*self.specs.values(), *(ModelSpec(model=model, declared=False) for model in undeclared)])


def take_stock(
    config_dir: Path, environ: Mapping[str, str], statuses: Iterable[Mapping[str, Any]] | None = None
) -> Stock:
    """Sorted by model. `statuses` as the admin API gives them; None: no server told. Blocks on the file system."""
    manifest, problem = _manifest(config_dir / "models.yaml", environ)
    tasks = known_tasks(config_dir / "profiles.json")
    found: dict[str, CachedModel | None] = {each.model: each for each in models_on_disk(environ)}
    found |= {model: _declared(spec, environ) for model, spec in manifest.models.items() if _says_where(spec)}
    told = None if statuses is None else {status["model"]: status for status in statuses}
    models = sorted({*found, *manifest.models, *(told or {})})
    return Stock(
        models=tuple(
            _stocked(model, found.get(model), manifest.models.get(model), told, tasks.get(model, ()))
            for model in models
        ),
        specs=manifest.models,
        problem=problem,
    )


def _manifest(path: Path, environ: Mapping[str, str]) -> tuple[Manifest, str | None]:
    try:
        return load(path, environ=environ), None
    except ManifestInvalid as invalid:
        return Manifest(), str(invalid)


def _says_where(spec: ModelSpec) -> bool:
    return spec.launch.path is not None or spec.launch.setting("revision") is not None


def _declared(spec: ModelSpec, environ: Mapping[str, str]) -> CachedModel | None:
    """Where models.yaml says that it is to be taken from; None: that revision is not here."""
    if spec.launch.path is None:
        return find_on_disk(environ, spec.model, revision=str(spec.launch.setting("revision")))
    return in_directory(spec.model, Path(spec.launch.path))


def _stocked(
    model: str,
    found: CachedModel | None,
    spec: ModelSpec | None,
    told: Mapping[str, Mapping[str, Any]] | None,
    tasks: tuple[str, ...],
) -> Stocked:
    status = None if told is None else told.get(model)
    guess = task_of(model, None) if found is None else found.task
    return Stocked(
        model=model,
        task=task_from(tasks, guess),
        declared=spec is not None or bool(status and status["declared"]),
        aliases=spec.aliases if spec is not None else tuple(status["aliases"]) if status else (),
        on_disk=found,
        phase=None if status is None else _phase(status),
    )


def _phase(status: Mapping[str, Any]) -> str:
    level = status["sleep_level"]
    return str(status["phase"]) if level is None else f"{status['phase']} (L{level})"
