"""The file of keys, from text to the keys in it. What is wrong is said without a word of what stands there.

keys:
  laptop: {hash: 'sha256:…', scope: models, added: '2026-11-21'}

Somebody may have put a key itself where its hash or its name belongs, and problems end in logs.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainValidator, ValidationError

from vllama.controller.manifest.content import read_content
from vllama.controller.manifest.marks import Document, parse
from vllama.controller.manifest.problems import KeyPath, ManifestInvalid, Problem
from vllama.gateway.keys.key import Key, Ring, Scope

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")
NOTHING = "`keys: {}` to let nobody in"
_HASH = re.compile(r"sha256:([0-9a-f]{64})")


def _hash(value: Any) -> str:
    if not isinstance(value, str) or not _HASH.fullmatch(value):
        raise ValueError("`hash` is not `sha256:` and 64 hexadecimal digits")
    return value


def _added(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
        raise ValueError("`added` is not a date like 2026-11-21")
    return value


class KeyEntry(BaseModel):
    """One key of the file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    hash: Annotated[str, PlainValidator(_hash)]
    scope: Scope = Scope.MODELS
    added: Annotated[str, PlainValidator(_added)] | None = None

    @property
    def digest(self) -> bytes:
        return bytes.fromhex(self.hash.removeprefix("sha256:"))


def read_ring(content: bytes | None, *, file: str, required: bool) -> Ring | None:
    """None: there is no file, so nobody needs a key; not where it is `required`. Raises ManifestInvalid."""
    if content is None:
        if required:
            text = "there is no such file; `vllama keys add NAME --api-keys FILE` makes one"
            raise ManifestInvalid([Problem(file=file, line=None, path=(), text=text)])
        return None
    entries = read_entries(content, file=file)
    return {entry.digest: Key(name=name, scope=entry.scope) for name, entry in entries.items()}


def load_entries(path: Path) -> dict[str, KeyEntry] | None:
    """By name; None: there is no file. Raises ManifestInvalid."""
    content = read_content(path)
    return None if content is None else read_entries(content, file=str(path))


def read_entries(content: bytes, *, file: str) -> dict[str, KeyEntry]:
    document = parse(content, file=file, environ={})
    problems = list(document.problems)
    entries: dict[str, KeyEntry] = {}
    if problems:
        raise ManifestInvalid(problems)
    for name, data in _listed(document, problems):
        path = ("keys", name)
        if not NAME.fullmatch(name):
            problems.append(_problem(document, path, "a name has 1 to 64 of A-Z a-z 0-9 . _ @ + -"))
        elif not isinstance(data, dict):
            problems.append(_problem(document, path, "a key is written {hash: ..., scope: ...}"))
        else:
            try:
                entries[name] = KeyEntry.model_validate(data)
            except ValidationError as error:
                problems += [_problem(document, (*path, *one["loc"]), _words(one)) for one in error.errors()]
    problems += _twins(document, entries)
    if problems:
        raise ManifestInvalid(problems)
    return entries


def _listed(document: Document, problems: list[Problem]) -> Iterator[tuple[str, Any]]:
    data = document.data
    if data is None:
        problems.append(_problem(document, (), f"the file is empty; write {NOTHING}"))
    elif not isinstance(data, dict) or set(data) != {"keys"} or not isinstance(data["keys"] or {}, dict):
        problems.append(_problem(document, (), "the file is a mapping `keys:` of names, and nothing else"))
    else:
        yield from (data["keys"] or {}).items()


def _twins(document: Document, entries: dict[str, KeyEntry]) -> list[Problem]:
    hashes = [entry.hash for entry in entries.values()]
    text = "another name has the same hash"
    return [_problem(document, ("keys", name), text) for name, entry in entries.items() if hashes.count(entry.hash) > 1]


def _words(detail: Any) -> str:
    match detail["type"]:
        case "missing":
            return "`hash` is missing; `vllama keys add NAME` makes a key"
        case "extra_forbidden":
            return "a key has `hash`, `scope` and `added`, and nothing else"
        case "value_error":
            return str(detail["ctx"]["error"])
        case _:
            return "`scope` is models or admin"


def _problem(document: Document, path: KeyPath, text: str) -> Problem:
    return Problem(file=document.file, line=document.line_of(path), path=path, text=text)
