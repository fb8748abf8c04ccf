"""Every test that docs/parity.md names is there, and no row is without one."""

import ast
import re
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "parity.md"
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")
ROWS = [
    line.strip("| ").split(" | ")
    for line in PAGE.read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| older tool |")
]


@lru_cache
def names_in(file: str) -> frozenset[str]:
    path = ROOT / file
    if not path.is_file():
        return frozenset()
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, functions))


def test_each_row_names_a_test_that_is_there() -> None:
    for older, here, shown_by in ROWS:
        named = NAMED.findall(shown_by)
        assert named, f"no test for: {older}"
        assert NAMED.sub("", shown_by).strip(", ") == "", f"not the name of a test: {shown_by}"
        missing = [f"{file}::{name}" for file, name in named if name not in names_in(file)]
        assert not missing, f"{older} ({here})"


def test_what_is_left_out_is_counted() -> None:
    """A row that goes, or one more thing that is not there, is a decision and not an accident."""
    assert len(ROWS) >= 255
    assert len([here for _, here, _ in ROWS if here.startswith("not there")]) == 4
