"""One server: what the file says of it, what it said of itself, and what is under way there."""

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from vllama.controller.bell import Bell
from vllama.controller.demand import Endpoint
from vllama.controller.manifest.servers import BalanceSpec, ServerSpec
from vllama.controller.servers.health import Health
from vllama.engine.load import EngineLoad
from vllama.planner.balance import Candidate


@dataclass(slots=True, eq=False)
class Server:
    """`models` stays what it last said, also while it is away. Times are of the clock that counts on through suspend.

    `look` rings when it is to be asked anew, and `checks` says whether its load alone will not do.
    """

    spec: ServerSpec
    balance: BalanceSpec
    health: Health
    clock: Callable[[], float]
    models: tuple[str, ...] = ()
    models_at: float | None = None
    load: EngineLoad | None = None
    load_at: float | None = None
    in_flight_then: int = 0  # of ours, when it told its load
    in_flight: int = 0
    last_chosen_at: float = 0.0
    look: Bell = field(default_factory=Bell)
    checks: bool = False

    @property
    def url(self) -> str:
        return self.spec.url

    @property
    def engine_id(self) -> str:
        return f"server {self.spec.url}"

    def apply(self, spec: ServerSpec, balance: BalanceSpec) -> None:
        """What is known of it stays known: it is the same address."""
        self.spec, self.balance = spec, balance
        self.health.apply(balance)

    def endpoint(self, model: str) -> Endpoint:
        spec = self.spec
        parts = urlsplit(spec.url)
        tls = parts.scheme == "https"
        return Endpoint(
            engine_id=self.engine_id,
            host=parts.hostname or "",
            port=parts.port or (443 if tls else 80),
            served_name=model,
            elsewhere=True,
            tls=tls,
            base_path=parts.path,
            api_key=spec.api_key,
            silence_s=self.balance.request_timeout_s,
        )

    def candidate(self) -> Candidate:
        load = self.load
        return Candidate(
            server=self.spec.url,
            capacity=self.spec.max_concurrent_requests,
            in_flight=self.in_flight,
            running=load.running if load else 0,
            waiting=load.waiting if load else 0,
            in_flight_then=self.in_flight_then,
            last_chosen_at=self.last_chosen_at,
        )

    def told_load(self, load: EngineLoad | None, now: float) -> None:
        self.load, self.load_at, self.in_flight_then = load, now, self.in_flight

    # how a request went there; no word of it: its client left

    def went_well(self) -> None:
        if self.health.failures:
            self.health.succeeded()

    def went_wrong(self, why: str) -> None:
        self.health.failed(why, self.clock())
        self.doubt()

    def doubt(self) -> None:
        """What happened there makes another look worth while; a 404: it may have other models than it said."""
        self.checks = True
        self.look.ring()
