"""YAML text -> nodes, with a budget, and with little guessing about what a plain word is.

A careful subset of YAML 1.1: its booleans, decimal numbers, null, strings, anchors and merge keys. Nothing else is
guessed, so that `1:30`, `0123`, `2024-01-01` and `.inf` are strings.
"""

import re

import yaml

MAX_NODES = 50_000
MAX_DEPTH = 40

TAG = "tag:yaml.org,2002:"
TRUE_WORDS = frozenset({"yes", "true", "on"})
FALSE_WORDS = frozenset({"no", "false", "off"})


class _Loader(yaml.SafeLoader):
    """Composes nodes with a budget; builds no objects."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  as PyYAML declares it

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._nodes = 0
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        self._nodes += 1
        self._depth += 1
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        if self._nodes > MAX_NODES:
            raise yaml.MarkedYAMLError(problem=too_many(), problem_mark=mark)
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=too_deep(), problem_mark=mark)
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1


def _resolve(kind: str, pattern: str, first: str) -> None:
    _Loader.add_implicit_resolver(TAG + kind, re.compile(rf"(?:{pattern})\Z"), list(first) or [""])


_resolve("bool", "|".join(f"{w}|{w.title()}|{w.upper()}" for w in sorted(TRUE_WORDS | FALSE_WORDS)), "yYnNtTfFoO")
_resolve("int", r"[-+]?(?:0|[1-9](?:_?[0-9]){0,18})", "-+0123456789")
_resolve("float", r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9]+[eE][-+]?[0-9]+", "-+.0123456789")
_resolve("null", "~|null|Null|NULL", "~nN")
_resolve("null", "", "")
_resolve("merge", "<<", "<")


def compose(text: str) -> yaml.Node | None:
    loader = _Loader(text)
    try:
        node: yaml.Node | None = loader.get_single_node()
        return node
    finally:
        loader.dispose()


def too_many() -> str:
    return f"more than {MAX_NODES} values, counting what aliases repeat, are not read"


def too_deep() -> str:
    return f"more than {MAX_DEPTH} levels of nesting are not read"
