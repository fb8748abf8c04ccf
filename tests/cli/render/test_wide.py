import re
from pathlib import Path

import pytest

from tests.cli.answers import a_running, a_status, an_answer
from tests.cli.golden import matches
from tests.cli.pages import CODER, EMBED, SMALL, everything
from vllama.cli.render.wide import COLUMNS, DROPPED_FIRST, render_wide

GOLDEN = Path(__file__).parent / "golden"
STATUS = an_answer(
    a_status(CODER), a_running(EMBED, pinned=True), a_running(SMALL, "Asleep", sleep_level=1),
    a_status("org/new"), *(a_status(f"cached/{n}", declared=False) for n in range(3)),
)  # fmt: skip


def render(width: int | None = None) -> str:
    return render_wide(STATUS, everything(), width=width).plain


@pytest.mark.parametrize("width", [80, 100, 120, None])
def test_the_table_reads_as_its_golden_file(width: int | None) -> None:
    assert matches(GOLDEN / f"ps_wide_{width or 'unlimited'}.txt", render(width))


@pytest.mark.parametrize("width", range(30, 180, 3))
def test_columns_go_in_the_stated_order_and_no_row_is_too_wide(width: int) -> None:
    lines = render(width).splitlines()[:5]
    assert all(len(line) <= width for line in lines)
    kept = re.split(r"\s{2,}", lines[0])
    assert kept == [name for name in COLUMNS if name in kept]
    gone = [name for name in DROPPED_FIRST if name not in kept]
    assert gone == list(DROPPED_FIRST[: len(gone)])


def test_what_nobody_measured_is_marked_and_the_mark_is_explained() -> None:
    assert "~28.0 GiB" in render()
    assert "\n~ estimated or assumed" in render()
    measured = [each for each in everything()["models"] if each["model"] == SMALL]
    measured[0]["sources"]["host_copy_bytes"] = "measured"
    text = render_wide(an_answer(a_running(SMALL)), {"models": measured}).plain
    assert "~" not in text
