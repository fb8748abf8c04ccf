"""What happened in a simulated world, line by line, and the first thing that must not happen."""

import hashlib
from collections import Counter, deque
from dataclasses import dataclass

from tests.simulation.virtual import VirtualLoop

KEPT_LINES = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """`kind` names the checker."""

    at: float
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind} at {self.at:.3f} s: {self.text}"


class Story:
    """`counts` are by kind of event. `digest` is of every line: two runs with the same one are the same run."""

    def __init__(self, loop: VirtualLoop, *, aloud: bool = False) -> None:
        self._loop, self._aloud = loop, aloud
        self.counts: Counter[str] = Counter()
        self.last: deque[str] = deque(maxlen=KEPT_LINES)
        self.explained: Counter[str] = Counter()  # decisions, by reason, that their evidence led to again
        self.violation: Violation | None = None
        self._hash = hashlib.sha256()

    def tell(self, kind: str, text: str) -> None:
        self.counts[kind] += 1
        line = f"{self._loop.now:12.3f}  {kind:<9} {text}"
        self._hash.update(line.encode())
        self.last.append(line)
        if self._aloud:
            print(line)  # the story is what was asked for

    def wrong(self, kind: str, text: str) -> None:
        """A checker found something: the run ends here."""
        if self.violation is None:
            self.violation = Violation(at=self._loop.now, kind=kind, text=text)
            self.tell("WRONG", f"{kind}: {text}")
            self._loop.stop()

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()[:16]
