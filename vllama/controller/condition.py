"""What is to be looked at, as in Kubernetes."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """As in Kubernetes. `ok` False: somebody should look."""

    type: str
    ok: bool
    reason: str
    message: str
