"""Where an engine answers, and what it wants to be shown."""

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """`control_url`: where it is told to sleep and wake, and asked whether it sleeps; None: where all else is.

    `key`: every request carries it as `Authorization: Bearer`; None: it wants none.
    """

    base_url: str
    control_url: str | None = None
    key: str | None = field(default=None, repr=False)

    @property
    def control(self) -> str:
        return self.base_url if self.control_url is None else self.control_url
