"""The Hugging Face cache as a list of models. Blocks on the file system: call it in a thread."""

import enum
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vllama.engine.files import read_json, weight_files

_TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "tekken.json",
    "vocab.txt",
    "vocab.json",
    "spiece.model",
    "sentencepiece.bpe.model",
    "*.tiktoken",
)


class Task(enum.StrEnum):
    CHAT = "chat"
    EMBEDDING = "embedding"
    RERANK = "rerank"


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedModel:
    """One model in the cache, at the revision that vLLM would take.

    `missing` names what keeps it from being complete. `task` is a guess, for people only.
    """

    model: str
    directory: Path
    complete: bool
    missing: tuple[str, ...]
    size_bytes: int
    task: Task


def hub_directory(environ: Mapping[str, str]) -> Path:
    """VLLAMA_TRANSFORMERS_CACHE, else what huggingface_hub itself would take."""
    for name in ("VLLAMA_TRANSFORMERS_CACHE", "HF_HUB_CACHE"):
        if environ.get(name):
            return Path(environ[name]).expanduser()
    if environ.get("HF_HOME"):
        return Path(environ["HF_HOME"]).expanduser() / "hub"
    caches = Path(environ["XDG_CACHE_HOME"]) if environ.get("XDG_CACHE_HOME") else Path("~/.cache")
    return caches.expanduser() / "huggingface" / "hub"


def scan(hub: Path) -> tuple[CachedModel, ...]:
    """Every model with a snapshot, sorted by name. A directory that cannot be read is empty."""
    found = (_cached(entry) for entry in _entries(hub) if entry.name.startswith("models--"))
    return tuple(sorted((model for model in found if model is not None), key=lambda model: model.model))


def find(hub: Path, model: str) -> CachedModel | None:
    """One model by its id, without looking at the others. None: not there, or not a hub id."""
    parts = model.split("/")
    if len(parts) > 2 or any(part in {"", ".", ".."} for part in parts) or "\0" in model:
        return None
    return _cached(hub / f"models--{model.replace('/', '--')}")


def _cached(repository: Path) -> CachedModel | None:
    directory = _snapshot(repository)
    if directory is None:
        return None
    model = repository.name.removeprefix("models--").replace("--", "/")
    missing = tuple(dict.fromkeys(_missing(directory)))
    return CachedModel(
        model=model,
        directory=directory,
        complete=not missing,
        missing=missing,
        size_bytes=sum(_sizes(directory)),
        task=task_of(model, directory),
    )


def _snapshot(repository: Path) -> Path | None:
    """The one that refs/main names; without it, the newest."""
    snapshots = [entry for entry in _entries(repository / "snapshots") if entry.is_dir()]
    try:
        main = (repository / "refs" / "main").read_text(errors="replace").strip()
    except OSError:
        main = ""
    for entry in snapshots:
        if entry.name == main:
            return entry
    return max(snapshots, key=_modified_at, default=None)


def _missing(directory: Path) -> Iterator[str]:
    if read_json(directory / "config.json") is None:
        yield "config.json"
    if not any(entry.is_file() for name in _TOKENIZERS for entry in directory.glob(name)):
        yield "tokenizer.json"
    weights = weight_files(directory)
    yield from weights.missing
    if not weights.present and not weights.missing:
        yield "*.safetensors"
    # A link without its blob is a download that was cut short, or cleaned away.
    yield from (entry.name for entry in _entries(directory) if entry.is_symlink() and not entry.exists())


def task_of(model: str, directory: Path | None) -> Task:
    """A guess, from the name and the files as far as there are some."""
    name = model.lower()
    config = {} if directory is None else read_json(directory / "config.json") or {}
    architectures = config.get("architectures")
    classes = [str(c) for c in architectures] if isinstance(architectures, list) else []
    if "rerank" in name or "ranker" in name or any("SequenceClassification" in c or "Rerank" in c for c in classes):
        return Task.RERANK
    bare = any(c.endswith(("Model", "ForMaskedLM")) for c in classes)  # no head that generates
    if "embed" in name or bare or (directory is not None and (directory / "modules.json").exists()):
        return Task.EMBEDDING
    return Task.CHAT


def _sizes(directory: Path) -> Iterator[int]:
    for entry in _entries(directory):
        try:
            if entry.is_dir() and not entry.is_symlink():
                yield from _sizes(entry)
            elif entry.is_file():
                yield entry.stat().st_size
        except OSError:
            continue


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
