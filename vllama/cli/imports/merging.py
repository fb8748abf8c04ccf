"""What was found, as changes of models.yaml: new entries, and what becomes of those that are there already."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from vllama.cli.imports.found import Existing, Found, Piece
from vllama.controller.manifest.beside import Beside, is_same_url
from vllama.controller.manifest.content import read_content
from vllama.controller.manifest.edit import Edit, entry_of

_GROUPS = frozenset({"idle", "extra_args", "env", "lora"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """`there`: what models.yaml has already and says otherwise: model ids, URLs, keys as in balance.max_retries."""

    edits: tuple[Edit, ...]
    beside: Beside
    there: tuple[str, ...]


def merge(found: Found, path: Path, existing: Existing) -> Merge:
    """Raises CannotEdit and ManifestInvalid."""
    text = (read_content(path) or b"").decode("utf-8", "surrogateescape")
    there: list[str] = []

    def goes(name: str, present: Any, new: Any) -> bool:
        if present is None:
            return True
        if present == new:
            return False
        there.append(name)
        return existing is Existing.REPLACE

    edits = []
    for piece in found.models:
        entry = entry_of(text, piece.name)
        if goes(piece.name, _plain(entry) if entry or _has(text, piece.name) else None, dict(piece.entry)):
            edits.append(_edit(piece, entry))
    listed = _section(text, "servers")
    listed = listed if isinstance(listed, list) else []
    servers = tuple(
        piece.entry for piece in found.servers if goes(piece.name, _server(listed, piece), dict(piece.entry))
    )
    balance = _section(text, "balance")
    balance = balance if isinstance(balance, dict) else {}
    changed = {
        key: value for key, (value, _) in found.balance.items() if goes(f"balance.{key}", balance.get(key), value)
    }
    beside = Beside(servers=servers, balance=changed, notes=tuple(_notes(found)))
    return Merge(edits=tuple(edits), beside=beside, there=tuple(there))


def _edit(piece: Piece, entry: Mapping[str, Any]) -> Edit:
    put: dict[tuple[str, ...], Any] = {}
    for key, value in piece.entry.items():
        if key in _GROUPS and isinstance(value, Mapping):
            put |= {(key, str(below)): said for below, said in value.items()}
        else:
            put[key,] = value
    return Edit(model=piece.name, put=put, drop=tuple((key,) for key in entry))


def _notes(found: Found) -> Iterator[str]:
    if found.to_do:
        yield f"# Of {found.tool}, for you to decide:"
        yield from (f"#   {' '.join(line.split())}" for line in found.to_do)


def _server(listed: list[Any], piece: Piece) -> Any:
    return next((item for item in listed if isinstance(item, dict) and is_same_url(item.get("url"), piece.name)), None)


def _section(text: str, name: str) -> Any:
    """Of a file that was read already; the flat form has no sections."""
    document = yaml.safe_load(text)
    return document.get(name) if isinstance(document, dict) else None


def _has(text: str, model: str) -> bool:
    models = _section(text, "models")
    return model in (models if isinstance(models, dict) else yaml.safe_load(text) or {})


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Without what ruamel keeps beside the values."""
    return {key: _value(value) for key, value in entry.items()}


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _plain(value)
    return [_value(each) for each in value] if isinstance(value, list) else value
