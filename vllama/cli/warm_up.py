"""`vllama warm-up`: models that are started, put to sleep, and remembered in models.yaml as `auto_start`."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from vllama.cli.client import AdminClient
from vllama.cli.failure import NO_SERVER, CommandFailed
from vllama.cli.manifest import manifest, problems, without_auto_start
from vllama.cli.progress import Wish, watch
from vllama.cli.render.ps import shown_phase
from vllama.cli.render.words import phase_style
from vllama.cli.terminal import show, show_json
from vllama.controller.manifest.edit import Edit, apply
from vllama.controller.names import Names
from vllama.domain.spec import ModelSpec


def warm(
    client: AdminClient, models: Sequence[str], *, save_in: Path | None, timeout_s: float | None, as_json: bool
) -> None:
    """CommandFailed where any could not be started; those that follow it are warmed up all the same."""
    outcomes = [_warm(client, model, timeout_s=timeout_s, as_json=as_json) for model in models]
    ready = [outcome for outcome in outcomes if outcome["ok"]]
    if save_in is not None and ready:
        ids = dict.fromkeys(outcome["model"] for outcome in ready)
        with problems(save_in):
            done = apply(save_in, *(Edit(model=m, put={("auto_start",): True}) for m in ids), environ=os.environ)
    if as_json:
        show_json(outcomes)
    else:
        for outcome in outcomes:
            show(_line(outcome))
        saved = "" if save_in is None or not ready else f"; written into {done.path}"
        print(f"{len(ready)} of {len(outcomes)} warmed up{saved}.")
    if failed := [outcome["model"] for outcome in outcomes if not outcome["ok"]]:
        raise CommandFailed(f"not warmed up: {', '.join(failed)}.")


def _warm(client: AdminClient, model: str, *, timeout_s: float | None, as_json: bool) -> dict[str, Any]:
    """A mistake with one model is no reason to leave the others cold."""
    try:
        status, problem = _watched(client, model, timeout_s=timeout_s, as_json=as_json)
    except CommandFailed as failed:
        if failed.exit_code == NO_SERVER:
            raise
        return {"model": model, "ok": False, "phase": None, "message": failed.message}
    phase = shown_phase(status)
    return {"model": status["model"], "ok": problem is None, "phase": phase, "message": problem or ""}


def _watched(client: AdminClient, model: str, *, timeout_s: float | None, as_json: bool) -> tuple[Any, str | None]:
    before = {status["model"]: status["phase"] for status in client.status()["models"]}
    status, problem = watch(client, Wish(verb="start", model=model), timeout_s=timeout_s, as_json=as_json)
    if problem is not None or before.get(status["model"]) in {"Ready", "Draining"}:
        return status, problem
    now = client.model(status["model"]) or status
    if now["in_flight"] or now["waiting"] or now["pinned"]:
        return now, None
    asleep, _ = watch(client, Wish(verb="sleep", model=status["model"]), timeout_s=timeout_s, as_json=as_json)
    return asleep, None  # called again meanwhile: it is warm, and more than that


def _line(outcome: dict[str, Any]) -> Text:
    mark, style = ("✓", "green") if outcome["ok"] else ("✗", "red")
    line = Text.assemble((mark, style), f" {outcome['model']}")
    if outcome["phase"] is not None:
        line.append("  ").append(outcome["phase"], phase_style(outcome["phase"].split()[0]))
    return line.append(f"  {outcome['message'].splitlines()[0]}" if outcome["message"] else "")


def show_list(path: Path, *, as_json: bool) -> None:
    listed = _auto_start(path)
    if as_json:
        show_json(listed)
    elif listed:
        print("Started with the server, in this order:", *(f"  {model}" for model in listed), sep="\n")
    else:
        print("No model is started with the server. `vllama warm-up MODEL --save` changes that.")


def forget(path: Path, names: Sequence[str] | None, *, as_json: bool) -> None:
    """`names` None: all."""
    listed = _auto_start(path)
    models = listed if names is None else [_known(path, name).model for name in names]
    if strangers := [model for model in models if model not in listed]:
        raise CommandFailed(f"not started with the server anyway: {', '.join(strangers)}.")
    with problems(path):
        if models:
            apply(path, *(without_auto_start(path, model) for model in models), environ=os.environ)
    if as_json:
        show_json(_auto_start(path))
    else:
        print(f"No longer started with the server: {', '.join(models) or 'nobody was'}.")


def _auto_start(path: Path) -> list[str]:
    found = [spec for spec in manifest(path).models.values() if spec.auto_start]
    return [spec.model for spec in sorted(found, key=lambda spec: -spec.priority)]


def _known(path: Path, name: str) -> ModelSpec:
    found = Names(manifest(path).models.values()).resolve(name)
    if isinstance(found, ModelSpec):
        return found
    raise CommandFailed(found.message)
