"""`.env` of the working directory: what it says of vllama, where the environment does not say it already."""

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

PREFIXES = ("VLLAMA_", "HF_")
WHERE = ("VLLAMA_SERVER", "VLLAMA_CONFIG_DIR")  # where commands send the API key to

taken: set[str] = set()  # names of this process's environment that came from the file


def take(path: Path, environ: MutableMapping[str, str]) -> list[str]:
    """Adds to `environ`. What somebody should know, as sentences.

    A directory's file is not its user's word: it cannot choose a program that is run, and no key of the environment is
    shown to a server that only the file named.
    """
    if not path.is_file():
        return []
    try:
        said = _read(path)
    except (OSError, ValueError) as error:
        return [f"{path} cannot be read, and is left out: {getattr(error, 'strerror', None) or error}."]
    notes = []
    if said.pop("VLLAMA_VLLM", None) is not None:
        notes.append(
            f"VLLAMA_VLLM of {path} is left out: a file may not choose what is run; set it in the environment."
        )
    fresh = {name: value for name, value in said.items() if name not in environ}
    elsewhere = [name for name in WHERE if name in fresh]
    if elsewhere and "VLLAMA_API_KEY" in environ:
        del environ["VLLAMA_API_KEY"]
        notes.append(
            f"{elsewhere[0]} is from {path}: the API key of the environment is not shown there (--api-key is)."
        )
        if "VLLAMA_API_KEY" in said:
            fresh["VLLAMA_API_KEY"] = said["VLLAMA_API_KEY"]
    environ.update(fresh)
    return notes


def take_here() -> list[str]:
    before = dict(os.environ)
    notes = take(Path(".env"), os.environ)
    taken.update(name for name, value in os.environ.items() if before.get(name) != value)
    return notes


def _read(path: Path) -> dict[str, str]:
    from dotenv import dotenv_values  # noqa: PLC0415  # not for `--help` where there is no such file

    values: Mapping[str, str | None] = dotenv_values(path, interpolate=True)
    return {name: value for name, value in values.items() if value is not None and name.startswith(PREFIXES)}
