"""`vllama import` at work."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.text import Text

from vllama.cli.failure import CommandFailed, complain
from vllama.cli.imports import llama_swap, mvllm, ollama
from vllama.cli.imports.fitting import fitting
from vllama.cli.imports.found import Existing, Found
from vllama.cli.imports.merging import Merge, merge
from vllama.cli.manifest import problems
from vllama.cli.render.difference import difference, hidden, render_difference
from vllama.cli.render.words import counted
from vllama.cli.terminal import show, show_json
from vllama.controller.manifest.edit import Edited, apply, preview
from vllama.controller.manifest.load import load
from vllama.engine.cache import find_on_disk


def run(
    source: str, path: Path, *, tool: str, existing: Existing, dry_run: bool, as_json: bool
) -> None:  # fmt: skip
    """CommandFailed where it cannot be read, or models.yaml has entries already that say otherwise."""
    found = _found(source, tool)
    with problems(path):
        found = fitting(found, names=_names(path, found), environ=os.environ)
        changes = merge(found, path, existing)
        refused = existing is Existing.REFUSE and bool(changes.there)
        do = preview if dry_run or refused else apply
        done = do(path, *changes.edits, environ=os.environ, beside=changes.beside)
    diff = difference(done.before, done.after, name=path.name)
    written = done.changed and do is apply
    if as_json:
        show_json(_json(found, changes, path, diff, written=written, refused=refused))
    else:
        _tell(found, changes, done, path, diff if dry_run else "", written=written, refused=refused)
    if refused:
        raise CommandFailed(
            f"{path} has {_listed(changes.there)} already, and says otherwise there; nothing was written.\n"
            "--existing keep leaves those as they are, --existing replace puts the new ones in their place."
        )


def _found(source: str, tool: str) -> Found:
    if tool == "ollama" or source == "ollama" or source.startswith(("http://", "https://")):
        if source != "ollama" and "://" not in source and Path(source).exists():
            return ollama.read(_text(source), file=source, on_disk=_is_on_disk)
        host = os.environ.get("OLLAMA_HOST", "") if source == "ollama" else source
        url = ollama.address(host)
        return ollama.read(ollama.ask(url), file=url, on_disk=_is_on_disk)
    text = _text(source)
    match tool if tool != "auto" else _kind(source, text):
        case "mvllm":
            return mvllm.read(text, file=source)
        case "llama-swap":
            return llama_swap.read(text.encode(), file=source, on_disk=_where)
        case _:
            return ollama.read(text, file=source, on_disk=_is_on_disk)


def _kind(source: str, text: str) -> str:
    if source.endswith(".toml"):
        return "mvllm"
    return "ollama" if source.endswith(".json") or text.lstrip().startswith(("{", "[")) else "llama-swap"


def _text(source: str) -> str:
    path = Path(source).expanduser()
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.") from None


def _where(model: str) -> Path | None:
    found = find_on_disk(os.environ, model)
    return found.directory if found is not None and found.complete else None


def _is_on_disk(model: str) -> bool:
    return _where(model) is not None


def _names(path: Path, found: Found) -> dict[str, str]:
    """Of the models that stay as they are. Raises ManifestInvalid."""
    coming = {piece.name for piece in found.models}
    names: dict[str, str] = {}
    for spec in load(path, environ=os.environ).models.values():
        if spec.model not in coming:
            further = (*spec.aliases, *(adapter for adapter, _ in spec.lora))
            names |= dict.fromkeys((spec.model, *further), spec.model)
    return names


def _json(
    found: Found, changes: Merge, path: Path, diff: str, *, written: bool, refused: bool
) -> dict[str, Any]:  # fmt: skip
    return {
        "from": found.tool, "source": found.file, "file": str(path), "written": written, "refused": refused,
        "models": [edit.model for edit in changes.edits],
        "servers": [server["url"] for server in changes.beside.servers], "balance": list(changes.beside.balance),
        "existing": list(changes.there), "diff": diff,
        "left": [{"file": e.file, "line": e.line, "what": e.what, "why": hidden(e.why)} for e in found.left],
    }  # fmt: skip


def _tell(
    found: Found, changes: Merge, done: Edited, path: Path, diff: str, *, written: bool, refused: bool
) -> None:  # fmt: skip
    if diff:
        show(render_difference(diff))
    for each in found.left:
        complain(hidden(str(each)), word="left out")
    if refused:
        return
    counts = [
        counted(len(changes.edits), "model"), counted(len(changes.beside.servers), "server"),
        f"{counted(len(changes.beside.balance), 'key')} of balance",
    ]  # fmt: skip
    what = ", ".join(each for each in counts if not each.startswith("0 ")) or "notes"
    if not done.changed:
        show(Text(f"There is nothing in {found.file} that {path} does not have."))
    elif written:
        show(Text(f"{path} has {what} more from {found.file} ({found.tool}). A server that runs applies it by itself."))
    else:
        show(Text(f"{what} from {found.file} ({found.tool}) would go into {path}."))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:6])
    return shown if len(names) <= 6 else f"{shown} and {len(names) - 6} more"
