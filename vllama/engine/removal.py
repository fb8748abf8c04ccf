"""A model taken out of a cache, and what that frees. Blocks on the file system."""

import contextlib
import os
import shutil
import stat
from dataclasses import replace
from pathlib import Path

from vllama.engine.cache import CachedModel


def freed_bytes(repository: Path) -> int:
    """What the disk gets back: of all revisions, with what is half downloaded; links count for nothing."""
    size = 0
    for folder, _, files in os.walk(repository):
        for name in files:
            with contextlib.suppress(OSError):
                found = Path(folder, name).lstat()
                if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:  # another name elsewhere would keep it
                    size += found.st_size
    return size


def remove(model: CachedModel, hub: Path) -> None:
    """All of it that its cache has; of one that is only linked from there, the link. OSError where the disk refuses."""
    repository = model.repository
    if repository is None:
        raise ValueError(f"{model.model} lies in a directory of somebody's own")
    if repository.parent == hub:
        _from_hub(model.model, hub)
        shutil.rmtree(hub / ".locks" / repository.name, ignore_errors=True)
    for link in _links_to(repository):
        link.unlink()
    if repository.is_symlink():
        repository.unlink()
    elif repository.exists():  # what huggingface_hub does not understand, half a download for example; or ModelScope's
        shutil.rmtree(repository)


def _from_hub(model: str, hub: Path) -> None:
    """As huggingface_hub does it: it knows what else may use a file."""
    from huggingface_hub import scan_cache_dir  # noqa: PLC0415  # half a second that only a removal is worth

    found = scan_cache_dir(hub)
    mine = [each for each in found.repos if each.repo_type == "model" and each.repo_id == model]
    revisions = [revision.commit_hash for each in mine for revision in each.revisions]
    if revisions:
        # A model that was renamed on the hub has the same commits under both names: the other must stay.
        replace(found, repos=frozenset(mine)).delete_revisions(*revisions).execute()


def _links_to(directory: Path) -> list[Path]:
    """ModelScope's other name for it."""
    try:
        return [entry for entry in directory.parent.iterdir() if entry.is_symlink() and entry.samefile(directory)]
    except OSError:
        return []
