"""Process 1 of a made-up host: its own mounts, then a life of waiting for orphans. Runs in fresh namespaces.

    first_process.py NAME TMP KEEP...      KEEP: directories below /tmp that must stay visible

Every process of the host dies with this one, whatever it has done to its session or its group: the kernel sees to it.
"""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path


def main(name: str, tmp: str, *kept: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    socket.sethostname(name)
    for each in kept:
        inside = Path(tmp) / Path(each).relative_to("/tmp")
        inside.mkdir(parents=True, exist_ok=True)
        mount("--bind", each, str(inside))
    mount("--rbind", tmp, "/tmp")
    mount("-t", "tmpfs", "tmpfs", "/dev/shm")
    Path("/tmp/home").mkdir(exist_ok=True)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    print("ready", flush=True)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    while True:
        signal.sigwait({signal.SIGCHLD})
        reap()


def mount(*args: str) -> None:
    subprocess.run(["mount", *args], check=True)


def reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        pass


if __name__ == "__main__":
    main(*sys.argv[1:])
