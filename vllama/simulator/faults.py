"""The bad manners an engine can be told to have, one switch each: VLLAMA_SIM_FAULTS=exit_at_load:1,log_flood.

To add one: a field here, its kind in `_KINDS`, and one `if faults.NAME` where the engine shall misbehave.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vllama.domain.units import parse_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    exit_at_load: int | None = None  # the process ends with this code while it loads
    hang_at_load: bool = False  # never opens its port
    health_never: bool = False  # opens its port, but /health never says 200
    oom_at_load: bool = False
    kv_error_at_load: bool = False  # the KV cache does not fit one request
    sleep_frees_nothing: bool = False
    sleep_hangs: bool = False  # the core stands still for ever; /health stays 200
    sleep_exits: bool = False
    wake_500: bool = False  # out of memory while waking, and the core dies of it
    wake_hangs: bool = False  # as in sleep
    wake_garbage: bool = False  # answers nonsense after a wake, until a restart
    denies_sleep: bool = False  # /is_sleeping is false while it sleeps
    denies_wake: bool = False  # /is_sleeping is still true after a wake
    residue_grows: int = 0  # bytes that each sleep leaves behind on top of those before
    ignore_sigterm: bool = False
    completions_hang: bool = False  # accepts requests and never answers; /health stays 200
    health_flaps: bool = False  # /health is 503 in every other second
    die_mid_stream: int | None = None  # the core is killed after this many tokens of a request, 0: before the first
    die_mid_utf8: int | None = None  # all processes are killed inside a letter, after this many events of a stream
    die_after_done: bool = False  # all processes are killed after [DONE], before the stream has ended
    log_flood: bool = False  # long, unfinished and binary lines without end
    log_halves: bool = False  # lines come in two halves with time between them, and with binary ones among them
    not_http: bool = False  # what answers an inference request is not HTTP
    huge_header: bool = False  # ... or has a header of 10 MB
    long_line: bool = False  # ... or is one event of 10 MB
    own_session: bool = False  # the core leaves the engine's session and process group
    double_fork: bool = False  # the core is nobody's child


def _whole_number(text: str) -> int:
    if not text.isdigit():
        raise ValueError(f"{text!r} is not a whole number")
    return int(text)


_KINDS: dict[str, Callable[[str], int] | None] = {  # None: a plain switch, without a value
    "exit_at_load": _whole_number,
    "hang_at_load": None,
    "health_never": None,
    "oom_at_load": None,
    "kv_error_at_load": None,
    "sleep_frees_nothing": None,
    "sleep_hangs": None,
    "sleep_exits": None,
    "wake_500": None,
    "wake_hangs": None,
    "wake_garbage": None,
    "denies_sleep": None,
    "denies_wake": None,
    "residue_grows": parse_bytes,
    "ignore_sigterm": None,
    "completions_hang": None,
    "health_flaps": None,
    "die_mid_stream": _whole_number,
    "die_mid_utf8": _whole_number,
    "die_after_done": None,
    "log_flood": None,
    "log_halves": None,
    "not_http": None,
    "huge_header": None,
    "long_line": None,
    "own_session": None,
    "double_fork": None,
}


def parse_faults(text: str) -> Faults:
    """`exit_at_load:1,log_flood` -> Faults. ValueError names the switch and all that are known."""
    chosen: dict[str, Any] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, colon, value = part.partition(":")
        if name not in _KINDS:
            raise ValueError(f"unknown fault {name!r}; known: {', '.join(_KINDS)}")
        kind = _KINDS[name]
        if (kind is None) == bool(colon):
            raise ValueError(f"fault {part!r}: {name} takes {'no' if kind is None else 'a'} value after a colon")
        try:
            chosen[name] = True if kind is None else kind(value)
        except ValueError as error:
            raise ValueError(f"fault {part!r}: {error}") from error
    return Faults(**chosen)
