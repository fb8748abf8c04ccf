"""Names that people use for models: id, alias, adapter, or a short name that only one model has."""

import difflib
from collections.abc import Collection

from vllama.controller.control import Unresolved
from vllama.domain.spec import ModelSpec


class Names:
    """Built once per generation, looked up per request. Ids, aliases and adapters are unique: the file is checked."""

    def __init__(self, models: Collection[ModelSpec]) -> None:
        self._exact: dict[str, ModelSpec] = {}
        self._short: dict[str, list[ModelSpec]] = {}
        for spec in models:
            for further in (*spec.aliases, *(adapter for adapter, _ in spec.lora)):
                self._exact[further] = spec
            self._short.setdefault(spec.model.rsplit("/", 1)[-1], []).append(spec)
        self._exact |= {spec.model: spec for spec in models}

    def resolve(self, name: str) -> ModelSpec | Unresolved:
        if (exact := self._exact.get(name)) is not None:
            return exact
        short = self._short.get(name, [])
        if len(short) == 1:
            return short[0]
        if short:
            return Unresolved(name=name, ambiguous=True, candidates=tuple(sorted(spec.model for spec in short)))
        nearest = difflib.get_close_matches(name[:200], [*self._exact, *self._short], n=3)
        return Unresolved(name=name, ambiguous=False, candidates=tuple(nearest))
