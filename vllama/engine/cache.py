"""The models on disk: in the Hugging Face cache, in ModelScope's, and in directories. Blocks: call it in a thread."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vllama.domain.units import format_bytes
from vllama.engine.completeness import described, missing_files
from vllama.engine.kinds import Task, task_of
from vllama.engine.modelscope import modelscope_directories, unfinished_in_modelscope

_LONGEST_ID = 2  # parts: `org/name`, or the old `name`


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedModel:
    """One model on disk, at the revision that vLLM would take.

    `missing` names what keeps it from being complete, `note` what it is if it is no model. `task` is a guess.
    `path` is what `vllm serve` must be told; None: the id will do, as for what huggingface_hub keeps as `main`.
    `repository` is all that the cache has of it, other revisions included. `arriving`: all that it needs by its own
    account is there, but a download goes on.
    """

    model: str
    directory: Path
    complete: bool
    missing: tuple[str, ...]
    size_bytes: int
    task: Task
    path: str | None = None
    note: str = ""
    repository: Path | None = None
    arriving: bool = False


def hub_directory(environ: Mapping[str, str]) -> Path:
    """VLLAMA_TRANSFORMERS_CACHE, else what huggingface_hub itself would take."""
    for name in ("VLLAMA_TRANSFORMERS_CACHE", "HF_HUB_CACHE"):
        if environ.get(name):
            return Path(environ[name]).expanduser()
    if environ.get("HF_HOME"):
        return Path(environ["HF_HOME"]).expanduser() / "hub"
    caches = Path(environ["XDG_CACHE_HOME"]) if environ.get("XDG_CACHE_HOME") else Path("~/.cache")
    return caches.expanduser() / "huggingface" / "hub"


def arrived_bytes(environ: Mapping[str, str], model: str) -> int:
    """How much of `model` huggingface_hub has on disk, half files included, whoever fetches them: it only has to grow
    for as long as something arrives. A file may have its whole size before its bytes, so what it takes counts as well.
    """
    blobs = hub_directory(environ) / f"models--{model.replace('/', '--')}" / "blobs"
    total = 0
    for entry in _entries(blobs):
        with contextlib.suppress(OSError):
            status = entry.stat()
            total += status.st_size + 512 * status.st_blocks
    return total


def models_on_disk(environ: Mapping[str, str]) -> tuple[CachedModel, ...]:
    """Of all caches, sorted by name. Of a model that lies in several the first that is complete."""
    found = {model.model: model for model in scan(hub_directory(environ))}
    for model, directory in modelscope_directories(environ):
        if model not in found or not found[model].complete:
            other = _in_modelscope(model, directory)
            if other.complete or model not in found:
                found[model] = other
    return tuple(sorted(found.values(), key=lambda each: each.model))


def find_on_disk(environ: Mapping[str, str], model: str, *, revision: str | None = None) -> CachedModel | None:
    """One model by its id, without looking at the others. None: not there, or not at this `revision`."""
    in_hub = find(hub_directory(environ), model, revision=revision)
    if revision is not None or (in_hub is not None and in_hub.complete):
        return in_hub
    others = (_in_modelscope(model, directory) for name, directory in modelscope_directories(environ) if name == model)
    return next((other for other in others if other.complete or in_hub is None), in_hub)


def scan(hub: Path) -> tuple[CachedModel, ...]:
    """Every model of a Hugging Face cache, sorted by name. A directory that cannot be read is empty."""
    found = (_cached(entry) for entry in _entries(hub) if entry.name.startswith("models--"))
    return tuple(sorted((model for model in found if model is not None), key=lambda model: model.model))


def find(hub: Path, model: str, *, revision: str | None = None) -> CachedModel | None:
    """One model of a Hugging Face cache, at a branch, tag or commit; None: main, else the newest. None: not there."""
    repository = repository_of(hub, model)
    return None if repository is None else _cached(repository, revision)


def repository_of(hub: Path, model: str) -> Path | None:
    """Where a Hugging Face cache keeps `model`, if it has it. None: not a hub id."""
    parts = model.split("/")
    if len(parts) > _LONGEST_ID or any(part in {"", ".", ".."} for part in parts) or "\0" in model:
        return None
    return hub / f"models--{model.replace('/', '--')}"


def in_directory(model: str, directory: Path) -> CachedModel:
    """A model that models.yaml says lies in `directory`."""
    try:
        return _looked_at(model, directory, path=str(directory))
    except OSError as error:
        return CachedModel(
            model=model, directory=directory, complete=False, missing=(f"{directory} ({error.strerror or error})",),
            size_bytes=0, task=task_of(model, None), path=str(directory),
        )  # fmt: skip


def _cached(repository: Path, revision: str | None = None) -> CachedModel | None:
    """None: nothing of it is there, or may be read. While a newer revision comes, the older one that is complete."""
    try:
        return _best(repository, revision)
    except OSError:
        return None


def _best(repository: Path, revision: str | None) -> CachedModel | None:
    if revision is not None:
        directory = _at(repository, revision)
        return None if directory is None else _in_hub(repository, directory, path=str(directory))
    first: CachedModel | None = None
    for directory, is_main in _snapshots(repository):
        found = _in_hub(repository, directory, path=None if is_main else str(directory))
        if found.complete:
            return found
        first = first or found
    return first


def _in_hub(repository: Path, directory: Path, *, path: str | None) -> CachedModel:
    model = repository.name.removeprefix("models--").replace("--", "/")
    unfinished = tuple(_unfinished(repository, directory))
    return _looked_at(model, directory, path=path, unfinished=unfinished, repository=repository)


def _in_modelscope(model: str, directory: Path) -> CachedModel:
    unfinished = tuple(map(_said, unfinished_in_modelscope(directory)))
    return _looked_at(model, directory, path=str(directory), unfinished=unfinished, repository=directory)


def _looked_at(
    model: str,
    directory: Path,
    *,
    path: str | None = None,
    unfinished: tuple[str, ...] = (),
    repository: Path | None = None,
) -> CachedModel:
    lacking = missing_files(directory)
    missing = (*lacking, *unfinished)
    return CachedModel(
        model=model,
        directory=directory,
        complete=not missing,
        missing=missing,
        size_bytes=sum(_sizes(directory)),
        task=task_of(model, directory),
        path=path,
        note=described(directory),
        repository=repository,
        arriving=not lacking and bool(unfinished),
    )


def _at(repository: Path, revision: str) -> Path | None:
    with contextlib.suppress(OSError, ValueError):
        revision = (repository / "refs" / revision).read_text(errors="replace").strip()
    directory = repository / "snapshots" / revision
    return directory if directory.parent == repository / "snapshots" and directory.is_dir() else None


def _snapshots(repository: Path) -> Iterator[tuple[Path, bool]]:
    """First the one that refs/main names (True), then the others from the newest on."""
    try:
        main = (repository / "refs" / "main").read_text(errors="replace").strip()
    except OSError:
        main = ""
    snapshots = [(entry, entry.name == main) for entry in _entries(repository / "snapshots") if entry.is_dir()]
    yield from sorted(snapshots, key=lambda pair: (pair[1], _modified_at(pair[0])), reverse=True)


def _unfinished(repository: Path, directory: Path) -> Iterator[str]:
    """Downloads that were broken off, or go on, and could be of this snapshot: those begun or gone on with since the
    last of its files came, unless there is a newer snapshot that they are for.
    """
    blobs = [entry for entry in _entries(repository / "blobs") if entry.name.endswith(".incomplete")]
    if not blobs or any(_modified_at(other) > _modified_at(directory) for other in _entries(directory.parent)):
        return
    last = max((path.lstat().st_mtime for path in _files(directory)), default=0.0)
    yield from (_said(blob) for blob in sorted(blobs) if _modified_at(blob) >= last)


def _said(unfinished: Path) -> str:
    name = unfinished.name.partition(".")[0]
    return f"{name[:12]} ({format_bytes(sum(_sizes(unfinished)))} so far)"


def _sizes(path: Path) -> Iterator[int]:
    """Of a file, or of all files below a directory."""
    for file in [path] if path.is_file() else _files(path):
        try:
            yield file.stat().st_size
        except OSError:
            continue


def _files(directory: Path) -> Iterator[Path]:
    """Dangling links too."""
    for folder, _, files in os.walk(directory):
        yield from (Path(folder, name) for name in files)


def _entries(directory: Path) -> list[Path]:
    try:
        return list(directory.iterdir())
    except OSError:
        return []


def _modified_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
