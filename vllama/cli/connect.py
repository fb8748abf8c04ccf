"""A server's admin API, by its URL or by the configuration directory that it runs on. Imports little at first."""
# ruff: noqa: PLC0415

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from vllama.cli.failure import CommandFailed

if TYPE_CHECKING:
    from vllama.cli.client import AdminClient

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached(Generic[T]):
    """What a server answered. None: there is none, or, with a `problem`, one that did not answer that."""

    url: str | None = None
    answer: T | None = None
    problem: str | None = None


@contextlib.contextmanager
def connect(server: str | None, config_dir: Path, api_key: str | None = None) -> "Iterator[AdminClient]":
    """Commands without an `--api-key` of their own still have the environment's."""
    from vllama.cli.server import find_server

    url = find_server(server, config_dir)
    from vllama.cli.client import AdminClient, trusting
    from vllama.cli.server import certificate_of

    key = api_key or os.environ.get("VLLAMA_API_KEY")
    trust = trusting(certificate_of(config_dir) if server is None else None) if url.startswith("https:") else None
    with AdminClient(url, api_key=key, trust=trust) as client:
        yield client


def ask_if_any(
    server: str | None, config_dir: Path, api_key: str | None, question: "Callable[[AdminClient], T]"
) -> Reached[T]:
    """For commands that do without a server: `question` is put to the one that is named, or that runs here."""
    from vllama.cli.server import find_server

    try:
        url = find_server(server, config_dir)
    except CommandFailed:
        return Reached()
    try:
        with connect(server, config_dir, api_key) as client:
            return Reached(url=url, answer=question(client))
    except CommandFailed as failed:
        return Reached(url=url, problem=failed.message)
