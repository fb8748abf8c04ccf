"""`vllama logs` at work: from a server, or from the file where none runs."""

import json
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from vllama.cli.client import AdminClient
from vllama.cli.failure import CommandFailed
from vllama.cli.render.words import harmless
from vllama.cli.server import find_server
from vllama.cli.terminal import show_json
from vllama.controller.manifest import ManifestInvalid, load
from vllama.controller.names import Names
from vllama.domain.replicas import replica_name
from vllama.domain.spec import ModelSpec
from vllama.engine.logs import LogReader
from vllama.runtime.local.runtime import log_name

LOOK_EVERY_S = 0.25


def runs_on(config_dir: Path) -> bool:
    try:
        find_server(None, config_dir)
    except CommandFailed:
        return False
    return True


def from_server(client: AdminClient, model: str, *, replica: int, lines: int, follow: bool, as_json: bool) -> None:
    if follow:
        _print(client.follow_logs(model, lines, replica=replica), as_json=as_json)
    else:
        _all(client.logs(model, lines, replica=replica), as_json=as_json)


def from_file(config_dir: Path, name: str, *, replica: int, lines: int, follow: bool, as_json: bool) -> None:
    path = config_dir / "logs" / log_name(replica_name(_id_of(config_dir, name), replica))
    if not path.exists():
        raise CommandFailed(f"no engine of {name} has written a log: there is no {path}, and no server runs here.")
    reader = LogReader(path)
    found = reader.read()
    found = found[len(found) - min(lines, len(found)) :]
    if follow:
        _print(_followed(reader, found), as_json=as_json)
    else:
        _all(found, as_json=as_json)


def _followed(reader: LogReader, found: Iterable[str]) -> Iterator[str]:
    while True:
        yield from found
        time.sleep(LOOK_EVERY_S)
        found = reader.read()


def _all(found: Iterable[str], *, as_json: bool) -> None:
    if as_json:
        show_json(list(found))
    else:
        _print(found, as_json=False)


def _print(found: Iterable[str], *, as_json: bool) -> None:
    for line in found:
        print(json.dumps(line) if as_json else harmless(line), flush=True)


def _id_of(config_dir: Path, name: str) -> str:
    """As models.yaml has it; a file with mistakes knows no aliases."""
    try:
        models = load(config_dir / "models.yaml", environ=os.environ).models.values()
    except ManifestInvalid:
        return name
    found = Names(models).resolve(name)
    return found.model if isinstance(found, ModelSpec) else name
