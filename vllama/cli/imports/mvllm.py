"""servers.toml of mvllm, the balancer: its servers, and its [config], whose keys are those of `balance:`."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from typing import Any

from vllama.cli.failure import CommandFailed
from vllama.cli.imports.found import Found, Left, Piece
from vllama.controller.manifest.schema import BalanceKeys, ServerKeys


def read(text: str, *, file: str) -> Found:
    """CommandFailed where it is no TOML."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CommandFailed(f"{file} is no TOML: {error}.") from None
    lines = text.splitlines()
    left: list[Left] = []
    servers = tuple(_servers(document.get("servers"), lines, file, left))
    config = document.get("config")
    balance = {}
    for key, value in (config if isinstance(config, dict) else {}).items():
        line = _line(lines, rf"\s*\[?{re.escape(key)}\b", after=_line(lines, r"\s*\[config\]"))
        if key in BalanceKeys.model_fields:
            balance[key] = value, line
        else:
            left.append(Left(file=file, line=line, what=f"config.{key}", why="mvllm has no such key, nor has vllama"))
    for key in document:
        if key not in {"servers", "config"}:
            line = _line(lines, rf"\s*\[*\s*{re.escape(key)}\b")
            left.append(Left(file=file, line=line, what=key, why="mvllm has no such section, nor has vllama"))
    return Found(tool="mvllm", file=file, servers=servers, balance=balance, left=tuple(left))


def _servers(section: Any, lines: list[str], file: str, left: list[Left]) -> Iterator[Piece]:
    listed = section.get("servers") if isinstance(section, dict) else section
    line: int | None = None
    for item in listed if isinstance(listed, list) else ():
        url = item.get("url") if isinstance(item, Mapping) else None
        if not isinstance(url, str):
            left.append(Left(file=file, line=line, what="servers", why=f"{item!r} has no url"))
            continue
        line = _line(lines, rf".*\burl\b.*[\"']{re.escape(url)}[\"']", after=line)
        left += [
            Left(file=file, line=line, what=f"{url}: {key}", why="vllama finds that out by itself")
            for key in item
            if key not in ServerKeys.model_fields
        ]
        known = {key: value for key, value in item.items() if key in ServerKeys.model_fields}
        yield Piece(name=url, entry=known, line=line)


def _line(lines: list[str], pattern: str, *, after: int | None = None) -> int | None:
    """From 1. The parser tells none."""
    found = (number for number, line in enumerate(lines, 1) if number > (after or 0) and re.match(pattern, line))
    return next(found, None)
