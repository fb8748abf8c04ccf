"""Situations that others got wrong, and what vllama plans in them. VLLAMA_WRITE_GOLDEN=1 writes what comes out now."""

import os
from pathlib import Path

import pytest

from tests.scenarios.scenario import tell

HERE = Path(__file__).parent
FILES = sorted(HERE.glob("*.yaml"))
WRITE = bool(os.environ.get("VLLAMA_WRITE_GOLDEN"))  # looked at now: tests see nothing of the user's own


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_plan_reads_as_its_golden_file(path: Path) -> None:
    golden, told = path.with_suffix(".plan.txt"), tell(path)
    if WRITE:
        golden.write_text(told)
    assert told == golden.read_text()


def test_every_golden_file_has_its_situation_and_every_situation_says_where_it_comes_from() -> None:
    assert {path.name.removesuffix(".plan.txt") for path in HERE.glob("*.plan.txt")} == {path.stem for path in FILES}
    assert all(path.read_text().startswith("# ") for path in FILES)
