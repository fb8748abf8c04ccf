"""Which parts of an engine's memory sleep, and whether its weights can be trusted. Pure.

Two things are apart in vLLM and so they are here: the memory (tags that sleep) and the scheduler (paused or not).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

SLEEP_TAGS = frozenset({"weights", "kv_cache"})


@dataclass(frozen=True, slots=True, kw_only=True)
class SleepState:
    sleeping_tags: frozenset[str] = frozenset()
    paused: bool = False
    weights_discarded: bool = False  # by level 2; only reload_weights brings them back

    @property
    def is_sleeping(self) -> bool:
        """As /is_sleeping says: true also when only the scheduler is paused."""
        return self.paused or bool(self.sleeping_tags)

    @property
    def answers_garbage(self) -> bool:
        """Also while parts of the memory sleep: /resume lets an engine run that should not."""
        return self.weights_discarded or bool(self.sleeping_tags)

    @property
    def awake_share(self) -> float:
        """How much of the memory that sleep frees is resident, 0..1. Weights are two thirds of it."""
        return (2 * ("weights" not in self.sleeping_tags) + ("kv_cache" not in self.sleeping_tags)) / 3


def fall_asleep(state: SleepState, level: int) -> SleepState:
    """Level 0 only pauses. An engine whose weights sleep already keeps the level it has."""
    paused = replace(state, paused=True)
    if level == 0 or "weights" in state.sleeping_tags:
        return paused
    return replace(paused, sleeping_tags=SLEEP_TAGS, weights_discarded=state.weights_discarded or level == 2)


def tags_to_wake(state: SleepState, tags: Sequence[str] | None) -> frozenset[str]:
    """The tags whose memory a wake-up restores: none at all if one of them does not sleep."""
    if tags is None:
        return state.sleeping_tags
    wanted = frozenset(tags) - {"scheduling"}
    return wanted if wanted <= state.sleeping_tags else frozenset()


def wake(state: SleepState, tags: Sequence[str] | None) -> SleepState:
    """Scheduling resumes only once all memory is resident again."""
    left = state.sleeping_tags - tags_to_wake(state, tags)
    return replace(state, sleeping_tags=left, paused=state.paused and bool(left))


def reload_weights(state: SleepState) -> SleepState:
    return replace(state, weights_discarded=False)
