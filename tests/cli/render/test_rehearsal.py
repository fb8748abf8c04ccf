from pathlib import Path
from typing import Any

import pytest

from tests.cli.golden import matches
from tests.cli.pages import calling, swap, two_gpus, waits
from tests.planner.cluster import NOW, Cluster
from vllama.cli.render.rehearsal import render_rehearsal
from vllama.cli.render.words import span
from vllama.domain.demand import WantStopped
from vllama.domain.observed import Loading

GOLDEN = Path(__file__).parent / "golden"


def render(answer: dict[str, Any], width: int | None = None) -> str:
    return render_rehearsal(answer, width=width).plain


@pytest.mark.parametrize("width", [80, 100, 120, None])
@pytest.mark.parametrize("story", [swap, waits], ids=["swap", "waits"])
def test_a_story_reads_as_its_golden_file(story: Any, width: int | None) -> None:
    assert matches(GOLDEN / f"request_{story.__name__}_{width or 'unlimited'}.txt", render(story(), width))


def test_a_model_that_is_ready_has_no_story() -> None:
    text = render(calling(Cluster().model("a").engine("a"), "a"))
    assert text == "If somebody called a now\n\na is ready: the request would be let in at once."


def test_what_nothing_can_be_foreseen_of() -> None:
    text = render(calling(Cluster(unknown={0}).model("a"), "a"))
    assert "a would wait, nobody knows for how long: DeviceUnknown: gpu0" in text


def test_what_would_happen_anyway_says_so() -> None:
    cluster = Cluster((8.0, 8.0)).model("a").model("z").engine("z", 1).orders("z", WantStopped(at=NOW - 1))
    assert "Stopped by an operator. It would happen anyway." in render(calling(cluster, "a"))


def test_a_load_under_way() -> None:
    cluster = Cluster().model("a", 5.0).model("c", 6.0).engine("a", state=Loading(progress_at=NOW), unused=5.0)
    cluster.waits("a", since=5.0)
    assert "  … a  Starting -> Ready  gpu0, at once, takes ~31s\n      It loads since 5.0s." in render(
        calling(cluster, "c")
    )


@pytest.mark.parametrize("width", [60, 72, 90, 110])
def test_no_line_is_too_wide(width: int) -> None:
    for answer in (swap(), waits(), calling(two_gpus(), "Qwen/Qwen3-8B")):
        assert max(map(len, render(answer, width).splitlines())) <= width


@pytest.mark.parametrize(
    ("seconds", "assumed", "unknown", "said"),
    [
        (3.14, False, False, "3.1s"),
        (35.4, True, False, "~35s"),
        (3.0, False, True, "at least 3.0s"),
        (0.0, True, True, "an unknown time"),
    ],
)
def test_a_length_of_time(seconds: float, assumed: bool, unknown: bool, said: str) -> None:
    assert span({"seconds": seconds, "assumed": assumed, "unknown": unknown}) == said


def test_where_there_are_several_machines_each_step_says_on_which() -> None:
    """`a` makes room for `b`, which may be on this machine only; without the others nothing is said of machines."""

    def story(node: str | None, **more: Any) -> str:
        return render(calling(Cluster(**more).model("a", 5.0).model("b", 6.0, node=node).engine("a"), "b"))

    text = story("here", more={"there": (2.0,)})
    assert "~ a  Ready -> Asleep  gpu0 of here at level 1, at once" in text
    assert "+ b  Stopped -> Ready  gpu0 of here, after" in text
    assert " of here" not in story(None)
