"""README.zh.md says what README.md says: the same commands, files and pages, whatever language explains them."""

import re
from pathlib import Path

import pytest

from tests.packaging.files import ROOT

ENGLISH, CHINESE = ROOT / "README.md", ROOT / "README.zh.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[str]:
    """Its lines without what explains them: a comment behind, or a second column of a list of commands."""
    lines = [re.sub(r"\s+# .*$", "", line) for line in block.splitlines()]
    return [re.sub(r"^(vllama \S.*?)\s{2,}.*$", r"\1", line) for line in lines]


def options(block: str) -> list[set[str]]:
    """Also those that only an explanation names."""
    return [set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", line)) for line in block.splitlines()]


def blocks(path: Path) -> list[tuple[str, str]]:
    return BLOCK.findall(path.read_text())


def test_what_explains_is_told_apart():
    block = "vllama ps      what runs   (-w watches)\npip install .   # here\n  - org/A  Ready\n# all of this\n"
    assert commands(block) == ["vllama ps", "pip install .", "  - org/A  Ready", "# all of this"]
    assert options(block) == [{"-w"}, set(), set(), set()]


@pytest.mark.parametrize("number", range(len(blocks(ENGLISH))))
def test_the_code_blocks_are_the_same(number):
    (language, english), (its_language, chinese) = blocks(ENGLISH)[number], blocks(CHINESE)[number]
    assert its_language == language
    assert commands(chinese) == commands(english), "README.zh.md does not follow README.md"
    assert options(chinese) == options(english), "README.zh.md does not follow README.md"


def test_they_have_the_same_parts():
    assert len(blocks(CHINESE)) == len(blocks(ENGLISH))
    english, chinese = (
        re.findall(r"^#+ ", BLOCK.sub("", path.read_text()), re.MULTILINE) for path in (ENGLISH, CHINESE)
    )
    assert chinese == english


def test_they_lead_to_each_other_and_to_the_same_pages():
    english, chinese = (set(re.findall(r"\]\(([^)]+)\)", path.read_text())) for path in (ENGLISH, CHINESE))
    assert english - {CHINESE.name} == chinese - {ENGLISH.name}
    assert (CHINESE.name in english, ENGLISH.name in chinese) == (True, True)
    assert [page for page in english if not (ROOT / page).exists()] == []
