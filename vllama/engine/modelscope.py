"""ModelScope's cache: plain directories `org/name`, where `.` of a name is written `___`. Blocks on the file system."""

from collections.abc import Iterator, Mapping
from pathlib import Path

_TEMPORARY = "._____temp"
_NO_OWNERS = frozenset({"hub", "models", "datasets", "ast_indexer"})
_DOT = "___"


def modelscope_directories(environ: Mapping[str, str]) -> Iterator[tuple[str, Path]]:
    """Model and directory, each model once. The layout changed over time: all of them are looked at."""
    root = Path(environ.get("MODELSCOPE_CACHE") or Path(environ.get("HOME") or "~", ".cache", "modelscope"))
    root = root.expanduser()
    seen: set[str] = set()
    for base in (root / "models", root / "hub" / "models", root / "hub", root):
        for owner in _directories(base):
            if owner.name in _NO_OWNERS:
                continue
            for directory in _directories(owner):
                if directory.is_symlink() and directory.resolve().parent == owner.resolve():
                    continue  # the dotted name, which is often there as well
                model = f"{owner.name}/{directory.name}".replace(_DOT, ".")
                if model not in seen and _holds_a_model(directory):
                    seen.add(model)
                    yield model, directory


def unfinished_in_modelscope(directory: Path) -> tuple[Path, ...]:
    """Files of it that are still to come, or were broken off."""
    owner = directory.parent
    temporary = owner.parent / _TEMPORARY / owner.name / directory.name
    try:
        return tuple(sorted(path for path in temporary.rglob("*") if path.is_file()))
    except OSError:
        return ()


def _holds_a_model(directory: Path) -> bool:
    try:
        return bool(
            {"config.json", "params.json", "adapter_config.json"} & {entry.name for entry in directory.iterdir()}
        )
    except OSError:
        return False


def _directories(base: Path) -> list[Path]:
    try:
        return sorted(entry for entry in base.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError:
        return []
