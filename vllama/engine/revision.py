"""What is another when a model's files are: a few looks at the file system, where `about` reads. Blocks on it."""

from collections.abc import Iterator
from pathlib import Path

from vllama.domain.spec import ModelSpec
from vllama.engine.cache import repository_of

Revision = tuple[tuple[str, int, int], ...]  # path, nanoseconds of its last change, bytes

# Others come and go, which changes the directory that they are in.
_READ = ("config.json", "tokenizer_config.json", "chat_template.jinja", "LICENSE")


def revision_of(spec: ModelSpec, hub: Path | None) -> Revision:
    """Never raises. `hub` as for `about`. Downloads that begin and end are seen, each at its next file."""
    return tuple(found for path in _paths(spec, hub) if (found := _looked_at(path)) is not None)


def _paths(spec: ModelSpec, hub: Path | None) -> Iterator[Path]:
    if spec.launch.path is not None:
        yield from _of_directory(Path(spec.launch.path))
        return
    repository = None if hub is None else repository_of(hub, spec.model)
    if repository is None:
        return
    yield from (repository / "refs" / "main", repository / "blobs", repository / "snapshots")
    try:
        snapshots = sorted((repository / "snapshots").iterdir())
    except OSError:
        return
    for snapshot in snapshots:
        yield from _of_directory(snapshot)


def _of_directory(directory: Path) -> Iterator[Path]:
    yield directory
    yield from (directory / name for name in _READ)


def _looked_at(path: Path) -> tuple[str, int, int] | None:
    try:
        status = path.stat()
    except (OSError, ValueError):
        return None
    return str(path), status.st_mtime_ns, status.st_size
