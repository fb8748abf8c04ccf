"""`vllama assign` at work: the options as an edit of models.yaml, what it changes, and what follows from it."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.text import Text

from vllama.cli.connect import ask_if_any, connect
from vllama.cli.failure import NO_SERVER, CommandFailed, complain
from vllama.cli.manifest import manifest, problems
from vllama.cli.render.difference import difference, render_difference
from vllama.cli.render.foreseen import render_foreseen, render_here
from vllama.cli.render.settings import render_changes, render_settings
from vllama.cli.terminal import show, show_json, width
from vllama.controller.manifest.beside import CannotEdit
from vllama.controller.manifest.edit import Edit, Edited, apply, entry_of, preview
from vllama.controller.manifest.effective import effective
from vllama.controller.manifest.settings import SETTINGS
from vllama.controller.names import Names
from vllama.domain.spec import ModelSpec
from vllama.engine.cache import hub_directory, scan
from vllama.engine.shown import masked

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """Where the server would be."""

    server: str | None
    config_dir: Path
    api_key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """As it was typed."""

    plain: Mapping[str, Any]
    extra: tuple[str, ...] = ()
    clear_extra: bool = False
    put: tuple[str, ...] = ()
    unset: tuple[str, ...] = ()

    @property
    def asks(self) -> bool:
        return bool(self.plain or self.extra or self.clear_extra or self.put or self.unset)


def run(
    path: Path, name: str, change: Change, door: Door, *,
    new: bool, dry_run: bool, restart: bool, timeout_s: float | None, as_json: bool,
) -> None:  # fmt: skip
    with problems(path):
        model = resolve(path, name, new=new)
        phase = _phase(model, door)  # before the server sees the change
        edit = edit_of(model, change, entry_of(path, model))
        done = (preview if dry_run else apply)(path, edit, environ=os.environ)
    changes = list(_changes(done, model))
    effect = _effect(done, model, phase)
    diff = difference(done.before, done.after, name=path.name) if dry_run else ""
    if as_json and not restart:
        foreseen = _foreseen(done, model, door, running=phase is not None) if dry_run else {}
        show_json(
            {"model": model, "file": str(path), "changes": changes, "written": done.changed and not dry_run,
             "phase": phase, "effect": effect} | ({"diff": diff, **foreseen} if dry_run else {})
        )  # fmt: skip
    elif not as_json:
        if diff:
            show(render_difference(diff).append("\n"))
        show(render_changes(model, changes, effect, path=path, dry_run=dry_run, columns=width()))
        if dry_run:
            _show_foreseen(_foreseen(done, model, door, running=phase is not None))
    if restart:
        _restart(model, door, timeout_s=timeout_s, as_json=as_json)


def _foreseen(done: Edited, model: str, door: Door, *, running: bool) -> dict[str, Any]:
    """`foreseen`: the server's answer; `here`: what can be told without one. Each None where there is none."""
    from vllama.cli.foresee import foresee_here, wish_of  # noqa: PLC0415  # only for a dry run

    old, new = done.old.models.get(model) or done.old.spec_for_undeclared(model), done.new.models.get(model)
    new = new or done.new.spec_for_undeclared(model)
    answer: dict[str, Any] = {"foreseen": None, "here": None, "url": None, "problem": None}
    if not running:
        return answer | {"here": asdict(foresee_here(old, new, done.new))}
    reached = ask_if_any(door.server, door.config_dir, door.api_key, lambda client: client.suppose(wish_of(old, new)))
    return answer | {"foreseen": reached.answer, "url": reached.url, "problem": reached.problem}


def _show_foreseen(told: Mapping[str, Any]) -> None:
    if told["foreseen"] is not None:
        show(Text("\n") + render_foreseen(told["foreseen"], url=told["url"], width=width()))
    elif told["here"] is not None:
        show(render_here(told["here"], width=width()))
    elif told["problem"] is not None:
        complain(f"what it would do is not told: {told['problem']}", word="warning")


def _restart(model: str, door: Door, *, timeout_s: float | None, as_json: bool) -> None:
    from vllama.cli import restart  # noqa: PLC0415  # rich and httpx

    try:
        with connect(door.server, door.config_dir, door.api_key) as client:
            client.reload()
            restart.run(client, model, timeout_s=timeout_s, as_json=as_json)
    except CommandFailed as failed:
        if failed.exit_code != NO_SERVER:
            raise
        raise CommandFailed(
            f"models.yaml is written, but there is nothing to restart: {failed.message}", exit_code=NO_SERVER
        ) from None


def show_settings(path: Path, name: str, *, as_json: bool) -> None:
    with problems(path):
        model = resolve(path, name, new=False)
    found = manifest(path)
    spec = found.models.get(model) or found.spec_for_undeclared(model)
    said = {_known(key) for key in _flat(entry_of(path, model))}
    rows = [
        {"key": setting.name, "value": setting.value,
         "from": "models.yaml" if _known(tuple(setting.name.split(".", 1))) in said
         else "its config file" if setting.name.startswith("config_file.")
         else "default" if setting.default else "defaults or environment"}
        for setting in effective(spec)
    ]  # fmt: skip
    if as_json:
        show_json({"model": model, "file": str(path), "settings": rows})
    else:
        show(render_settings(model, rows, columns=width()))


