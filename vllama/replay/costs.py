"""What a model takes and how long its changes take: as learned, else assumed from the size of its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from vllama.domain.observed import Footprint
from vllama.domain.spec import DEFAULT_RESIDUE_BYTES, DEFAULT_RESIDUE_PARALLEL_BYTES, SleepLevel
from vllama.domain.units import GIB
from vllama.planner.timing import CHANGE_S, COPIES_BYTES_PER_S, READS_BYTES_PER_S, START_S, STOP_S

_WEIGHTS_SHARE = 0.6  # of what a model takes awake, where nobody tells how large its weights are


@dataclass(frozen=True, slots=True, kw_only=True)
class Assumed:
    """What is taken where nothing was measured: that of one GPU and its driver, PCIe and a fast disk."""

    start_s: float = START_S  # besides reading the weights
    reads_bytes_per_s: float = READS_BYTES_PER_S  # from disk: starts, and wakes from level 2
    copies_bytes_per_s: float = COPIES_BYTES_PER_S  # between host memory and each GPU: level 1
    change_s: float = CHANGE_S  # of a sleep or a wake, besides moving the weights
    stop_s: float = STOP_S


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCosts:
    """`footprint` is what the planner knows of it; the seconds are what really happens, by sleep level."""

    footprint: Footprint
    load_s: float
    wake_s: Mapping[SleepLevel, float] = field(default_factory=dict)
    sleep_s: Mapping[SleepLevel, float] = field(default_factory=dict)
    stop_s: float = STOP_S
    assumed: bool = True  # some of it was never measured


Costs = Mapping[str, ModelCosts]  # by model


def costs_of(footprint: Footprint, device_count: int = 1, assumed: Assumed | None = None) -> ModelCosts:
    """Of a model with this footprint: its measured seconds, and for the others what is assumed."""
    rates = assumed or Assumed()
    copy_s = rates.change_s + footprint.weights_bytes / max(1, device_count) / rates.copies_bytes_per_s
    read_s = footprint.weights_bytes / rates.reads_bytes_per_s
    known = footprint.load_s, footprint.wake_s, footprint.sleep_s
    load_s, wake_s, sleep_s = known
    one, two = SleepLevel.WEIGHTS_OFFLOADED, SleepLevel.DISCARDED
    return ModelCosts(
        footprint=footprint,
        load_s=rates.start_s + read_s if load_s is None else load_s,
        wake_s={one: copy_s if wake_s is None else wake_s, two: rates.change_s + read_s if wake_s is None else wake_s},
        sleep_s={one: copy_s if sleep_s is None else sleep_s, two: rates.change_s if sleep_s is None else sleep_s},
        stop_s=rates.stop_s,
        assumed=None in known,
    )


def costs_of_weights(
    weights_bytes: int,
    *,
    awake_bytes: int | None = None,
    device_count: int = 1,
    discardable: bool = True,
    assumed: Assumed | None = None,
) -> ModelCosts:
    """All of it assumed. `awake_bytes` per device; None: the weights' part and 2 GiB, and as much KV cache as weights,
    4 GiB at least.
    """
    part = -(-weights_bytes // device_count)
    cache = max(part, 4 * GIB) if awake_bytes is None else None
    awake = part + cache + 2 * GIB if cache is not None else awake_bytes or 0
    residue = DEFAULT_RESIDUE_BYTES if device_count == 1 else DEFAULT_RESIDUE_PARALLEL_BYTES
    footprint = Footprint(
        awake_bytes=awake, asleep_bytes=min(residue, awake), weights_bytes=weights_bytes, cache_bytes=cache,
        discardable=discardable,
    )  # fmt: skip
    return costs_of(footprint, device_count, assumed)


def with_weights(footprint: Footprint, device_count: int) -> Footprint:
    """One whose weights are not known gets a usual size, by what it takes awake."""
    if footprint.weights_bytes:
        return footprint
    return replace(footprint, weights_bytes=int(_WEIGHTS_SHARE * footprint.awake_bytes * device_count))
