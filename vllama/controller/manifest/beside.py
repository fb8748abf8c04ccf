"""What a command changes in models.yaml beside the models: servers, how requests are spread, notes at the end."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml.comments import CommentedMap, CommentedSeq

from vllama.controller.manifest.roundtrip import extend, put


class CannotEdit(Exception):
    """Nothing was changed; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """`servers` are added, or take the place of the one with the same URL; keys of `balance` are set. `notes` are
    comments, a line each, that are added at the end where the file does not have them.
    """

    servers: tuple[Mapping[str, Any], ...] = ()
    balance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def touched(self) -> frozenset[str]:
        """The sections that change."""
        said = {"servers": self.servers, "balance": self.balance}
        return frozenset(name for name, value in said.items() if value)


def put_beside(document: CommentedMap, beside: Beside) -> bool:
    """Whether anything changed. Raises CannotEdit."""
    changed = False
    for server in beside.servers:
        changed |= _put_server(document, server)
    if beside.balance:
        present = document.get("balance")
        if present is None:
            put(document, "balance", CommentedMap(beside.balance))
            return True
        if not isinstance(present, CommentedMap):
            raise CannotEdit("`balance` is no map of settings; edit the file by hand.")
        for key, value in beside.balance.items():
            if key not in present or present[key] != value:
                put(present, key, value)
                changed = True
    return changed


def _put_server(document: CommentedMap, server: Mapping[str, Any]) -> bool:
    present = document.get("servers")
    if present is None:
        put(document, "servers", CommentedSeq([CommentedMap(server)]))
        return True
    if not isinstance(present, CommentedSeq):
        raise CannotEdit("`servers` is no list; edit the file by hand.")
    for item in present:
        if isinstance(item, CommentedMap) and is_same_url(item.get("url"), server["url"]):
            if dict(item) == dict(server):
                return False
            for key in [key for key in item if key not in server]:
                del item[key]
            for key, value in server.items():
                put(item, key, value)
            return True
    extend(document, "servers", [CommentedMap(server)])
    return True


def is_same_url(one: object, other: object) -> bool:
    """With or without a slash or /v1 at the end."""

    def bare(url: object) -> str:
        return str(url).strip().rstrip("/").removesuffix("/v1").rstrip("/")

    return bare(one) == bare(other)


def with_notes(text: str, notes: tuple[str, ...]) -> str:
    present = {line.strip() for line in text.splitlines()}
    new = [line for line in notes if line.strip() not in present]
    if not new:
        return text
    return text + ("" if not text or text.endswith("\n") else "\n") + "\n".join(new) + "\n"


def as_full(text: str) -> str:
    """A file of the flat form in the full form: one step to the right, below `models:`. Raises CannotEdit."""
    lines = text.splitlines()
    if any(line.startswith(("---", "...", "%", "{")) for line in lines):
        raise CannotEdit(
            "The file has its models at the top, and `servers` or `balance` cannot stand beside them. "
            "Put them below `models:` by hand, and try again."
        )
    return "models:\n" + "".join(f"  {line}\n" if line.strip() else "\n" for line in lines)
