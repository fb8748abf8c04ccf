"""The sums of what happened, per model. Plain numbers that only the event loop touches."""

from bisect import bisect_left
from collections import Counter, defaultdict
from copy import copy

from vllama.gateway.metrics.finished import Finished, Outcome

BOUNDS_S = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0,
    1800.0,
)  # fmt: skip


class Meter:
    """One model's. A histogram is a count per bucket, not cumulative and the last for what is above all, and a sum."""

    __slots__ = (
        "answer_bytes", "at_once", "completion_tokens", "duration_s", "durations", "first_byte_s", "first_bytes",
        "prompt_tokens", "request_bytes", "requests", "wait_s", "waits", "well",
    )  # fmt: skip

    def __init__(self) -> None:
        self.well = 0  # requests that were ok, with a 200, as most are
        self.requests: Counter[tuple[Outcome, int]] = Counter()  # and how the others ended
        self.waits, self.first_bytes, self.durations = ([0] * (len(BOUNDS_S) + 1) for _ in range(3))
        self.wait_s = self.first_byte_s = self.duration_s = 0.0
        self.at_once = 0  # did not wait: most of them, and none of `waits`
        self.request_bytes = self.answer_bytes = 0
        self.prompt_tokens = self.completion_tokens = 0

    @property
    def outcomes(self) -> Counter[tuple[Outcome, int]]:
        """How many requests ended how, and with which status."""
        return self.requests + Counter({("ok", 200): self.well})

    def copy(self) -> "Meter":
        """For whoever reads it on another thread."""
        twin = copy(self)
        twin.requests = self.requests.copy()
        twin.waits, twin.first_bytes, twin.durations = self.waits[:], self.first_bytes[:], self.durations[:]
        return twin


class Meters:
    def __init__(self) -> None:
        self.of: defaultdict[str, Meter] = defaultdict(Meter)
        self.pulls = 0  # under way

    def copy(self) -> dict[str, Meter]:
        return {model: meter.copy() for model, meter in self.of.items()}

    def add(self, one: Finished) -> None:
        """A method per histogram would cost more than what it does."""
        meter = self.of[one.model]
        if one.status == 200 and one.outcome == "ok":
            meter.well += 1
        else:
            meter.requests[one.outcome, one.status] += 1
        meter.request_bytes += one.request_bytes
        meter.answer_bytes += one.answer_bytes
        meter.durations[bisect_left(BOUNDS_S, one.duration_s)] += 1
        meter.duration_s += one.duration_s
        if one.wait_s:
            meter.waits[bisect_left(BOUNDS_S, one.wait_s)] += 1
            meter.wait_s += one.wait_s
        else:
            meter.at_once += 1
        if one.first_byte_s is not None:
            meter.first_bytes[bisect_left(BOUNDS_S, one.first_byte_s)] += 1
            meter.first_byte_s += one.first_byte_s
        if one.usage is not None:
            prompt, completion = one.usage
            meter.prompt_tokens += prompt
            meter.completion_tokens += completion
