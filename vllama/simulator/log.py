"""Log lines as vLLM prints them: every line of a message carries the process, the level, the time and the place."""

import os
import sys
import time
from typing import Literal

GIB = 1 << 30
_halves: list[bool] = []


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
    text = "".join(f"{line}\n" for line in lines)
    if _halves:
        _write_halves(text.encode())
        return
    sys.stdout.write(text)
    sys.stdout.flush()


def write_in_halves() -> None:
    """From now on, in this process and those that it forks."""
    _halves.append(True)


def _write_halves(text: bytes) -> None:
    os.write(sys.stdout.fileno(), b"\x00\xff\xfe no text, and no prefix\n" + text[: len(text) // 2])
    time.sleep(0.001)
    os.write(sys.stdout.fileno(), text[len(text) // 2 :])


def gib(count: int) -> str:
    """Bytes as vLLM prints GiB."""
    return f"{round(count / GIB, 2)}"
