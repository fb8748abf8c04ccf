"""Whether a server is well: by its last so many probes, and by the requests that it failed."""

from collections import deque
from dataclasses import dataclass, field

from vllama.controller.manifest.servers import BalanceSpec

FIRST_PAUSE_S = 1.0
SLOW = "it takes {:.1f} s on average to answer a health check, and at most {:g} s are allowed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One probe. `wrong`: what was wrong, as the end of a sentence; None: nothing."""

    took_s: float
    wrong: str | None = None


@dataclass(slots=True, eq=False)
class Health:
    """The breaker opens after some requests that failed in a row, and then lets one through now and then (half-open):
    the first that goes well closes it, each that does not doubles the pause.
    """

    balance: BalanceSpec
    checks: deque[Check] = field(default_factory=deque)
    checked: int = 0  # in all
    checked_at: float | None = None
    failures: int = 0  # of requests, in a row; none: closed
    _why: str = ""
    _opened_until: float | None = None  # None: closed
    _pause_s: float = FIRST_PAUSE_S
    trying: bool = False  # the one request that finds out is under way
    unsound: str | None = "it was not asked yet"  # what the checks found wrong, as the end of a sentence

    # what happened

    def check(self, check: Check, now: float) -> None:
        self.checks.append(check)
        while len(self.checks) > self.balance.window_size:
            self.checks.popleft()
        self.checked += 1
        self.checked_at = now
        self.unsound = self._judged()

    def apply(self, balance: BalanceSpec) -> None:
        self.balance = balance
        if self.checks:
            self.unsound = self._judged()

    def succeeded(self) -> None:
        self.failures, self._opened_until, self._pause_s = 0, None, FIRST_PAUSE_S

    def failed(self, why: str, now: float) -> None:
        self.failures += 1
        self._why = why
        if self._opened_until is None:
            if self.failures >= self.balance.failure_threshold:
                self._opened_until = now + self._pause_s
        elif now >= self._opened_until:
            self._pause_s = min(2 * self._pause_s, self.balance.recovery_s)
            self._opened_until = now + self._pause_s

    # what follows

    @property
    def failed_checks(self) -> int:
        """In a row, the latest ones."""
        count = 0
        for check in reversed(self.checks):
            if check.wrong is None:
                break
            count += 1
        return count

    @property
    def success_rate(self) -> float | None:
        """Of the window; None: nothing was asked yet."""
        if not self.checks:
            return None
        return sum(check.wrong is None for check in self.checks) / len(self.checks)

    @property
    def mean_s(self) -> float | None:
        times = [check.took_s for check in self.checks if check.wrong is None]
        return sum(times) / len(times) if times else None

    @property
    def half_open(self) -> bool:
        return self._opened_until is not None

    def takes(self, now: float) -> bool:
        """A request may be sent there now."""
        if self._opened_until is not None and (self.trying or now < self._opened_until):
            return False
        return not self.balance.active_health_check or self.unsound is None

    def may_take(self, now: float) -> bool:
        """It takes requests, or one is finding out whether it does: waiting is not in vain."""
        due = self._opened_until is None or self.trying or now >= self._opened_until
        return due and (not self.balance.active_health_check or self.unsound is None)

    def _judged(self) -> str | None:
        """Once per check, since each request looks at it."""
        balance, rate = self.balance, self.success_rate or 0.0
        if self.failed_checks >= balance.consecutive_failures or rate < balance.min_success_rate:
            last = next((check.wrong for check in reversed(self.checks) if check.wrong is not None), "")
            bad = sum(check.wrong is not None for check in self.checks)
            return f"{bad} of its last {len(self.checks)} health checks failed: {last}"
        if (mean_s := self.mean_s) is not None and mean_s > balance.max_response_time_s:
            return SLOW.format(mean_s, balance.max_response_time_s)
        return None

    @property
    def wrong(self) -> str | None:
        """Why it gets no requests, or one at most; None: it is well."""
        if self.balance.active_health_check and self.unsound is not None:
            return self.unsound
        if self._opened_until is not None:
            return f"{self.failures} requests in a row failed there: {self._why}"
        return None
