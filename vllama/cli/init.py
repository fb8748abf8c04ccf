"""`vllama init`: a models.yaml from what is on disk, sized for the devices that are here."""

import os
import shutil
from datetime import datetime
from pathlib import Path

from rich.text import Text

from vllama.cli.failure import CommandFailed, complain
from vllama.cli.render.draft import Drafted, draft
from vllama.cli.render.words import counted
from vllama.cli.suggest import Suggestion, suggest
from vllama.cli.survey import Machine, look
from vllama.cli.terminal import show, show_json
from vllama.cli.wiring import real_devices
from vllama.controller.manifest.load import load_bytes
from vllama.domain.units import format_bytes
from vllama.engine.cache import CachedModel, models_on_disk
from vllama.engine.estimate import NoEstimate, estimate
from vllama.engine.files import read_json
from vllama.engine.platform import Platform


def run(config_dir: Path, *, force: bool, now: datetime, as_json: bool) -> None:
    """CommandFailed where a file is there that may not be replaced, or it cannot be written."""
    path = config_dir / "models.yaml"
    if path.exists() and not force:
        raise CommandFailed(f"{path} is there already. Look at it with an editor, or replace it: vllama init --force")
    machine = look(os.environ, real_devices)
    found = [each for each in models_on_disk(os.environ) if each.complete]
    text = draft([_drafted(each, machine) for each in found], devices=_devices(machine))
    declared = load_bytes(text.encode(), file=str(path), environ=os.environ).models
    kept = _write(path, text, now)
    left_out = [each.model for each in found if each.model not in declared]
    if as_json:
        show_json({
            "file": str(path), "models": list(declared), "left_out": left_out, "devices": _devices(machine),
            "replaced": None if kept is None else str(kept),
        })  # fmt: skip
    else:
        show(Text(f"{path} is written: {counted(len(declared), 'model')}, sized for {_devices(machine)}."))
        if kept is not None:
            show(Text(f"What was there is kept as {kept.name}."))
        show(Text("Read it, change it, and then: vllama serve"))
    for model in left_out:
        complain(f"{model} is on disk and not in the file, which says why.", word="warning")
    if machine.devices_problem is not None:
        complain(machine.devices_problem, word="warning")
    if machine.vllm_problem is not None:
        complain("there is no vLLM yet to run them with: `vllama doctor` says more.", word="warning")


def _drafted(each: CachedModel, machine: Machine) -> Drafted:
    sizes = estimate(each.directory)
    if isinstance(sizes, NoEstimate):
        suggestion = Suggestion(memory_bytes=None, why=f"say its `memory`, it cannot be estimated ({sizes.reason})")
    else:
        suggestion = suggest(sizes, machine.devices, machine.platform)
    config = read_json(each.directory / "config.json") or {}
    return Drafted(
        model=each.model, task=each.task, size_bytes=each.size_bytes, own_code=bool(config.get("auto_map")),
        suggestion=suggestion,
    )  # fmt: skip


def _devices(machine: Machine) -> str:
    devices = machine.devices
    if not devices:
        return "no device at all"
    if machine.platform is Platform.CPU:
        return f"the CPU with {format_bytes(devices[0].total_bytes)} of memory"
    return ", ".join(f"gpu{each.index} ({each.name}, {format_bytes(each.total_bytes)})" for each in devices)


def _write(path: Path, text: str, now: datetime) -> Path | None:
    """By rename, so that a server that watches it never reads half of it. What was there before is set aside."""
    aside = path.with_name(f"models.yaml.{now:%Y-%m-%dT%H-%M-%S}.old") if path.exists() else None
    fresh = path.with_name("models.yaml.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh.write_text(text)
        if aside is not None:
            shutil.copy2(path, aside)
        fresh.replace(path)
    except OSError as error:
        raise CommandFailed(f"{error.filename or path} cannot be written: {error.strerror or error}.") from None
    return aside