def resolve(path: Path, name: str, *, new: bool) -> str:
    """The id that `name` means. An id that the file has is taken even where the file has mistakes elsewhere."""
    if entry_of(path, name) or (new and "/" in name):
        return name
    declared = manifest(path)
    cached = [each.model for each in scan(hub_directory(os.environ)) if each.complete]
    specs = {model: declared.spec_for_undeclared(model) for model in cached} | dict(declared.models)
    found = Names(specs.values()).resolve(name)
    if isinstance(found, ModelSpec):
        return found.model
    hint = "" if found.ambiguous else "\n  One that is not downloaded yet: give its whole id and --new."
    raise CommandFailed(found.message + hint)


def edit_of(model: str, change: Change, entry: Mapping[str, Any]) -> Edit:
    """Each setting stays where the file has it, however it is spelled there. Raises CannotEdit."""
    put: dict[Key, Any] = {}
    for name, value in change.plain.items():
        put[_place(entry, (name,))] = _devices(value) if name == "devices" else scalar(value)
    extra = dict(entry.get("extra_args") or {})
    drop: list[Key] = [("extra_args",)] if change.clear_extra and extra else []
    present = {} if change.clear_extra else entry
    for text in change.extra:
        flag, equals, value = text.partition("=")
        put[_place(present, ("extra_args", flag.lstrip("-")))] = scalar(value) if equals else True
    for text in change.put:
        name, equals, value = text.partition("=")
        if not equals:
            raise CannotEdit(f"--set {text}: write KEY=VALUE, for example --set idle.sleep_after=10m")
        put[_place(entry, _path(name))] = yaml_value(value)
    for name in change.unset:
        place = _place(entry, _path(name))
        if place in put:
            raise CannotEdit(f"{name} is set and unset at once.")
        drop.append(place)
    return Edit(model=model, put=put, drop=tuple(drop))


def _path(name: str) -> Key:
    """A flag's own name may have dots; the groups are one level deep."""
    head, dot, rest = name.partition(".")
    return (head, rest) if dot and head in {"idle", "extra_args", "env", "lora"} else (name,)


def _place(entry: Mapping[str, Any], key: Key) -> Key:
    """Where the entry says `key` already, else `key` itself; vLLM's own names stand at the top or in extra_args."""
    return next((place for place in _flat(entry) if _known(place) == _known(key)), key)


def _known(key: Key) -> Key:
    """`key` spelled in one way."""
    if len(key) > 1 and key[0] != "extra_args":
        return key
    name = key[-1].lstrip("-").replace("-", "_")
    return (name,) if len(key) == 1 or name in SETTINGS else ("extra_args", name)


def _flat(entry: Mapping[str, Any]) -> Iterator[Key]:
    for key, value in entry.items():
        if isinstance(value, Mapping) and key in {"idle", "extra_args", "env", "lora"}:
            yield from ((key, str(below)) for below in value)
        else:
            yield (key,)


def _devices(text: str) -> Any:
    if text.strip() == "auto":
        return "auto"
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise CannotEdit(f"--devices {text}: write GPU numbers as in 0 or 0,1, or auto.") from None


def scalar(text: Any) -> Any:
    """true, false and numbers as such, all else as text: `012` and `1e3` stay what was typed."""
    if not isinstance(text, str):
        return text
    if text.lower() in {"true", "false"}:
        return text.lower() == "true"
    for kind in (int, float):
        try:
            if str(kind(text)) == text:
                return kind(text)
        except ValueError:
            continue
    return text


def yaml_value(text: str) -> Any:
    """As it would stand in the file: lists too."""
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if isinstance(value, list | dict) else scalar(text)


def _changes(done: Edited, model: str) -> Iterator[dict[str, Any]]:
    """None: not set."""
    before, after = entry_of(done.before, model), entry_of(done.after, model)
    keys = dict.fromkeys((*_flat(before), *_flat(after)))
    for key in keys:
        was, is_now = _at(before, key), _at(after, key)
        if was != is_now:
            yield {"key": ".".join(key), "before": _secretly(key, was), "after": _secretly(key, is_now)}


def _at(entry: Mapping[str, Any], key: Key) -> Any:
    found: Any = entry
    for step in key:
        found = found.get(step) if isinstance(found, Mapping) else None
    return found


def _secretly(key: Key, value: Any) -> Any:
    return masked(key[-1], value) if isinstance(value, str) else value


def _phase(model: str, door: Door) -> str | None:
    """None: no server tells."""
    try:
        with connect(door.server, door.config_dir, door.api_key) as client:
            status = client.model(model)
    except CommandFailed:
        return None
    return "Stopped" if status is None else str(status["phase"])


def _effect(done: Edited, model: str, phase: str | None) -> str:
    """What follows from the change for a model that was in `phase`, as a sentence."""
    old, new = done.old.models.get(model) or done.old.spec_for_undeclared(model), done.new.models.get(model)
    if phase is None:
        return "No server runs here now; it holds from the next start of one."
    if new is not None and new.pin and not old.pin and phase != "Ready":
        return f"{model} is {phase}; it is pinned now, so that it is made ready and stays awake."
    if new is not None and old.spec_hash == new.spec_hash:
        return f"{model} is {phase} and stays so: the change needs no new engine."
    if phase == "Stopped":
        return f"{model} is Stopped; its next start has the new settings."
    return f"{model} is {phase}: when nothing is in flight it stops, and what was ready starts anew."
