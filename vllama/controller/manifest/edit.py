"""models.yaml, changed by a command: whole or not at all, by one at a time, with its comments and its order."""

import contextlib
import fcntl
import io
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from vllama.controller.manifest.beside import Beside, CannotEdit, as_full, put_beside, with_notes
from vllama.controller.manifest.content import read_content
from vllama.controller.manifest.load import Manifest, load_bytes
from vllama.controller.manifest.marks import parse
from vllama.controller.manifest.problems import FULL_FORM, ManifestInvalid
from vllama.controller.manifest.roundtrip import hang, put, take_out

KeyNames = tuple[str, ...]  # of a key within the entry of a model: ("idle", "sleep_after")


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What changes in the entry of one model: keys that are taken out, and then keys that are set."""

    model: str
    put: Mapping[KeyNames, Any] = field(default_factory=dict)
    drop: tuple[KeyNames, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Edited:
    """The file before and after, and what both mean."""

    path: Path
    before: str
    after: str
    old: Manifest
    new: Manifest

    @property
    def changed(self) -> bool:
        return self.before != self.after


def preview(path: Path, *edits: Edit, environ: Mapping[str, str], beside: Beside | None = None) -> Edited:
    """What `apply` would do; `beside`: what changes beside the models.

    Raises CannotEdit, and ManifestInvalid where the result would not be valid.
    """
    content = read_content(path)
    before = (content or b"").decode("utf-8", errors="surrogateescape")
    old = _as_it_was(content or b"", path, environ)
    after = edited(before, *edits, beside=beside)
    data = after.encode("utf-8", errors="surrogateescape")
    new = load_bytes(data, file=str(path), environ=environ)
    touched = frozenset() if beside is None else beside.touched
    changed = _Changed(models={edit.model for edit in edits}, sections=touched)
    _check_nothing_else_changed(content or b"", data, changed, path, environ)
    return Edited(path=path, before=before, after=after, old=old, new=new)


def _as_it_was(content: bytes, path: Path, environ: Mapping[str, str]) -> Manifest:
    """Nothing, where it had mistakes: the change may be what puts them right."""
    try:
        return load_bytes(content, file=str(path), environ=environ)
    except ManifestInvalid:
        return Manifest()


def entry_of(source: Path | str, model: str) -> Mapping[str, Any]:
    """What the file (or its text) says of a model, as it is written; empty where it says nothing.

    Raises CannotEdit, and ManifestInvalid where the file cannot be read.
    """
    text = source if isinstance(source, str) else (read_content(source) or b"").decode("utf-8", "surrogateescape")
    _, document = _read(text)
    if not isinstance(document, CommentedMap):
        return {}
    full = any(key in FULL_FORM for key in document)
    models = document.get("models") if full else document
    entry = models.get(model) if isinstance(models, CommentedMap) else None
    return dict(entry) if isinstance(entry, CommentedMap) else {}


def apply(path: Path, *edits: Edit, environ: Mapping[str, str], beside: Beside | None = None) -> Edited:
    """As `preview`, and then the file is replaced. Raises OSError too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with _alone(path):
        done = preview(path, *edits, environ=environ, beside=beside)
        if done.changed:
            _replace(path, done)
    return done


def edited(text: str, *edits: Edit, beside: Beside | None = None) -> str:
    """`text` with all edits made; the rest stays as it is, in spelling and order."""
    yaml, document = _read(text)
    if beside is not None and beside.touched and _is_flat(document):
        text = as_full(text)
        yaml, document = _read(text)
    fresh = document is None
    if document is None:
        document = CommentedMap({"models": CommentedMap()})
        if text.strip():
            document.yaml_set_start_comment("\n".join(line.lstrip("# ") for line in text.strip().splitlines()))
    if not isinstance(document, CommentedMap):
        raise CannotEdit("The file is no map of models; edit it by hand.")
    models = _models(document)
    changed = False
    for edit in edits:
        changed |= _change(models, edit)
    if beside is not None:
        changed |= put_beside(document, beside)
        if fresh and beside.touched and not models:
            del document["models"]
    notes = () if beside is None else beside.notes
    if not changed:
        return with_notes(text, notes)
    out = io.StringIO()
    yaml.dump(document, out)
    written = with_notes(out.getvalue(), notes)
    return written.replace("\n", "\r\n") if "\r\n" in text else written


def _is_flat(document: Any) -> bool:
    return isinstance(document, CommentedMap) and bool(document) and not any(key in FULL_FORM for key in document)


def _read(text: str) -> tuple[YAML, Any]:
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 20
    try:
        document = yaml.load(text)
    except YAMLError as error:
        raise CannotEdit(f"The file cannot be edited by a command: {' '.join(str(error).split())[:300]}") from None
    step, offset = _indent(document, CommentedMap, 2), _indent(document, CommentedSeq, 0)
    yaml.indent(mapping=step, sequence=offset + 2, offset=offset)
    return yaml, document


def _indent(node: Any, kind: type, usual: int) -> int:
    """By how much the first map (or list) within a map stands further right than that."""
    waiting = [node]
    while waiting:
        outer = waiting.pop(0)
        if not isinstance(outer, CommentedMap) or outer.fa.flow_style():
            continue
        for value in outer.values():
            if isinstance(value, kind) and value and not value.fa.flow_style():  # type: ignore[attr-defined]
                return int(max(0, value.lc.col - outer.lc.col))  # type: ignore[attr-defined]
            waiting.append(value)
    return usual


