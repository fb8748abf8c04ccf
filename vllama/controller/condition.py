"""What is to be looked at, as in Kubernetes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """As in Kubernetes. `ok` False: somebody should look. `since`: of the wall clock; None: nobody keeps that."""

    type: str
    ok: bool
    reason: str
    message: str
    since: float | None = None
