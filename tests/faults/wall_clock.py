"""A wall clock that can be set for one process and all that it starts, to everything in it that asks the C library."""

import atexit
import functools
import shutil
import struct
import subprocess
import tempfile
from pathlib import Path

_SOURCE = Path(__file__).with_suffix(".c")


@functools.cache
def library() -> Path | None:
    """For LD_PRELOAD; None: there is no C compiler here that makes one."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    made = Path(tempfile.mkdtemp(prefix="vllama-wall-clock-")) / "wall_clock.so"
    atexit.register(shutil.rmtree, made.parent, ignore_errors=True)
    command = [compiler, "-shared", "-fPIC", "-O2", "-o", str(made), str(_SOURCE)]
    return made if subprocess.run(command, check=False, capture_output=True).returncode == 0 else None


def environment(file: Path) -> dict[str, str]:
    """Of a process whose clock `file` sets; empty where that cannot be."""
    made = library()
    if made is None:
        return {}
    set_by(file, 0)
    return {"LD_PRELOAD": str(made), "FAULTS_CLOCK": str(file)}


def set_by(file: Path, seconds: int) -> None:
    """From the next look at the clock on."""
    with file.open("r+b" if file.exists() else "xb") as out:
        out.write(struct.pack("=q", seconds))
