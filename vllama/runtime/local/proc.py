"""What /proc says of processes. Everything here blocks on the kernel: call it in a thread.

What is not there, or not ours to see, is nothing. Where the kernel has nothing left for us to look with (no file
descriptors, no memory), OSError is raised: a process that was not seen for that reason is not gone.
"""

import errno
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from vllama.runtime.local.identity import VARIABLE, Identity, decode

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")
_NO_MEANS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})
_ZOMBIE = ("Z", "X")
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # its inode, the same in every kernel


def _must_not_be_for_want_of_means(error: OSError) -> None:
    if error.errno in _NO_MEANS:
        raise error


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """`start_ticks` makes a pid unmistakable: a reused one started later. `started_at` is seconds since boot."""

    pid: int
    ppid: int
    sid: int
    start_ticks: int
    zombie: bool

    @property
    def started_at(self) -> float:
        return self.start_ticks / _TICKS


def process(pid: int) -> Process | None:
    """None: there is no such process (any more)."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError as error:
        _must_not_be_for_want_of_means(error)
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return Process(
        pid=pid, ppid=int(fields[1]), sid=int(fields[3]), start_ticks=int(fields[19]), zombie=fields[0] in _ZOMBIE
    )  # fmt: skip


def processes() -> Iterator[Process]:
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (found := process(int(entry.name))) is not None:
            yield found


def members(sessions: Mapping[int, str]) -> Iterator[tuple[int, str]]:
    """Every process in one of `sessions` (session id -> engine id), as pid and engine id. Cheap: reads no file."""
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            sid = os.getsid(int(entry.name))
        except OSError:
            continue
        if sid in sessions:
            yield int(entry.name), sessions[sid]


def name_of(pid: int) -> str | None:
    """The kernel's short name of a process; None: there is none of that number to be seen."""
    try:
        return (_PROC / str(pid) / "comm").read_text(errors="replace").strip()
    except OSError:
        return None


def sees_every_process() -> bool:
    """Whether our process numbers are the machine's own: not in a container with process numbers of its own."""
    try:
        return (_PROC / "self" / "ns" / "pid").stat().st_ino == _FIRST_PID_NAMESPACE
    except OSError:
        return False


def tag_of(pid: int) -> Identity | None:
    """The tag in the process's environment; None: it has none, or it is not ours to read."""
    try:
        environ = (_PROC / str(pid) / "environ").read_bytes()
    except OSError as error:
        _must_not_be_for_want_of_means(error)
        return None
    prefix = VARIABLE.encode() + b"="
    for entry in environ.split(b"\0"):
        if entry.startswith(prefix):
            return decode(entry[len(prefix) :].decode(errors="replace"))
    return None


def title_of(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def tagged(owner: str) -> dict[int, tuple[Process, Identity]]:
    """Every living process that carries a tag of `owner`, by pid."""
    found = {}
    for each in processes():
        if each.zombie:
            continue
        identity = tag_of(each.pid)
        if identity is not None and identity.owner == owner:
            found[each.pid] = (each, identity)
    return found


def tree(sid: int, since_ticks: int, engine_id: str) -> tuple[Process, ...]:
    """Who is left of an engine: its session, and whoever left the session but carries the tag. No zombies."""
    found = []
    for each in processes():
        if each.zombie or each.start_ticks < since_ticks:
            continue
        if each.sid == sid or ((tag := tag_of(each.pid)) is not None and tag.engine_id == engine_id):
            found.append(each)
    return tuple(found)


def private_bytes(pid: int) -> int:
    """Memory that is the process's own: resident less shared. 0 when it is gone."""
    try:
        resident, shared = (_PROC / str(pid) / "statm").read_text().split()[1:3]
    except ValueError:
        return 0
    except OSError as error:
        _must_not_be_for_want_of_means(error)
        return 0
    return max(0, int(resident) - int(shared)) * _PAGE


def io_bytes(pid: int) -> int:
    """What it has read and written so far, from disk and otherwise; 0 where it is gone or not ours to look at."""
    try:
        lines = (_PROC / str(pid) / "io").read_text().splitlines()
    except OSError:
        return 0
    told = dict(line.split(": ", 1) for line in lines if ": " in line)
    return sum(int(told.get(name, 0)) for name in ("rchar", "wchar", "read_bytes", "write_bytes"))


def listens(pids: Collection[int], port: int) -> bool:
    """Whether one of `pids` has the listening socket of 127.0.0.1:`port` (or of any address) open."""
    wanted = _listening_inodes(port)
    if not wanted:
        return False
    for pid in pids:
        try:
            for fd in (_PROC / str(pid) / "fd").iterdir():
                if os.readlink(fd) in wanted:  # noqa: PTH115  # sockets are links to no path
                    return True
        except OSError as error:
            _must_not_be_for_want_of_means(error)
            continue
    return False


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        try:
            lines = (_PROC / "net" / table).read_text().splitlines()[1:]
        except OSError as error:
            _must_not_be_for_want_of_means(error)
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rsplit(":", 1)[1], 16) == port:
                found.add(f"socket:[{fields[9]}]")
    return found
