"""Engines of what each machine tells: those that span several are put together of their ranks."""

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import replace

from vllama.domain.observed import Place
from vllama.runtime.base import EngineProcess, ProcessExit


def whole_engines(parts: Iterable[EngineProcess], *, starting: Collection[str]) -> tuple[EngineProcess, ...]:
    """One for each engine id. An engine is over when any of its ranks is; but for those that are `starting`, of which
    not all are there yet, and which are left out.
    """
    ranks: dict[str, list[EngineProcess]] = defaultdict(list)
    for part in parts:
        ranks[part.engine_id].append(part)
    return tuple(
        _whole(sorted(found, key=lambda part: part.rank))
        for engine_id, found in ranks.items()
        if found[0].ranks == 1 or engine_id not in starting
    )


def _whole(parts: list[EngineProcess]) -> EngineProcess:
    """The first of them speaks for all."""
    first = parts[0]
    if first.ranks == 1:
        return first
    ended = next((part for part in parts if part.exit is not None), None)
    over = None if ended is None else ended.exit
    if over is None and len(parts) < first.ranks:
        over = ProcessExit(code=None)
    further = tuple(Place(node=part.node, devices=part.devices) for part in parts[1:])
    return replace(first, further=further, exit=over, ended=None if ended is None else ended.log_file)
