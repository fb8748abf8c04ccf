from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.cli.golden import matches
from tests.cli.pages import three_nodes
from vllama.cli.render.nodes import COLUMNS, DROPPED_FIRST, render_nodes

GOLDEN = Path(__file__).parent / "golden"
AT = 1_762_171_200.0


def render(width: int | None = None, told: dict | None = None) -> str:
    return render_nodes(told or three_nodes(AT), now=datetime.fromtimestamp(AT, UTC), width=width).plain


@pytest.mark.parametrize("width", [80, 120, None])
def test_the_table_reads_as_its_golden_file(width: int | None) -> None:
    assert matches(GOLDEN / f"nodes_{width or 'unlimited'}.txt", render(width))


@pytest.mark.parametrize("width", range(24, 150, 3))
def test_columns_go_in_the_stated_order_and_no_row_is_too_wide(width: int) -> None:
    lines = render(width).splitlines()
    assert all(len(line) <= width for line in lines[:4])
    kept = [name for name in COLUMNS if name in lines[0]]
    gone = [name for name in DROPPED_FIRST if name not in kept]
    assert gone == list(DROPPED_FIRST[: len(gone)])


def test_one_that_is_well_needs_no_words() -> None:
    one = {"nodes": three_nodes(AT)["nodes"][:1]}
    assert len(render(None, one).splitlines()) == 2
    assert render(None, {"nodes": []}) == "No machine was seen yet."


def test_states_have_their_colours() -> None:
    text = render_nodes(three_nodes(AT), now=datetime.fromtimestamp(AT, UTC))
    assert {str(span.style) for span in text.spans} >= {"green", "red", "yellow"}


def test_what_a_node_says_acts_on_no_terminal() -> None:
    told = three_nodes(AT)
    told["nodes"][1] |= {"name": "a\x1b[31mb", "said": "\x1b[2Jgone\nfar"}
    assert "\x1b" not in render(None, told)
