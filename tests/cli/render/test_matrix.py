from pathlib import Path
from typing import Any

import pytest

from tests.cli.golden import matches
from tests.cli.pages import five_models, many_models, together
from tests.planner.cluster import Cluster
from vllama.cli.render.matrix import MOST_COLUMNS, render_matrix

GOLDEN = Path(__file__).parent / "golden"


def render(answer: dict[str, Any], width: int | None = None) -> str:
    return render_matrix(answer, width=width).plain


@pytest.mark.parametrize("width", [80, 100, 120])
def test_it_reads_as_its_golden_file(width: int) -> None:
    assert matches(GOLDEN / f"matrix_five_{width}.txt", render(five_models(), width))


@pytest.mark.parametrize("width", [80, 120])
def test_twenty_and_more_read_as_their_golden_files(width: int) -> None:
    assert matches(GOLDEN / f"matrix_twenty_{width}.txt", render(many_models(MOST_COLUMNS), width))
    assert matches(GOLDEN / f"matrix_more_{width}.txt", render(many_models(MOST_COLUMNS + 1), width))


def test_the_table_is_symmetrical() -> None:
    rows = [line.split() for line in render(five_models()).splitlines() if line[:1].isdigit()]
    signs = [row[2:] for row in rows]  # the blank of the diagonal is gone
    full = [[*row[:number], "", *row[number:]] for number, row in enumerate(signs)]
    assert full == [list(column) for column in zip(*full, strict=True)]


def test_a_terminal_that_is_too_narrow_for_the_table_gets_the_list() -> None:
    assert "org/model-00: with" in render(many_models(MOST_COLUMNS), 50)


def test_the_list_says_what_is_shorter() -> None:
    cluster = Cluster()
    for number in range(MOST_COLUMNS + 1):
        cluster.model(f"m{number:02}", 1.0)
    cluster.models["big"] = Cluster().model("big", 7.5).models["big"]
    cluster.weights["big"] = 2.0
    text = render(together(cluster))
    assert "m00: with all but big\n" in text
    assert "big: with nobody\n" in text


def test_no_models_and_only_one() -> None:
    assert render(together(Cluster())) == "Awake together, all others stopped\n"
    assert "At most at once\n  a" in render(together(Cluster().model("a")))


def test_caps_are_said() -> None:
    answer = {**five_models(), "left_out": 3, "searched_all": False, "sets": [["a"]] * 25}
    text = render(answer)
    assert "3 more models left out: the first 5 were looked at." in text
    assert "and 5 more; -o json has them all" in text
    assert "the search for them was given up" in text
