"""The engines that are there already, whoever started them: found by their tags, the orphans of dead leaders too."""

from vllama.runtime.local import proc
from vllama.runtime.local.spawn import Leader


def leaders_of(owner: str) -> tuple[Leader, ...]:
    """One for each engine of `owner`, the eldest first; none is watched yet. Blocks."""
    found = proc.tagged(owner)
    leaders: dict[str, Leader] = {}
    for each, identity in sorted(found.values(), key=lambda pair: pair[0].start_ticks):
        if identity.engine_id in leaders:
            continue
        leads = found.get(each.sid, (None, None))[0]
        leaders[identity.engine_id] = Leader(
            identity=identity, sid=each.sid, since_ticks=(leads or each).start_ticks,
            started_at=(leads or each).started_at, process=leads,
        )  # fmt: skip
    return tuple(leaders.values())
