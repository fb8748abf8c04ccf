"""The pages of the documentation, and what can be run of them.

A block of `bash` is run as it stands. In a block of `console` the lines that begin with `$ ` are run one by one (`> `
goes on), and what stands below each must come out of it in this order; `...` in it stands for anything. A block below
`<!-- not run: WHY -->` is not run; one below `<!-- file: PATH -->` is written to that file.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
RUN = {"bash", "console", "sh"}
_FENCE = re.compile(
    r"^(?:<!-- (?P<what>[a-z ]+): (?P<said>.*?) -->\n)?```(?P<kind>\S*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """`says`: lines that must come out of it, in this order."""

    text: str
    says: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """`not_run`: why; `file`: where its text belongs."""

    kind: str
    text: str
    not_run: str | None = None
    file: str | None = None

    def commands(self) -> Iterator[Command]:
        if self.kind != "console":
            yield Command(text=self.text)
            return
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            first, *rest = part.splitlines()
            more = [line[2:] for line in rest if line.startswith("> ")]
            says = tuple(line for line in rest if line.strip() and not line.startswith("> "))
            yield Command(text="\n".join([first, *more]), says=says)


def blocks(page: Path) -> list[Block]:
    return [
        Block(
            kind=found["kind"],
            text=found["text"],
            not_run=found["said"] if found["what"] == "not run" else None,
            file=found["said"] if found["what"] == "file" else None,
        )
        for found in _FENCE.finditer(page.read_text())
    ]


def is_run(page: Path) -> bool:
    return any(block.kind in RUN and block.not_run is None for block in blocks(page))


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def pattern(line: str) -> re.Pattern[str]:
    """What a line of the page may look like when it comes out."""
    words = (re.escape(word).replace(re.escape("..."), r".*") for word in line.split())
    return re.compile(r"\s+".join(words).replace(r"\s+.*", r".*").replace(r".*\s+", r".*"))
