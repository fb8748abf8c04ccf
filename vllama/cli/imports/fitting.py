"""Of what was found what our own reader of models.yaml takes; the rest is left, with the reader's words."""

import copy
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml

from vllama.cli.imports.found import Found, Left, Piece
from vllama.controller.manifest.load import load_bytes
from vllama.controller.manifest.problems import KeyPath, ManifestInvalid, Problem

_FILE = "import"


def fitting(found: Found, *, names: Mapping[str, str], environ: Mapping[str, str]) -> Found:
    """`names`: every name that models.yaml has already -> the model that it means there."""
    left = list(found.left)
    taken = {piece.name: piece.name for piece in found.models} | dict(names)
    models = [_model(piece, taken, found.file, environ, left) for piece in found.models]
    servers = [_server(piece, found.file, environ, left) for piece in found.servers]
    balance = dict(found.balance)
    for problem in _problems({"balance": {key: value for key, (value, _) in balance.items()}}, environ):
        key = str(problem.path[1]) if len(problem.path) > 1 else ""
        if key in balance:
            left.append(_left(found.file, balance.pop(key)[1], f"balance.{key}", problem))
    return replace(
        found, models=tuple(each for each in models if each is not None), balance=balance, left=tuple(left),
        servers=tuple(each for each in servers if each is not None),
    )  # fmt: skip


def _model(
    piece: Piece, taken: dict[str, str], file: str, environ: Mapping[str, str], left: list[Left]
) -> Piece | None:
    if taken[piece.name] != piece.name:
        why = f"is already a name of {taken[piece.name]}"
        left.append(Left(file=file, line=piece.line, what=piece.name, why=why))
        return None
    aliases = []
    for alias in piece.entry.get("aliases") or ():
        if taken.setdefault(alias, piece.name) == piece.name:
            aliases.append(alias)
        else:
            why = f"is already a name of {taken[alias]}"
            left.append(Left(file=file, line=piece.line, what=f"{piece.name}: alias {alias}", why=why))
    entry = copy.deepcopy(dict(piece.entry)) | ({"aliases": aliases} if aliases else {})
    if not aliases:
        entry.pop("aliases", None)
    while problems := _problems({"models": {piece.name: entry}}, environ):
        for problem in problems:
            left.append(_left(file, piece.line, piece.name, problem))
            if not _take_out(entry, problem.path[2:]):
                return None
    return Piece(name=piece.name, entry=entry, line=piece.line)


def _server(piece: Piece, file: str, environ: Mapping[str, str], left: list[Left]) -> Piece | None:
    entry = dict(piece.entry)
    while problems := _problems({"servers": [entry]}, environ):
        for problem in problems:
            left.append(_left(file, piece.line, piece.name, problem))
            if problem.path[2:3] == ("url",) or not _take_out(entry, problem.path[2:]):
                return None
    return Piece(name=piece.name, entry=entry, line=piece.line)


def _problems(document: dict[str, Any], environ: Mapping[str, str]) -> tuple[Problem, ...]:
    try:
        load_bytes(yaml.safe_dump(document, allow_unicode=True).encode(), file=_FILE, environ=environ)
    except ManifestInvalid as invalid:
        return tuple(problem for problem in invalid.problems if problem.file == _FILE)
    return ()


def _left(file: str, line: int | None, what: str, problem: Problem) -> Left:
    why = problem.text.removeprefix(f"{what}: ").removeprefix("servers[0].")
    return Left(file=file, line=line, what=what, why=why)


def _take_out(entry: dict[str, Any], path: KeyPath) -> bool:
    """False: there is nothing that could go."""
    if not path or path[0] not in entry:
        return False
    below = entry[path[0]]
    if len(path) > 1 and isinstance(below, dict) and path[1] in below and len(below) > 1:
        del below[path[1]]
    else:
        del entry[path[0]]
    return True
