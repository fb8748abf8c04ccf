"""The file of keys, changed: whole or not at all, readable by its owner only, and by one command at a time."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from vllama.gateway.keys.file import NAME, KeyEntry, load_entries
from vllama.gateway.keys.key import Scope, digest_of, new_secret

_HEAD = "# API keys of vllama, written by `vllama keys`: what was written by hand stays, comments do not.\n"


class CannotEdit(Exception):
    """Nothing was changed; the text says why."""


def add(path: Path, name: str, scope: Scope, *, today: str) -> str:
    """The new key, which is nowhere else. Raises CannotEdit, ManifestInvalid and OSError."""
    if not NAME.fullmatch(name):
        raise CannotEdit("a name has 1 to 64 of A-Z a-z 0-9 . _ @ + - and begins with a letter or digit.")
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        entries = load_entries(path) or {}
        if name in entries:
            raise CannotEdit(f"there is a key {name} already; remove it first, or choose another name.")
        secret = new_secret()
        entry = KeyEntry(hash=f"sha256:{digest_of(secret.encode()).hex()}", scope=scope, added=today)
        _write(path, {**entries, name: entry})
    return secret


def remove(path: Path, name: str) -> int:
    """How many are left. Raises CannotEdit, ManifestInvalid and OSError."""
    if not path.exists():
        raise CannotEdit(f"there is no {path}, so there are no keys.")
    with _alone(path):
        entries = load_entries(path) or {}
        if name not in entries:
            raise CannotEdit(f"there is no key {name}; there are: {', '.join(entries) or 'none'}.")
        del entries[name]
        _write(path, entries)
    return len(entries)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """The directory is locked, since the file is another one after each change."""
    directory = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _write(path: Path, entries: Mapping[str, KeyEntry]) -> None:
    keys = {name: entry.model_dump(mode="json", exclude_none=True) for name, entry in entries.items()}
    text = _HEAD + yaml.safe_dump({"keys": keys}, sort_keys=False, default_flow_style=None, width=1000)
    path = path.resolve()  # a link stays one
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=f".{path.name}.", delete=False) as fresh:  # 0600
        try:
            owner = (path if path.exists() else path.parent).stat()
            with contextlib.suppress(PermissionError):  # root must not take the file away from the server
                os.chown(fresh.name, owner.st_uid, owner.st_gid)
            fresh.write(text)
            fresh.flush()
            os.fsync(fresh.fileno())
            Path(fresh.name).replace(path)
        except BaseException:
            Path(fresh.name).unlink(missing_ok=True)
            raise
