"""Names of models, for the shell to complete: from the server where it answers at once, else from models.yaml.

Whatever goes wrong, nothing is said: somebody is in the middle of a line.
"""
# ruff: noqa: PLC0415

import contextlib
import io
import os
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, MutableMapping
from pathlib import Path
from typing import Any

import typer

ANSWERS_WITHIN_S = 0.3
_SECTIONS = ("defaults", "models", "servers", "policy", "balance", "version")


def is_completing() -> bool:
    return "_VLLAMA_COMPLETE" in os.environ


@contextlib.contextmanager
def colons_kept() -> Iterator[None]:
    """Bash breaks words at colons, which names (qwen3:8b) and URLs have: they are put together again, and what bash
    keeps of the last word is cut off the answers.
    """
    kept = _join_colons(os.environ) if os.environ.get("_VLLAMA_COMPLETE") == "complete_bash" else ""
    if not kept:
        yield
        return
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    finally:
        print("\n".join(line.removeprefix(kept) for line in said.getvalue().splitlines()))


def _join_colons(environ: MutableMapping[str, str]) -> str:
    """The last word up to its last colon."""
    try:
        words, last = environ["COMP_WORDS"].split("\n"), int(environ["COMP_CWORD"])
    except (KeyError, ValueError):
        return ""
    joined: list[str] = []
    for word in words[: last + 1]:
        if joined and (word[:1] == ":" or joined[-1][-1:] == ":"):
            joined[-1] += word
        else:
            joined.append(word)
    environ["COMP_WORDS"], environ["COMP_CWORD"] = "\n".join(joined), str(len(joined) - 1)
    return "".join(joined[-1].rpartition(":")[:2])


def model_names(ctx: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """(a name that begins with `incomplete`, the model's phase or whose name it is)."""
    found: list[tuple[str, str]] = []
    with contextlib.suppress(Exception):
        config_dir = Path(ctx.params.get("config_dir") or os.environ.get("VLLAMA_CONFIG_DIR") or "~/.vllama")
        names = _asked(ctx.params, config_dir) or dict(_declared(config_dir.expanduser() / "models.yaml"))
        found = [(name, said) for name, said in names.items() if name.startswith(incomplete)]
        if incomplete:
            found += [(name, said) for name, said in _short(names) if name.startswith(incomplete)]
    return found


def _asked(params: Mapping[str, Any], config_dir: Path) -> dict[str, str] | None:
    """None: no server says it in time. `--server` and the like count, as far as they are typed already."""
    from vllama.cli.connect import connect

    server = params.get("server") or os.environ.get("VLLAMA_SERVER")
    answer: list[dict[str, str]] = []

    def ask() -> None:
        with contextlib.suppress(BaseException), connect(server, config_dir, params.get("api_key")) as client:
            answer.append(dict(_listed(client.status()["models"])))

    if server is None and not (config_dir.expanduser() / "server.pid").exists():
        return None
    import vllama.cli.client  # noqa: F401  # what takes long to import is no fault of the server

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(ANSWERS_WITHIN_S)
    return answer[0] if answer else None


def _listed(models: list[Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    for status in models:
        yield status["model"], str(status["phase"])
        for further in (*status.get("aliases", ()), *status.get("adapters", ())):
            yield further, str(status["model"])


def _declared(path: Path) -> Iterator[tuple[str, str]]:
    """Read without looking closely: a file with a mistake in it has names too."""
    import yaml

    document = yaml.load(path.read_text(), getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506  # both are safe
    full = any(key in _SECTIONS for key in document)
    for model, entry in (document["models"] if full else document).items():
        yield str(model), ""
        for further in (*((entry or {}).get("aliases") or ()), *((entry or {}).get("lora") or ())):
            yield str(further), str(model)


def _short(names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The last parts of ids, where only one model has them and no other name is the same."""
    ends = Counter(name.rpartition("/")[2] for name in names if "/" in name)
    for name in names:
        end = name.rpartition("/")[2]
        if ends[end] == 1 and end not in names:
            yield end, name
