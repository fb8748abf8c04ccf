"""YAML text -> plain data, and where every key and value stands.

Keys are always strings. `${NAME}` in values is filled in.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from vllama.controller.manifest.compose import (
    FALSE_WORDS,
    MAX_DEPTH,
    MAX_NODES,
    TAG,
    TRUE_WORDS,
    compose,
    too_deep,
    too_many,
)
from vllama.controller.manifest.problems import KeyPath, ManifestInvalid, Problem, label, shown
from vllama.controller.manifest.references import expand
from vllama.controller.manifest.syntax import problem_of

MAX_TEXT_BYTES = 10 << 20
MAX_SCALAR_CHARS = 128 << 10  # Linux passes no longer argument or variable to a process


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Lines, from 1. An item of a list has no key: both are its own line."""

    key_line: int
    value_line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """`data` is None for an empty file. `problems` were found on the way; what they concern is None in `data`."""

    file: str
    data: Any
    places: Mapping[KeyPath, Place]
    problems: tuple[Problem, ...]

    def line_of(self, path: KeyPath) -> int | None:
        """Where the nearest thing to `path` that the file has stands."""
        while path:
            if (place := self.places.get(path)) is not None:
                return place.key_line
            path = path[:-1]
        return None


def parse(content: bytes, *, file: str, environ: Mapping[str, str] | None) -> Document:
    """`environ` None: `${NAME}` means nothing in this file.

    ManifestInvalid where there is no sense in going on: no UTF-8, no YAML, or far too much of it.
    """
    if len(content) > MAX_TEXT_BYTES:
        text = f"the file has {len(content)} bytes; more than {MAX_TEXT_BYTES} are not read"
        raise ManifestInvalid([Problem(file=file, line=None, path=(), text=text)])
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ManifestInvalid([Problem(file=file, line=line, path=(), text="the file is not UTF-8 text")]) from None
    reader = _Reader(file=file, environ=environ)
    try:
        node = compose(text)
        data = None if node is None else reader.value(node, ())
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise ManifestInvalid([problem_of(error, file=file, text=text)]) from None
    return Document(file=file, data=data, places=reader.places, problems=tuple(reader.problems))


class _Reader:
    """Nodes -> data. An alias is read again at every place that uses it, within the budget of all."""

    def __init__(self, *, file: str, environ: Mapping[str, str] | None) -> None:
        self.places: dict[KeyPath, Place] = {}
        self.problems: list[Problem] = []
        self._file = file
        self._environ = environ
        self._nodes = 0
        self._chars = 0
        self._depth = 0

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or self._chars > 2 * MAX_TEXT_BYTES:
            raise yaml.MarkedYAMLError(problem=too_many(), problem_mark=node.start_mark)
        if self._depth >= MAX_DEPTH:  # an alias to what contains it never ends
            raise yaml.MarkedYAMLError(problem=too_deep(), problem_mark=node.start_mark)
        self.places.setdefault(path, Place(key_line=_line(node), value_line=_line(node)))
        self._depth += 1
        try:
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, number)) for number, item in enumerate(node.value)]
            return self._scalar(node, path)
        finally:
            self._depth -= 1

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        own, merged = self._pairs(node, path)
        return {
            key: self._entry(key_node, value_node, (*path, key))
            for key, (key_node, value_node) in (merged | own).items()
        }

    def _entry(self, key: yaml.Node, value: yaml.Node, path: KeyPath) -> Any:
        self.places[path] = Place(key_line=_line(key), value_line=_line(value))
        return self.value(value, path)

    def _pairs(self, node: yaml.MappingNode, path: KeyPath) -> tuple["_Pairs", "_Pairs"]:
        """The mapping's own pairs and those that `<<` brings; own ones win, and so does what `<<` names first."""
        own: _Pairs = {}
        merged: _Pairs = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if key_node.tag == TAG + "merge":
                merged = self._merged(value_node, path) | merged
            elif not isinstance(key_node, yaml.ScalarNode) or not key:
                self._problem(key_node, path, f"{label(path)}: a key must be a word, not empty and not a list")
            elif key in own:
                first = _line(own[key][0])
                self._problem(key_node, (*path, key), f"{label((*path, key))} is given twice, in line {first} and here")
            else:
                own[key] = (key_node, value_node)
        return own, merged

    def _merged(self, node: yaml.Node, path: KeyPath) -> "_Pairs":
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise yaml.MarkedYAMLError(problem=too_many(), problem_mark=node.start_mark)
        if isinstance(node, yaml.MappingNode):
            self._depth += 1
            if self._depth >= MAX_DEPTH:
                raise yaml.MarkedYAMLError(problem=too_deep(), problem_mark=node.start_mark)
            own, merged = self._pairs(node, path)
            self._depth -= 1
            return merged | own
        if isinstance(node, yaml.SequenceNode) and all(isinstance(item, yaml.MappingNode) for item in node.value):
            pairs: _Pairs = {}
            for item in node.value:
                pairs = self._merged(item, path) | pairs
            return pairs
        self._problem(node, path, f"{label(path)}: '<<' takes a mapping or a list of mappings")
        return {}

    def _scalar(self, node: yaml.Node, path: KeyPath) -> Any:
        raw = node.value
        self._chars += len(raw)
        kind = node.tag.removeprefix(TAG)
        if kind == "str":
            return self._string(node, path)
        if kind == "null":
            return None
        if kind == "bool" and raw.lower() in TRUE_WORDS | FALSE_WORDS:
            return raw.lower() in TRUE_WORDS
        if kind == "int" and re.fullmatch(r"[-+]?[0-9_]{1,25}", raw, re.ASCII) and raw.strip("+-_"):
            return int(raw.replace("_", ""))
        if kind == "float" and (number := _number(raw)) is not None:
            return number
        if kind in {"bool", "int", "float"}:
            self._problem(node, path, f"{label(path)}: {shown(raw)} is no {kind}")
            return None
        self._problem(node, path, f"{label(path)}: the tag {shown(node.tag)} does not fit here; leave it out")
        return None

    def _string(self, node: yaml.Node, path: KeyPath) -> str | None:
        try:
            environ = self._environ
            text = node.value if environ is None else expand(node.value, environ, longest=MAX_SCALAR_CHARS)
        except ValueError as error:
            self._problem(node, path, f"{label(path)}: {error}")
            return None
        self._chars += len(text)
        if len(text) > MAX_SCALAR_CHARS:
            self._problem(node, path, f"{label(path)}: is longer than {MAX_SCALAR_CHARS} characters")
            return None
        if re.search("[\0\ud800-\udfff]", text):
            self._problem(
                node, path, f"{label(path)}: has a character that no process can be given (NUL or half a pair)"
            )
            return None
        return text

    def _problem(self, node: yaml.Node, path: KeyPath, text: str) -> None:
        self.problems.append(Problem(file=self._file, line=_line(node), path=path, text=text))


_Pairs = dict[str, tuple[yaml.Node, yaml.Node]]


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _number(raw: str) -> float | None:
    """None for what is no finite decimal number."""
    try:
        number = float(raw)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
