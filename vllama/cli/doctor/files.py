"""Directories that must be writable, models.yaml, and the models on disk."""

import os
from collections.abc import Iterator
from pathlib import Path

from vllama.cli.doctor.finding import Case, Finding, fail, ok, warn
from vllama.cli.list_models import free_bytes
from vllama.cli.render.words import counted
from vllama.cli.stock import Stocked, take_stock
from vllama.domain.units import GIB, format_bytes
from vllama.engine.cache import hub_directory
from vllama.engine.listing import endpoint_of

LITTLE_DISK_BYTES = 20 * GIB  # less than a middling model
_NAMED = 3


def check_config_dir(case: Case) -> Iterator[Finding]:
    path = case.config_dir
    if _writable(path):
        yield ok("configuration", f"{path}")
    else:
        yield fail(
            "configuration", f"{path} cannot be written: there go the logs, and what was measured",
            "Correct its owner, or choose another: --config-dir, VLLAMA_CONFIG_DIR.",
        )  # fmt: skip


def check_cache(case: Case) -> Iterator[Finding]:
    hub = hub_directory(case.environ)
    free = free_bytes(hub)
    text = f"{hub}, {'an unknown amount' if free is None else format_bytes(free)} free"
    if hub.exists() and not os.access(hub, os.R_OK | os.X_OK):
        yield fail("model cache", f"{hub} cannot be read", "Correct its owner, or set HF_HOME to another directory.")
    elif not _writable(hub):
        yield warn("model cache", f"{text}; it cannot be written, so nothing can be fetched into it",
                   "Correct its owner, or set HF_HOME to another directory.")  # fmt: skip
    elif free is not None and free < LITTLE_DISK_BYTES:
        yield warn(
            "model cache", f"{text}; few models need less", "`vllama list` shows sizes, `vllama rm` removes one."
        )
    else:
        yield ok("model cache", text)


def check_hub(case: Case) -> Iterator[Finding]:
    environ = case.environ
    if environ.get("HF_HUB_OFFLINE", "").lower() in {"1", "true", "yes", "on"}:
        yield ok("hub", "not asked (HF_HUB_OFFLINE): only what is on disk can run")
        return
    home = Path(environ.get("HF_HOME") or hub_directory(environ).parent)
    stored = Path(environ.get("HF_TOKEN_PATH") or home / "token").expanduser().exists()
    token = (
        "with a token of yours" if environ.get("HF_TOKEN") or stored else "without HF_TOKEN, which gated models need"
    )
    yield ok("hub", f"{endpoint_of(environ)}, {token}")


def check_manifest(case: Case) -> Iterator[Finding]:
    path = case.config_dir / "models.yaml"
    stock = take_stock(case.config_dir, case.environ)
    if stock.problem is not None:
        for line in stock.problem.splitlines():
            yield fail("models.yaml", line, f"Correct {path}; `vllama validate` checks it again.")
    elif not path.exists():
        yield warn("models.yaml", f"there is no {path}: models of the model cache run with the defaults", "vllama init")
    else:
        yield ok("models.yaml", f"{path}: {counted(len(stock.specs), 'model')}")
    complete = [each for each in stock.models if each.on_disk is not None and each.on_disk.complete]
    broken = [each for each in stock.models if each.on_disk is not None and _is_broken(each)]
    text = f"{counted(len(complete), 'model')} complete"
    if broken:
        names = ", ".join(each.model for each in broken[:_NAMED]) + (" and more" if len(broken) > _NAMED else "")
        yield warn("models", f"{text}, {len(broken)} not: {names}",
                   "`vllama list` says what is missing, `vllama pull` fetches it.")  # fmt: skip
    elif complete:
        yield ok("models", f"{text} on disk")
    else:
        yield warn("models", "none on disk", "vllama pull Qwen/Qwen3-0.6B")


def _is_broken(each: Stocked) -> bool:
    found = each.on_disk
    return found is not None and not found.complete and not found.note


def _writable(path: Path) -> bool:
    """Also while it is not there yet."""
    place = next((each for each in (path, *path.absolute().parents) if each.exists()), None)
    return place is not None and place.is_dir() and os.access(place, os.W_OK | os.X_OK)
