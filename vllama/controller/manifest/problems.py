"""What is wrong with models.yaml, and where: one Problem per mistake, all of them at once."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

KeyPath = tuple[str | int, ...]

FULL_FORM = ("defaults", "models", "servers", "policy", "balance", "version")

_SHOWN_PROBLEMS = 20
_TEXT_LENGTH = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """`file` is a path, or the name of an environment variable. Lines and columns count from 1."""

    file: str
    line: int | None
    path: KeyPath
    text: str
    column: int | None = None

    def __str__(self) -> str:
        place = ":".join(str(part) for part in (self.file, self.line, self.column) if part is not None)
        return f"{place}: {self.text}"


class ManifestInvalid(Exception):
    """models.yaml, or another file of vllama's, cannot be applied.

    `problems` has every mistake, ordered by line; `str` is one screen of them.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda problem: (problem.file, problem.line or 0)))
        super().__init__(self.problems)

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems[:_SHOWN_PROBLEMS]]
        if (left := len(self.problems) - _SHOWN_PROBLEMS) > 0:
            lines.append(f"and {left} more")
        return "\n".join(lines)


def shown(value: object) -> str:
    """`value` as a message may quote it, however long it is."""
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    text = repr(value[:80] if isinstance(value, str) else value)
    return text if len(text) <= 80 else text[:77] + "..."


def shortened(text: str) -> str:
    return text if len(text) <= _TEXT_LENGTH else text[: _TEXT_LENGTH - 3] + "..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or nothing where no known word is near."""
    spelled = {name.replace("-", "_").lower(): name for name in known}
    near = difflib.get_close_matches(word[:80].replace("-", "_").lower(), spelled, n=1)
    return f"; did you mean {spelled[near[0]]!r}?" if near else ""


def label(path: KeyPath) -> str:
    """The path as a message begins: `Qwen/Qwen3-0.6B: idle.level`, `policy.reserve`, `servers[1].url`."""
    if not path:
        return "the file"
    in_model = path[0] not in FULL_FORM  # the flat form
    if path[0] == "models" and len(path) > 1:
        path, in_model = path[1:], True
    text = _word(path[0])
    for number, part in enumerate(path[1:], start=1):
        between = ": " if in_model and number == 1 else "."
        text += f"[{part}]" if isinstance(part, int) else f"{between}{_word(part)}"
    return text


def _word(part: str | int) -> str:
    return part if isinstance(part, str) and part.isprintable() and len(part) <= 80 and part else shown(part)
