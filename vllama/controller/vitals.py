"""Whether this process lives and is ready, for those who watch over it. Figures only: nothing here is secret."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Vitals:
    """`stuck`: why only a restart helps. `unready`: why no requests should be sent here, yet or any more. None: not so.

    `lag_s`: how late the event loop was at most in the latest minute. `pass_age_s`: since the loop's last pass;
    `pass_s`: how long that took. `deaths`: of background tasks that were begun again, by name. `blocked`: how often
    the event loop stood still for seconds.
    """

    stuck: str | None = None
    unready: str | None = None
    lag_s: float = 0.0
    pass_age_s: float = 0.0
    pass_s: float = 0.0
    blocked: int = 0
    deaths: Mapping[str, int] = field(default_factory=dict)
