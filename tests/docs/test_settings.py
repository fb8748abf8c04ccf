"""docs/settings.md says what the code says."""

import re
from pathlib import Path

from tests.docs.settings import page

ROOT = Path(__file__).parents[2]
INNER = {"VLLAMA_ENGINE", "VLLAMA_ENGINE_KEY"}  # what engines carry: nobody sets it


def test_the_page_is_this_one() -> None:
    committed = (ROOT / "docs" / "settings.md").read_text()
    assert committed == page(), "write it anew: python -m tests.docs.settings > docs/settings.md"


def test_no_variable_is_left_out() -> None:
    said = page()
    sources = "".join(path.read_text() for path in (ROOT / "vllama").rglob("*.py"))
    named = set(re.findall(r'"(VLLAMA_[A-Z_]*[A-Z])"', sources))
    assert {name for name in named if f"`{name}" not in said} == INNER
