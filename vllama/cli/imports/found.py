"""What another tool's file says, as far as models.yaml can say it too."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


class Existing(enum.StrEnum):
    """What becomes of an entry that models.yaml has already, and that says otherwise."""

    REFUSE = "refuse"
    KEEP = "keep"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """What could not be carried over. `line` None: of no line in particular. `why` is for people."""

    file: str
    line: int | None
    what: str
    why: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.what}: {self.why}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A model by its id, or a server by its URL, with its keys as models.yaml has them; `line`: where it was found."""

    name: str
    entry: Mapping[str, Any]
    line: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """`balance`: key -> (value, line). `to_do`: models that somebody has to decide about, a line each."""

    tool: str
    file: str
    models: tuple[Piece, ...] = ()
    servers: tuple[Piece, ...] = ()
    balance: Mapping[str, tuple[Any, int | None]] = field(default_factory=dict)
    left: tuple[Left, ...] = ()
    to_do: tuple[str, ...] = ()
