"""Which `vllm` runs a model, its version, and the platform it was built for."""

import asyncio
import enum
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

_PACKAGES = ("lib/python*/site-packages", "lib/python*/dist-packages", "local/lib/python*/dist-packages")


class Platform(enum.StrEnum):
    """CUDA stands for every GPU platform on which vLLM has sleep mode."""

    CUDA = "cuda"
    CPU = "cpu"


class EngineUnavailable(Exception):
    """There is no vLLM to run; the text says where it was looked for and what to do."""


def find_vllm(configured: str | None, environ: Mapping[str, str]) -> str:
    """The `vllm` to run: the model's `vllm` setting, VLLAMA_VLLM, PATH, or the one beside this Python.

    What was named must exist: a wrong setting is an error, never a reason to run another vLLM.
    Raises EngineUnavailable.
    """
    path = environ.get("PATH", os.defpath)
    for name, source in ((configured, "the model's `vllm` setting"), (environ.get("VLLAMA_VLLM"), "VLLAMA_VLLM")):
        if name:
            found = shutil.which(str(Path(name).expanduser()), path=path)
            if found is None:
                raise EngineUnavailable(
                    f"{source} says {name!r}, which is not a program that can be run. "
                    f"Correct it, or remove it to use the `vllm` on PATH."
                )
            return found
    beside = Path(sys.executable).parent / "vllm"
    found = shutil.which("vllm", path=path) or shutil.which(str(beside))
    if found is None:
        raise EngineUnavailable(
            "No vLLM found to run models with. Looked for:\n"
            "  - a `vllm` setting of the model (none)\n"
            "  - the environment variable VLLAMA_VLLM (not set)\n"
            f"  - `vllm` on PATH ({path})\n"
            f"  - {beside}\n"
            "Install it (`pip install vllm`), or set VLLAMA_VLLM to the path of a `vllm` program."
        )
    return found


def platform_of(version: str) -> Platform:
    """A CPU build says so in its version, `0.32.0+cpu`; vLLM itself goes by that."""
    return Platform.CPU if "cpu" in version.partition("+")[2] else Platform.CUDA


def has_sleep_mode(executable: str) -> bool | None:
    """Whether this vLLM was built with what its sleep mode needs. None: its files are not where they can be told."""
    try:
        found = [path for packages in _packages_of(executable) for path in packages.glob("vllm/*")]
    except (OSError, ValueError):
        return None
    if not found:
        return None
    return any(path.name.startswith("cumem_allocator") for path in found)


def installed_version(executable: str) -> str | None:
    """The version of the vllm package beside the interpreter that `executable` runs under.

    Reads the script's first line and a few directory names. None: not a script of a Python
    environment, or not exactly one version there, so that only running it can tell.
    """
    try:
        found = {
            info.name.removesuffix(".dist-info").removeprefix("vllm-")
            for packages in _packages_of(executable)
            for info in packages.glob("vllm-*.dist-info")
        }
    except (OSError, ValueError):
        return None
    return found.pop() if len(found) == 1 else None


def _packages_of(executable: str) -> list[Path]:
    """Where the environment of a Python script keeps its packages; empty: it is no such script. May raise OSError."""
    with Path(executable).open("rb") as file:
        first = file.readline(512).decode(errors="replace").strip()
    interpreter = Path(first[2:].strip()) if first.startswith("#!") else None
    # `#!/usr/bin/env python3` names no environment. The interpreter itself is not resolved:
    # in a virtual environment it is a link out of it.
    if interpreter is None or not interpreter.name.startswith("python"):
        return []
    return [path for packages in _PACKAGES for path in interpreter.parent.parent.glob(packages)]


async def read_version(executable: str, *, timeout_s: float) -> str:
    """The version, from the files beside the executable, else by asking it (`vllm --version`, 7 to 11 s).

    Raises EngineUnavailable when it does not run, fails, or says nothing in time.
    """
    version = await asyncio.to_thread(installed_version, executable)
    return version if version is not None else await _ask_version(executable, timeout_s)


async def _ask_version(executable: str, timeout_s: float) -> str:
    what = f"`{executable} --version`"
    try:
        process = await asyncio.create_subprocess_exec(
            executable,
            "--version",
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except OSError as error:
        raise EngineUnavailable(f"{what} cannot be run: {error.strerror or error}.") from error
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await process.communicate()
    except TimeoutError:
        raise EngineUnavailable(f"{what} did not answer within {timeout_s:g} s.") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    # vLLM prints warnings of its imports first: the version is the last line.
    lines = [line.strip() for line in out.decode(errors="replace").splitlines() if line.strip()]
    if process.returncode != 0 or not lines:
        said = err.decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
        raise EngineUnavailable(f"{what} ended with code {process.returncode} and said: {said[0]}")
    return lines[-1].split()[-1]
