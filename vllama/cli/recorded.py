"""`vllama trace export`: what a server recorded of its requests, as a trace."""

import time
from dataclasses import replace
from pathlib import Path

from vllama.cli.failure import CommandFailed
from vllama.gateway.recording import RECORDING, recorded
from vllama.replay import Trace, TraceError
from vllama.replay.trace import read_trace


def exported(config_dir: Path, *, since_s: float | None, anonymous: bool) -> Trace:
    """Counted from its first request. Raises CommandFailed where there is none."""
    path = config_dir / RECORDING
    try:
        requests = [request for part in recorded(path) for request in read_trace(part, sound_only=True)]
    except TraceError as error:
        raise CommandFailed(str(error)) from None
    after_s = 0.0 if since_s is None else time.time() - since_s
    found = Trace.of(request for request in requests if request.at_s >= after_s)
    if not found.requests:
        when = "" if since_s is None else " in that time"
        raise CommandFailed(
            f"No request was recorded{when}: {path}.\n`vllama serve` records them, unless --no-record-requests says no."
        )
    first_s = found.requests[0].at_s
    names = {model: f"model-{n}" if anonymous else model for n, model in enumerate(_by_popularity(found), start=1)}
    return Trace.of(replace(each, at_s=round(each.at_s - first_s, 3), model=names[each.model]) for each in found)


def _by_popularity(trace: Trace) -> list[str]:
    counts = dict.fromkeys(trace.models, 0)
    for request in trace:
        counts[request.model] += 1
    return sorted(counts, key=lambda model: (-counts[model], model))
