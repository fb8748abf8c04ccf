"""Which GPUs are ours, as CUDA_VISIBLE_DEVICES says it. Pure."""

from collections.abc import Sequence

from vllama.runtime.base import RuntimeFailed

_NONE_FROM_HERE = {"", "-1", "NoDevFiles"}  # CUDA takes nothing after the first that is none; the last one is Slurm's


def visible(listed: str | None, uuids: Sequence[str]) -> tuple[int, ...]:
    """The devices that CUDA_VISIBLE_DEVICES (None: unset) leaves us, as NVML indices. RuntimeFailed on MIG or nonsense.

    NVML counts in PCI order, so the numbers are taken as CUDA_DEVICE_ORDER=PCI_BUS_ID means them, which is also what
    engines are started with. Where CUDA itself would silently see fewer GPUs than were listed, this says so instead.
    """
    if listed is None:
        return tuple(range(len(uuids)))
    found: list[int] = []
    for entry in (part.strip() for part in listed.split(",")):
        if entry in _NONE_FROM_HERE:
            break
        index = _index(entry, uuids)
        if index in found:
            raise RuntimeFailed(
                f"CUDA_VISIBLE_DEVICES={listed} names GPU {index} twice, and CUDA would then use none. Name each once."
            )
        found.append(index)
    return tuple(found)


def _index(entry: str, uuids: Sequence[str]) -> int:
    if entry.startswith("MIG"):
        raise RuntimeFailed(
            f"CUDA_VISIBLE_DEVICES names {entry}: vLLM cannot be given MIG slices. Name whole GPUs that are not in MIG "
            "mode (`nvidia-smi -L` lists them)."
        )
    matches = [i for i, uuid in enumerate(uuids) if uuid.startswith(entry)] if entry.startswith("GPU-") else []
    if entry.isdecimal() and int(entry) < len(uuids):
        matches = [int(entry)]
    if len(matches) > 1:
        raise RuntimeFailed(f"CUDA_VISIBLE_DEVICES names {entry!r}, which GPUs {_and(matches)} begin with. Write more.")
    if not matches:
        there = "GPU 0" if len(uuids) == 1 else f"GPUs 0 to {len(uuids) - 1}"
        raise RuntimeFailed(
            f"CUDA_VISIBLE_DEVICES names {entry!r}, and this machine has {there}. Write numbers or UUIDs as "
            "`nvidia-smi -L` shows them, or unset it to use all."
        )
    return matches[0]


def read_otherwise(listed: str | None, order: str | None, names: Sequence[str]) -> str | None:
    """What to tell who asked for another order (CUDA_DEVICE_ORDER) than the one in which numbers are read here."""
    numbers = [part.strip() for part in (listed or "").split(",") if part.strip().isdecimal()]
    if order != "FASTEST_FIRST" or not numbers or len(set(names)) == 1:
        return None  # among equal GPUs both orders are the same
    return (
        f"CUDA_DEVICE_ORDER=FASTEST_FIRST is not followed: the numbers in CUDA_VISIBLE_DEVICES={listed} are read as "
        "`nvidia-smi` counts, and engines are started with PCI_BUS_ID. Name GPUs by UUID, or set PCI_BUS_ID, to say "
        "that you know."
    )


def _and(indices: Sequence[int]) -> str:
    return ", ".join(map(str, indices[:-1])) + f" and {indices[-1]}"
