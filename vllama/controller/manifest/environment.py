"""What the server's environment says for all models, below the defaults of the file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from vllama.controller.manifest import amounts, values
from vllama.controller.manifest.entry import Entry, idle_entry
from vllama.controller.manifest.problems import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """`device` is for models that name none and need only one. `home` is what `~/` means.

    `directory` is the file's own: a relative `path` counts from there.
    """

    entry: Entry = field(default_factory=Entry)
    device: int | None = None
    home: str | None = None
    directory: str | None = None
    problems: tuple[Problem, ...] = ()


def read_environment(environ: Mapping[str, str]) -> Environment:
    """VLLAMA_UNLOAD_TIMEOUT (seconds or a duration), VLLAMA_UNLOAD_MODE (1, 2, 3, auto), VLLAMA_DEFAULT_DEVICE."""
    problems: list[Problem] = []

    def read(name: str, reader: Callable[[Any], Any]) -> Any:
        try:
            return reader(environ[name].strip())
        except ValueError as error:
            problems.append(Problem(file=name, line=None, path=(), text=str(error)))
            return None

    idle: dict[str, Any] = {}
    if environ.get("VLLAMA_UNLOAD_TIMEOUT", "").strip():
        idle["sleep_after"] = read("VLLAMA_UNLOAD_TIMEOUT", amounts.duration_or_never)
    if environ.get("VLLAMA_UNLOAD_MODE", "").strip():
        idle["level"] = read("VLLAMA_UNLOAD_MODE", amounts.level)
    device = None
    if environ.get("VLLAMA_DEFAULT_DEVICE", "").strip():
        device = read("VLLAMA_DEFAULT_DEVICE", values.whole(0, 4095))
    return Environment(
        entry=idle_entry(idle) if idle else Entry(),
        device=device,
        home=environ.get("HOME") or None,
        problems=tuple(problems),
    )
