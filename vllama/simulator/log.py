"""Log lines as vLLM prints them: every line of a message carries the process, the level, the time and the place."""

import os
import sys
import time
from typing import Literal

GIB = 1 << 30


def log(process: str, where: str, message: str, *, level: Literal["INFO", "WARNING", "ERROR"] = "INFO") -> None:
    """`(EngineCore pid=7) INFO 11-21 10:48:29 [core.py:123] message`. `where` is file.py:line."""
    prefix = f"({process} pid={os.getpid()}) {level} {time.strftime('%m-%d %H:%M:%S')} [{where}] "
    write_lines(*(prefix + line for line in message.split("\n")))


def log_traceback(process: str, error: str) -> None:
    """What Python itself prints for an error that nobody caught, with the process in front as vLLM adds it."""
    prefix = f"({process} pid={os.getpid()}) "
    write_lines(
        prefix + "Traceback (most recent call last):",
        prefix + '  File "vllm/simulated.py", line 1, in <module>',
        *(prefix + line for line in error.split("\n")),
    )


def write_lines(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    sys.stdout.flush()


def gib(count: int) -> str:
    """Bytes as vLLM prints GiB."""
    return f"{round(count / GIB, 2)}"
