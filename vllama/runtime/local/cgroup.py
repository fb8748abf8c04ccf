"""The memory that our control groups allow us: version 1 or 2, nested, on a host or in a container. Blocks on /proc."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_UNLIMITED_BYTES = 1 << 60  # version 1 has no word for it, only a number near 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group that bounds memory, and what may still be taken there: page cache goes when it must."""

    limit_bytes: int
    available_bytes: int


def groups(root: Path) -> tuple[Group, ...]:
    """Ours and those above it that set a bound; any of them may be the one that strikes. `root`: where / is.

    In a container the path may be one that only the host has; what the container sees of its own group is then at
    the top.
    """
    found = (_version_1(each) if version == 1 else _version_2(each) for version, each in _directories(root))
    return tuple(group for group in found if group is not None)


def _directories(root: Path) -> Iterator[tuple[int, Path]]:
    version, path = _ours(root)
    mount = root / "sys/fs/cgroup" / ("memory" if version == 1 else "")
    parts = [part for part in path.split("/") if part]
    if ".." in parts:  # outside of what this namespace shows
        parts = []
    for depth in range(len(parts), -1, -1):
        yield version, mount.joinpath(*parts[:depth])


def _ours(root: Path) -> tuple[int, str]:
    """The version that counts memory, and the path of our group there. Lines are `id:controllers:path`."""
    second = ""
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return 1, path
        if not controllers:
            second = path
    return 2, second


def _version_2(group: Path) -> Group | None:
    # past memory.high nothing is killed, but everything crawls
    limits = [size for name in ("memory.max", "memory.high") if (size := _number(group / name)) is not None]
    if not limits:
        return None
    return _group(min(limits), _number(group / "memory.current"), _stat(group).get("inactive_file", 0))


def _version_1(group: Path) -> Group | None:
    stat = _stat(group)  # also tells the bounds of groups above that a container does not see
    limits = (_number(group / "memory.limit_in_bytes"), stat.get("hierarchical_memory_limit"))
    set_ones = [limit for limit in limits if limit is not None and limit < _UNLIMITED_BYTES]
    if not set_ones:
        return None
    return _group(min(set_ones), _number(group / "memory.usage_in_bytes"), stat.get("total_inactive_file", 0))


def _group(limit: int, usage: int | None, cache: int) -> Group:
    used = max(0, (usage or 0) - cache)
    return Group(limit_bytes=limit, available_bytes=max(0, limit - used))


def _number(path: Path) -> int | None:
    """None: there is no such file, or it says `max`."""
    text = next(iter(_lines(path)), "").strip()
    return int(text) if text.isdigit() else None


def _stat(group: Path) -> dict[str, int]:
    pairs = (line.split() for line in _lines(group / "memory.stat"))
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
