"""Everything that is wrong with one document, gathered while it is read on."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from vllama.controller.manifest.marks import Document
from vllama.controller.manifest.problems import KeyPath, Problem, did_you_mean, label, shortened, shown

Keys = TypeVar("Keys", bound=BaseModel)


class Findings:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._problems = {(found.line, found.text): found for found in document.problems}

    @property
    def problems(self) -> tuple[Problem, ...]:
        return tuple(self._problems.values())

    def line_of(self, path: KeyPath) -> int | None:
        return self._document.line_of(path)

    def add(self, path: KeyPath, text: str, *, at: KeyPath | None = None) -> None:
        """`text` is a sentence about what `path` says; the label of `path` is put before it. `at`: where in it."""
        self._add(at or path, f"{label(path)}: {text}")

    def mapping(self, data: Any, path: KeyPath) -> dict[str, Any]:
        """`data`, or nothing where it is nothing or no mapping."""
        if data is None or isinstance(data, dict):
            return data or {}
        self.add(path, f"{shown(data)} is not a mapping (key: value)")
        return {}

    def validated(self, keys: type[Keys], data: Mapping[str, Any], at: Callable[[KeyPath], KeyPath]) -> Keys | None:
        """`data` as `keys`, without what is wrong in it; None where too little is left. `at` gives full paths."""
        try:
            return keys.model_validate(dict(data))
        except ValidationError as error:
            details = error.errors(include_url=False)
        for detail in details:
            self._add_detail(keys, detail, at)
        wrong = {detail["loc"][0] for detail in details}
        try:
            return keys.model_validate({key: value for key, value in data.items() if key not in wrong})
        except ValidationError:
            return None

    def _add_detail(self, keys: type[BaseModel], detail: Any, at: Callable[[KeyPath], KeyPath]) -> None:
        path = at(detail["loc"])
        match detail["type"]:
            case "extra_forbidden":
                self.unknown_key(path, _keys_at(keys, detail["loc"]))
            case "missing":
                self.add(path[:-1], f"{path[-1]} is missing")
            case "value_error":
                self.add(path, str(detail["ctx"]["error"]))
            case _:
                self.add(path, f"{shown(detail['input'])} is not a mapping (key: value)")

    def unknown_key(self, path: KeyPath, known: Mapping[str, Any], hint: str = "") -> None:
        key = str(path[-1])
        owner = f"{label(path[:-1])}: " if len(path) > 1 else ""
        self._add(path, f"{owner}unknown key {shown(key)}{did_you_mean(key, known) or hint}")

    def _add(self, path: KeyPath, text: str) -> None:
        if any(found.path[: len(path)] == path for found in self._document.problems):
            return  # follows from what could not even be read
        line = self._document.line_of(path)
        problem = Problem(file=self._document.file, line=line, path=path, text=shortened(text))
        self._problems.setdefault((line, problem.text), problem)


def _keys_at(keys: type[BaseModel], loc: KeyPath) -> Mapping[str, Any]:
    """The keys that may stand beside the unknown one at `loc`: in this system, one level of nesting (`idle`)."""
    if len(loc) == 1:
        return keys.model_fields
    options = getattr(keys.model_fields[str(loc[0])].annotation, "__args__", ())
    return next((option.model_fields for option in options if isinstance(option, type(BaseModel))), {})
