"""`vllama validate`: models.yaml, read as the server reads it."""

import os
from pathlib import Path
from typing import Any

from vllama.cli.failure import FAILED, CommandFailed, complain
from vllama.cli.render.words import counted
from vllama.cli.terminal import show_json
from vllama.controller.manifest.load import Manifest, load
from vllama.controller.manifest.problems import ManifestInvalid


def run(path: Path, *, as_json: bool) -> int:
    """The exit code. Problems go to stdout, one line each, `file:line: text`."""
    if not path.exists():  # the server takes that for an empty file; who asks about a file means one
        raise CommandFailed(f"there is no file {path}.")
    try:
        manifest = load(path, environ=os.environ)
    except ManifestInvalid as invalid:
        if as_json:
            show_json({"ok": False, "file": str(path), "models": [], "problems": _problems(invalid)})
        else:
            print(invalid)
            complain(f"{path} has {counted(len(invalid.problems), 'problem')}; a server would not apply it.")
        return FAILED
    if as_json:
        show_json({"ok": True, "file": str(path), "models": list(manifest.models), "problems": []})
    else:
        print(f"ok: {_size(manifest)}")
    return 0


def _size(manifest: Manifest) -> str:
    servers = f", {counted(len(manifest.servers), 'server')}" if manifest.servers else ""
    return counted(len(manifest.models), "model") + servers


def _problems(invalid: ManifestInvalid) -> list[dict[str, Any]]:
    return [
        {"file": problem.file, "line": problem.line, "column": problem.column, "text": problem.text}
        for problem in invalid.problems
    ]
