"""`vllama keys`: the file of API keys. A running server takes every change by itself."""
# ruff: noqa: PLC0415

import contextlib
import enum
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from vllama.cli.failure import CommandFailed
from vllama.cli.options import CONFIG_DIR, ApiKeys, ConfigDir, Output, OutputFormat

keys = typer.Typer(no_args_is_help=True, help="API keys: who may use the models and the admin API. Needs no server.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose it is, e.g. laptop or ci.")]


class KeyScope(enum.StrEnum):
    MODELS = "models"
    ADMIN = "admin"


@keys.command()
def add(
    name: Name,
    *,
    scope: Annotated[
        KeyScope, typer.Option(help="What it opens; admin: the admin API and the models.")
    ] = KeyScope.MODELS,
    api_keys: ApiKeys = None,
    config_dir: ConfigDir = CONFIG_DIR,
) -> None:
    """Make a key and print it, this once: the file keeps its hash.

    With the first key the server asks everybody for one.
    """
    from datetime import UTC, datetime

    from vllama.gateway.keys import edit
    from vllama.gateway.keys.key import Scope

    path = _file(api_keys, config_dir)
    first = not path.exists()
    with _problems(path):
        secret = edit.add(path, name, Scope(scope.value), today=datetime.now(UTC).date().isoformat())
    print(secret)
    print(f"This is the key of {name}, for {_opens(scope)}. It is not kept: {path} has its hash.", file=sys.stderr)
    if first:
        print("From now on a server that reads this file asks everybody for a key.", file=sys.stderr)


@keys.command("list")
def list_(*, api_keys: ApiKeys = None, config_dir: ConfigDir = CONFIG_DIR, output: OutputFormat = Output.TEXT) -> None:
    """Show whose keys there are, and what they open."""
    from vllama.cli.terminal import show_json
    from vllama.gateway.keys.file import load_entries

    path = _file(api_keys, config_dir)
    with _problems(path):
        entries = load_entries(path)
    if output is Output.JSON:
        found = (entries or {}).items()
        show_json([{"name": name, "scope": entry.scope.value, "added": entry.added} for name, entry in found])
        return
    if entries is None:
        print(f"There is no {path}: nobody needs a key. The first `vllama keys add NAME` changes that.")
        return
    width = max(map(len, ("NAME", *entries)))
    for row in (
        ("NAME", "SCOPE", "ADDED"),
        *((name, key.scope.value, key.added or "-") for name, key in entries.items()),
    ):
        print(f"{row[0]:<{width}}  {row[1]:<6}  {row[2]}")


@keys.command()
def remove(name: Name, *, api_keys: ApiKeys = None, config_dir: ConfigDir = CONFIG_DIR) -> None:
    """Take a key out of force. Requests that are under way are finished."""
    from vllama.gateway.keys import edit

    path = _file(api_keys, config_dir)
    with _problems(path):
        left = edit.remove(path, name)
    print(f"The key of {name} is gone.")
    if not left:
        print(f"It was the last, so now nobody gets in by one. To do without: delete {path} and restart the server.")


def _file(named: Path | None, config_dir: Path) -> Path:
    return (named or config_dir / "keys.yaml").expanduser()


def _opens(scope: KeyScope) -> str:
    return "the models and the admin API" if scope is KeyScope.ADMIN else "the models"


@contextlib.contextmanager
def _problems(path: Path) -> Iterator[None]:
    from vllama.controller.manifest import ManifestInvalid
    from vllama.gateway.keys.edit import CannotEdit

    try:
        yield
    except CannotEdit as error:
        raise CommandFailed(str(error)) from None
    except ManifestInvalid as invalid:
        raise CommandFailed(f"{invalid}\nNothing was changed.") from None
    except OSError as error:
        raise CommandFailed(f"{error.filename or path} cannot be changed: {error.strerror or error}.") from None
