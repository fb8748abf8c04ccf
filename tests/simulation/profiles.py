"""What kind of world is simulated: how many devices, how tight, how busy, how unlucky."""

from dataclasses import dataclass, field

from vllama.domain.units import GIB, MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultRates:
    """`every_s`: mean seconds between accidents that strike by themselves; None: none. The rest are chances per
    operation, or weights among accidents."""

    every_s: float | None = None
    spawn: float = 0.0
    load: float = 0.0  # exits, hangs, runs out of memory, or never answers
    sleep: float = 0.0  # frees nothing, hangs, fails, exits, lies
    wake: float = 0.0
    leak: float = 0.0  # a wake after which it never frees as much again
    stop: float = 0.0  # ignores SIGTERM; survives SIGKILL for a while
    probe: float = 0.0  # one question without an answer
    foreign: float = 1.0  # weight among accidents, as below
    crash: float = 1.0
    reading: float = 1.0
    still: float = 0.0  # its core stands still, and its server says that it is well
    node: float = 0.0  # a host is silent for a while, or dead


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Means are of exponential distributions. `pressure`: sum of what models need, in device memories."""

    name: str
    devices: int = 2  # of all hosts together
    hosts: int = 1
    device_bytes: int = 24 * GIB
    reserve_bytes: int = 512 * MIB
    models: int = 6
    smallest_bytes: int = 4 * GIB
    largest_bytes: int = 14 * GIB
    parallel: float = 0.0  # share of models on two devices
    spanning: float = 0.0  # share of models that are larger than a host
    replicated: float = 0.0  # share of models with two or three engines
    pinned: int = 0
    too_large: int = 0  # models that can never fit
    host_budget_bytes: int = 48 * GIB
    sleep_frees_memory: bool = True
    measured_visible: float = 0.7  # chance that the driver tells per process
    arrivals_every_s: float = 0.5
    zipf: float = 1.0
    bursty: float = 0.3  # chance that the next quarter of an hour is a burst, a round robin or a silence
    duration_s: float = 4.0
    longest_s: float = 60.0
    impatient: float = 0.15
    demanding: float = 0.0  # chance that a request says how long it waits, and as large a one, how long its model stays
    operators_every_s: float | None = None
    edits_every_s: float | None = None
    restarts_every_s: float | None = None
    load_s: tuple[float, float] = (4.0, 25.0)
    copy_bytes_per_s: int = 20 * GIB  # between device and host, to sleep and to wake
    faults: FaultRates = field(default_factory=FaultRates)


_ACCIDENTS = FaultRates(
    every_s=40.0, spawn=0.02, load=0.05, sleep=0.04, wake=0.04, leak=0.05, stop=0.08, probe=0.002
)  # fmt: skip

PROFILES = {
    profile.name: profile
    for profile in (
        Profile(name="calm", arrivals_every_s=1.0, operators_every_s=200.0, demanding=0.1),
        Profile(name="faulty", arrivals_every_s=1.5, operators_every_s=120.0, edits_every_s=120.0, faults=_ACCIDENTS),
        Profile(name="tight", devices=1, models=5, smallest_bytes=10 * GIB, largest_bytes=22 * GIB, duration_s=6.0,
                arrivals_every_s=1.0, host_budget_bytes=16 * GIB, too_large=1, operators_every_s=500.0),
        Profile(name="many", devices=2, models=30, smallest_bytes=3 * GIB, largest_bytes=12 * GIB, duration_s=3.0,
                host_budget_bytes=96 * GIB, edits_every_s=200.0, operators_every_s=200.0, pinned=1,
                demanding=0.1),
        Profile(name="parallel", devices=4, models=8, parallel=0.5, smallest_bytes=6 * GIB, largest_bytes=20 * GIB,
                arrivals_every_s=1.0, demanding=0.1,
                operators_every_s=300.0, faults=FaultRates(every_s=150.0, load=0.02, sleep=0.02, wake=0.02)),
        Profile(name="restarts", models=7, copy_bytes_per_s=2 * GIB, arrivals_every_s=1.5,
                restarts_every_s=60.0, edits_every_s=200.0, operators_every_s=200.0,
                faults=FaultRates(every_s=200.0, stop=0.05, sleep=0.01, wake=0.01)),
        Profile(name="hung", arrivals_every_s=1.5, operators_every_s=300.0,
                faults=FaultRates(every_s=60.0, probe=0.001, crash=0.3, reading=0.3, still=2.0)),
        Profile(name="cpu", devices=1, device_bytes=64 * GIB, models=6, sleep_frees_memory=False,
                smallest_bytes=8 * GIB, largest_bytes=30 * GIB, edits_every_s=900.0),
        Profile(name="replicas", devices=3, models=5, replicated=0.7, parallel=0.1, pinned=1, largest_bytes=18 * GIB,
                restarts_every_s=900.0, edits_every_s=200.0, operators_every_s=150.0, demanding=0.1,
                faults=FaultRates(every_s=150.0, spawn=0.01, load=0.03, sleep=0.02, wake=0.02, stop=0.02)),
        Profile(name="nodes", devices=6, hosts=3, models=9, replicated=0.3, parallel=0.3, spanning=0.2, pinned=1,
                smallest_bytes=6 * GIB, largest_bytes=20 * GIB, arrivals_every_s=1.0, restarts_every_s=600.0,
                edits_every_s=300.0, operators_every_s=200.0,
                faults=FaultRates(every_s=40.0, load=0.01, sleep=0.01, wake=0.01, crash=0.3, reading=0.3, node=3.0)),
    )
}  # fmt: skip