def _models(document: CommentedMap) -> CommentedMap:
    if _is_flat(document):
        return document
    if not isinstance(document.get("models"), CommentedMap):
        if document.get("models") is not None:
            raise CannotEdit("`models` is no map of models; edit the file by hand.")
        document["models"] = CommentedMap()
    models: CommentedMap = document["models"]
    if models.fa.flow_style() and not models:
        models.fa.set_block_style()
    return models


def _change(models: CommentedMap, edit: Edit) -> bool:
    entry = models.get(edit.model)
    if not isinstance(entry, CommentedMap):
        if entry is not None:
            raise CannotEdit(f"The entry of {edit.model} is no map of settings; edit the file by hand.")
        entry = CommentedMap()
    elif not entry:
        entry.fa.set_flow_style()
    changed, tail = False, ""
    for path in edit.drop:
        if _has(entry, path):
            changed, tail = True, tail + _drop(entry, path)
    for path, value in edit.put.items():
        changed |= _put(entry, path, value)
    if changed and models.get(edit.model) is not entry:
        put(models, edit.model, entry)
    if tail:
        hang(models, edit.model, tail)
    return changed


def _put(entry: CommentedMap, path: KeyNames, value: Any) -> bool:
    *groups, last = path
    for number, step in enumerate(groups):
        if not isinstance(entry.get(step), CommentedMap):
            below: Any = value
            for name in reversed(path[number + 1 :]):
                below = CommentedMap({name: _node(below)})
            put(entry, step, below)
            return True
        entry = entry[step]
    if last in entry and _is_same(entry[last], value):
        return False
    put(entry, last, _node(value))
    return True


def _is_same(present: Any, value: Any) -> bool:
    if isinstance(present, list):
        return bool(list(present) == value)
    return isinstance(present, bool) == isinstance(value, bool) and present is not None and str(present) == str(value)


def _has(entry: Any, path: KeyNames) -> bool:
    for step in path:
        if not isinstance(entry, CommentedMap) or step not in entry:
            return False
        entry = entry[step]
    return True


def _drop(entry: CommentedMap, path: KeyNames) -> str:
    """A map that becomes empty goes too. What followed, where nothing is left to hang it on."""
    step, *rest = path
    if rest and len(entry[step]) > 1:
        return _drop(entry[step], tuple(rest))
    return take_out(entry, step)


def _node(value: Any) -> Any:
    if isinstance(value, list):
        items = CommentedSeq(map(_node, value))
        items.fa.set_flow_style()
        return items
    if isinstance(value, str) and value.lower() in {"yes", "no", "on", "off", "y", "n"}:
        return DoubleQuotedScalarString(value)  # words that other readers of YAML take for true and false
    return value


@dataclass(frozen=True, slots=True, kw_only=True)
class _Changed:
    models: set[str]
    sections: frozenset[str]


def _check_nothing_else_changed(
    before: bytes, after: bytes, changed: _Changed, path: Path, environ: Mapping[str, str]
) -> None:
    """Two readers of YAML do not agree on everything, and an anchor may stand for several models."""

    def others(content: bytes) -> Any:
        data = parse(content, file=str(path), environ=environ).data or {}
        full = any(key in FULL_FORM for key in data)
        rest = {key: value for key, value in data.items() if key not in {"models", *changed.sections}} if full else {}
        listed = (data.get("models") or {}) if full else data
        return {k: v for k, v in rest.items() if v}, {k: v for k, v in listed.items() if k not in changed.models}

    if others(before) != others(after):
        raise CannotEdit(
            f"Nothing was changed: the entry shares settings with others (an anchor, `&name`, in {path}), "
            "so that the change would reach them too. Edit the file by hand."
        )


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """The directory is locked, since the file is another one after each change."""
    directory = os.open(path.resolve().parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _replace(path: Path, done: Edited) -> None:
    path = path.resolve()  # a link stays one
    now = read_content(path)
    if (now or b"") != done.before.encode("utf-8", errors="surrogateescape"):
        raise CannotEdit(f"{path} was changed by somebody else at this moment. Nothing was written; try again.")
    with tempfile.NamedTemporaryFile("wb", dir=path.parent, prefix=f".{path.name}.", delete=False) as fresh:
        try:
            fresh.write(done.after.encode("utf-8", errors="surrogateescape"))
            fresh.flush()
            _like(path, fresh.name)
            os.fsync(fresh.fileno())
            Path(fresh.name).replace(path)
        except BaseException:
            Path(fresh.name).unlink(missing_ok=True)
            raise


def _like(path: Path, fresh: str) -> None:
    """Mode and owner of the file that is replaced; a new one is as everybody's files are."""
    if path.exists():
        was = path.stat()
        mode = stat.S_IMODE(was.st_mode)
    else:
        was, mask = path.parent.stat(), os.umask(0)
        os.umask(mask)
        mode = 0o666 & ~mask
    with contextlib.suppress(PermissionError):  # root must not take the file away from the server
        os.chown(fresh, was.st_uid, was.st_gid)
    Path(fresh).chmod(mode)
