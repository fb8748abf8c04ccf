"""The least that all requests of a small trace can wait in sum, whoever decides: found by search, to measure others by.

Simpler than the world of `simulate`, where that is cold (no sleep mode): one device; a model is there or not, and comes
and goes in always the same time; one change at a time. As there, nobody is cut off, and a door may be closed so that
arrivals queue. Nothing is better even with knowledge of the future, which the search has.
"""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from vllama.replay.trace import Trace

MOST_MODELS, MOST_REQUESTS, MOST_STATES = 6, 40, 2_000_000
_GONE, _OPEN, _CLOSED = 0, 1, 2
_MS = 1000

# Of one model: whether it is there, until when it is busy (0: idle), how many wait, and the longest that one of them
# will keep it busy. Times are whole milliseconds.
_Model = tuple[int, int, int, int]
_State = tuple[int, int, tuple[_Model, ...]]  # now, how many have arrived, models


class TooLarge(ValueError):
    """For this search; says what is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """What a model takes of the device, and how long it takes to come and to go."""

    memory_bytes: int
    in_s: float
    out_s: float


def least_waiting_s(
    trace: Trace, device_bytes: int, swaps: Mapping[str, Swap], *, ahead: bool = False
) -> float:  # fmt: skip
    """From an empty device. Every model of the trace must fit alone. Raises TooLarge.

    `ahead`: models may come, and others leave for them, before anybody asks; else only for somebody who waits.
    """
    if len(trace.models) > MOST_MODELS or len(trace) > MOST_REQUESTS:
        raise TooLarge(f"{len(trace.models)} models and {len(trace)} requests: at most {MOST_MODELS}, {MOST_REQUESTS}.")
    return _Search(trace, device_bytes, [swaps[model] for model in trace.models], ahead=ahead).run() / _MS


class _Search:
    """A* over the moments at which nothing is under way, by what was waited so far and what must be waited at least."""

    def __init__(self, trace: Trace, device_bytes: int, swaps: Sequence[Swap], *, ahead: bool) -> None:
        self._room, self._ahead = device_bytes, ahead
        self._bytes = [swap.memory_bytes for swap in swaps]
        self._in = [round(swap.in_s * _MS) for swap in swaps]
        self._out = [round(swap.out_s * _MS) for swap in swaps]
        number = {model: index for index, model in enumerate(trace.models)}
        origin_s = trace.requests[0].at_s if trace.requests else 0.0
        self._arrivals = [
            (round((each.at_s - origin_s) * _MS), number[each.model], round(each.busy_s * _MS)) for each in trace
        ]
        self._last = [max(i for i, (_, m, _) in enumerate(self._arrivals) if m == model) for model in number.values()]

    def run(self) -> int:
        nobody: _Model = (_GONE, 0, 0, 0)
        waited, first = self._until(0, (0, 0, (nobody,) * len(self._bytes)))
        queue, best = [(waited + self._at_least(first), waited, first)], {first: waited}
        while queue:
            _, waited, state = heapq.heappop(queue)
            if waited > best[state]:
                continue
            if state[1] == len(self._arrivals) and not any(model[2] for model in state[2]):
                return waited
            if len(best) > MOST_STATES:
                raise TooLarge(f"More than {MOST_STATES} states; fewer requests or models.")
            for more, then in self._steps(state):
                if waited + more < best.get(then, 1 << 62):
                    best[then] = waited + more
                    heapq.heappush(queue, (waited + more + self._at_least(then), waited + more, then))
        raise AssertionError("a model that does not fit alone")

    def _steps(self, state: _State) -> Iterator[tuple[int, _State]]:
        """What can be begun now, each followed to its end; and waiting for whatever comes next."""
        now, arrived, models = state
        free = self._room - sum(size for size, model in zip(self._bytes, models, strict=True) if model[0])
        wanted = [i for i, model in enumerate(models) if model[2] or (self._ahead and self._last[i] >= arrived)]
        short = any(models[i][0] == _GONE and self._bytes[i] > free for i in wanted)
        for i, (there, busy, count, longest) in enumerate(models):
            if there == _GONE and i in wanted and self._bytes[i] <= free:
                more, (end, known, then) = self._until(now + self._in[i], state)
                served_until = end + then[i][3] if then[i][2] else 0
                yield more, (end, known, _with(then, i, (_OPEN, served_until, 0, 0)))
            elif there and short and not busy:
                closed = _with(models, i, (_CLOSED, 0, count, longest))
                more, (end, known, then) = self._until(now + self._out[i], (now, arrived, closed))
                yield more, (end, known, _with(then, i, (_GONE, 0, then[i][2], then[i][3])))
            elif there == _OPEN and short:
                yield 0, (now, arrived, _with(models, i, (_CLOSED, busy, count, longest)))
        ends = [model[1] for model in models if model[1]]
        ends += [self._arrivals[arrived][0]] if arrived < len(self._arrivals) else []
        if ends:
            yield self._until(min(ends), state)

    def _until(self, end: int, state: _State) -> tuple[int, _State]:
        """What is waited until `end`, and the state then, with all who have arrived by then."""
        now, arrived, models = state
        waited = (end - now) * sum(model[2] for model in models)
        changed = list(models)
        while arrived < len(self._arrivals) and self._arrivals[arrived][0] <= end:
            at, i, busy_ms = self._arrivals[arrived]
            there, busy, count, longest = changed[i]
            if there == _OPEN:
                changed[i] = there, max(busy, at + busy_ms), count, longest
            else:
                changed[i] = there, busy, count + 1, max(longest, busy_ms)
                waited += end - at
            arrived += 1
        then = tuple((there, busy if busy > end else 0, *rest) for there, busy, *rest in changed)
        return waited, (end, arrived, then)  # type: ignore[return-value]

    def _at_least(self, state: _State) -> int:
        """Those who wait come in one after the other, at best with the most of them for the shortest time first."""
        waiting = [(self._in[i] / model[2], self._in[i], model[2]) for i, model in enumerate(state[2]) if model[2]]
        after, found = 0, 0
        for _, in_ms, count in sorted(waiting):
            after += in_ms
            found += after * count
        return found


def _with(models: tuple[_Model, ...], index: int, model: _Model) -> tuple[_Model, ...]:
    return (*models[:index], model, *models[index + 1 :])
