"""What an engine's log teaches of its footprint and abilities. Pure; raises on nothing."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from vllama.domain.units import GIB
from vllama.engine.logs import parse_line


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedFootprint:
    """What an engine said of itself; None: not yet, or never. Bytes are per device (of several, the most).

    vLLM rounds to 0.01 GiB. `consumed_bytes` is weights and what is outside of PyTorch, `activation_bytes` the
    peak of a forward pass: with the graphs and the KV cache they are all that the engine holds.
    `asleep_bytes` counts everybody's memory on the device. `supported_tasks` as in `("generate",)`.
    """

    weights_bytes: int | None = None
    kv_cache_bytes: int | None = None
    kv_cache_tokens: int | None = None
    graphs_bytes: int | None = None
    consumed_bytes: int | None = None
    activation_bytes: int | None = None
    load_s: float | None = None  # weights from disk to device
    init_s: float | None = None  # profile, compile, KV cache, warm-up
    sleep_freed_bytes: int | None = None
    asleep_bytes: int | None = None
    host_copy_bytes: int | None = None
    sleep_s: float | None = None
    wake_s: float | None = None
    supported_tasks: tuple[str, ...] = ()

    @property
    def fixed_bytes(self) -> int | None:
        """All but the KV cache, per device; None until it is known, which takes a start that profiled."""
        if self.consumed_bytes is None:
            return None
        return self.consumed_bytes + (self.activation_bytes or 0) + (self.graphs_bytes or 0)


def learn(lines: Iterable[str], known: LearnedFootprint | None = None) -> LearnedFootprint:
    """`known` and what these lines add. Sizes at the start: the most of any worker; sleeps and wakes: the latest."""
    learned = known or LearnedFootprint()
    for line in lines:
        text = parse_line(line).text
        found = _latest(text)
        found |= {name: max(size, getattr(learned, name) or 0) for name, size in _sizes(text).items()}
        if found:
            learned = replace(learned, **found)
    return learned


_GIB = r"(-?\d+(?:\.\d+)?) GiB"
_S = r"(\d+(?:\.\d+)?)"
_SIZES = (
    (re.compile(rf"Model loading took {_GIB} memory"), "weights_bytes"),
    (re.compile(rf"Available KV cache memory: {_GIB}"), "kv_cache_bytes"),
    (re.compile(r"(?:Explicitly|Auto) set \((-?\d+(?:\.\d+)?)/[\d.]+\) GiB for KV cache"), "kv_cache_bytes"),
    (re.compile(rf"{_GIB} memory was consumed by non-kv usages"), "consumed_bytes"),
    (re.compile(rf"Graph capturing finished in .* took {_GIB}"), "graphs_bytes"),
    (re.compile(rf"Actual usage is .* {_GIB} for peak activation"), "activation_bytes"),
    (re.compile(rf"Actual usage is .* {_GIB} for CUDAGraph memory"), "graphs_bytes"),
    (re.compile(rf"Current kv cache memory in use is {_GIB}"), "kv_cache_bytes"),
)
# Before it said "consumed memory", vLLM told weights and what is outside of PyTorch apart.
_CONSUMED = re.compile(
    rf"Actual usage is {_GIB} for (?:consumed memory|weight)(?:.*? {_GIB} for non-torch memory)?",
)
_LATEST_SIZES = (
    (re.compile(rf"Sleep mode freed {_GIB} memory"), "sleep_freed_bytes"),
    (re.compile(rf"Sleep mode freed .* memory, {_GIB} memory is still in use"), "asleep_bytes"),
    (re.compile(rf"sleep freed .* of which {_GIB} is backed up in CPU"), "host_copy_bytes"),
)
_SECONDS = (
    (re.compile(rf"Model loading took .* memory and {_S} seconds"), "load_s"),
    (re.compile(rf"Loading weights took {_S} seconds"), "load_s"),
    (re.compile(rf"init engine \([^)]*\) took {_S} s"), "init_s"),
    (re.compile(rf"It took {_S} seconds to fall asleep"), "sleep_s"),
    (re.compile(rf"It took {_S} seconds to wake up"), "wake_s"),
)
_TOKENS = re.compile(r"KV cache size: ([\d,]{1,20}) tokens")
_TASKS = re.compile(r"Supported tasks: \[([^\]]*)\]")


def _sizes(text: str) -> dict[str, int]:
    found = {name: _bytes(match[1]) for pattern, name in _SIZES if (match := pattern.search(text))}
    if match := _CONSUMED.search(text):
        found["consumed_bytes"] = _bytes(match[1]) + _bytes(match[2] or "0")
    return found


def _latest(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        name: _bytes(match[1]) for pattern, name in _LATEST_SIZES if (match := pattern.search(text))
    }
    found |= {name: float(match[1]) for pattern, name in _SECONDS if (match := pattern.search(text))}
    if (match := _TOKENS.search(text)) and (digits := match[1].replace(",", "")):
        found["kv_cache_tokens"] = int(digits)
    if match := _TASKS.search(text):
        found["supported_tasks"] = tuple(re.findall(r"'([^']*)'", match[1]))
    return found


def _bytes(gib: str) -> int:
    return max(0, int(min(float(gib), 1e9) * GIB))
