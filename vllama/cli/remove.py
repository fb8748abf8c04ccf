"""`vllama rm`: a model out of the cache it lies in, unless an engine of it runs."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from rich.text import Text

from vllama.cli.connect import Reached
from vllama.cli.failure import CommandFailed
from vllama.cli.stock import Stock
from vllama.cli.terminal import show, show_json
from vllama.controller.control import Unresolved
from vllama.domain.units import format_bytes
from vllama.engine.cache import CachedModel, find_on_disk, hub_directory
from vllama.engine.removal import freed_bytes, remove

Status = Mapping[str, Any]


def run(name: str, stock: Stock, reached: Reached[list[Any]], *, sure: bool, as_json: bool) -> None:
    """`reached`: the statuses of the server here, which may run it. CommandFailed why it stays."""
    found = meant(name, stock)
    repository = found.repository
    if repository is None:
        raise CommandFailed(
            f"{found.model} lies in {found.directory}, as models.yaml says: a directory of yours, which stays.\n"
            "  vllama only removes what lies in a model cache."
        )
    if reached.problem is not None:
        raise CommandFailed(f"nothing is removed, for it is not known whether an engine of it runs: {reached.problem}")
    for status in reached.answer or ():
        _check_unused(status, found, repository, stock)
    size = freed_bytes(repository)
    if not sure:
        _confirm(f"Remove {found.model} ({format_bytes(size)}) from {repository.parent}?")
    try:
        remove(found, hub_directory(os.environ))
    except OSError as error:
        raise CommandFailed(f"{error.filename or repository} cannot be removed: {error.strerror or error}.") from None
    if as_json:
        show_json({"model": found.model, "freed_bytes": size, "directory": str(repository)})
        return
    show(Text(f"{found.model} is removed; {format_bytes(size)} are free again."))
    if found.model in stock.specs:
        show(Text("models.yaml still declares it: its next call would fetch it again."))


def meant(name: str, stock: Stock) -> CachedModel:
    """By any of its names; also half a download, and the cache's own where models.yaml names another place."""
    spec = stock.names.resolve(name)
    if isinstance(spec, Unresolved):
        raise CommandFailed(spec.message)
    found = next((each.on_disk for each in stock.models if each.model == spec.model), None)
    if found is None or found.repository is None:
        found = find_on_disk(os.environ, spec.model) or found
    if found is None:
        raise CommandFailed(f"{spec.model} is not on disk.")
    return found


def _check_unused(status: Status, found: CachedModel, repository: Path, stock: Stock) -> None:
    """A sleeper too reads its weights again."""
    if status["phase"] in {"Stopped", "Failed"} and status["pid"] is None:
        return
    model = str(status["model"])
    spec = stock.specs.get(model)
    path = None if spec is None or spec.launch.path is None else Path(spec.launch.path)
    if model == found.model or (path is not None and path.resolve().is_relative_to(repository.resolve())):
        raise CommandFailed(
            f"an engine of {model} is {status['phase']} and uses these files.\n  Stop it first: vllama stop {model}"
        )


def _confirm(question: str) -> None:
    if not sys.stdin.isatty():
        raise CommandFailed(f"nothing is removed, as there is nobody to ask: {question}\n  Say --yes if it is meant.")
    if not typer.confirm(question):
        raise CommandFailed("nothing was removed.")
