from pathlib import Path
from typing import Any

import pytest

from tests.cli.golden import matches
from tests.cli.pages import everything, memory, trouble, two_gpus
from tests.planner.cluster import Cluster
from vllama.cli.render.bars import bar
from vllama.cli.render.memory import WIDEST, render_memory

GOLDEN = Path(__file__).parent / "golden"


def render(answer: dict[str, Any], width: int | None = None) -> str:
    return render_memory(answer, width=width).plain


@pytest.mark.parametrize("width", [80, 100, 120, None])
@pytest.mark.parametrize("page", [everything, trouble], ids=["everything", "trouble"])
def test_the_pages_read_as_their_golden_files(page: Any, width: int | None) -> None:
    assert matches(GOLDEN / f"memory_{page.__name__}_{width or 'unlimited'}.txt", render(page(), width))


@pytest.mark.parametrize("width", range(40, 130, 7))
def test_no_line_is_too_wide_but_for_words_that_are(width: int) -> None:
    lines = render(everything(), width).splitlines()
    assert max(len(line) for line in lines[:-1]) <= width
    assert all(len(line) == min(width, WIDEST) for line in lines if line.startswith("["))


def test_machines_are_named_once_there_are_several() -> None:
    answer = memory(two_gpus())
    two = {**answer, "nodes": [answer["nodes"][0], {**answer["nodes"][0], "name": "there"}]}
    heads = [line.split()[0] for line in render(two).splitlines() if "gpu" in line]
    assert heads == ["here:gpu0", "here:gpu1", "there:gpu0", "there:gpu1"]
    assert "here:" not in render(answer)


def test_where_sleeping_frees_nothing_there_are_no_copies() -> None:
    text = render(memory(Cluster(sleep_frees_memory=False).model("a").asleep("a")))
    assert "Sleeping frees nothing here: no copies." in text


def test_without_a_budget_for_copies_there_is_no_bar_of_it() -> None:
    answer = memory(two_gpus())
    host = {**answer["nodes"][0]["host"], "budget_bytes": 0, "left_bytes": 0, "copies": []}
    text = render({**answer, "nodes": [{**answer["nodes"][0], "host": host}]})
    assert "None is to be had for copies of weights (policy.host_memory)" in text
    assert len([line for line in text.splitlines() if line.startswith("[")]) == 2  # of the devices


def test_before_anything_was_seen() -> None:
    assert render({"nodes": [], "astray": [], "models": []}) == "No device was seen yet."


def test_a_foreign_name_can_do_nothing_to_the_terminal() -> None:
    answer = memory(two_gpus())
    answer["nodes"][0]["devices"][1]["foreign"] = [{"pid": 1, "name": "\x1b[31mred\nnews", "memory_bytes": None}]
    assert "red news (pid 1)" in render(answer)


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([("#", 1), (".", 1)], "[####....]"),
        ([("#", 1), (".", 1000)], "[#.......]"),
        ([("#", 1), ("z", 1), ("x", 1), (".", 1000)], "[#zx.....]"),
        ([("#", 0), (".", 0)], "[]"),
        ([("#", 5), (".", 0)], "[########]"),
        ([("#", 1), ("z", 1), ("x", 1)], "[###zzzxx]"),
    ],
)
def test_a_bar_shares_out_its_cells(parts: list[tuple[str, int]], text: str) -> None:
    assert bar(parts, width=10).plain == text


def test_a_bar_of_more_parts_than_cells_is_as_wide_as_any() -> None:
    assert len(bar([("#", 1)] * 40, width=10).plain) == 10
