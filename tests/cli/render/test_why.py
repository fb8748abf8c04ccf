"""`vllama why` over the planner's own answers."""

from datetime import UTC
from pathlib import Path
from typing import Any

import pytest

from tests.cli.golden import matches
from tests.planner.cluster import NOW, Cluster
from vllama.cli.render.why import render_why
from vllama.controller.history import History
from vllama.controller.why import why
from vllama.domain.observed import Crashes
from vllama.gateway.explain import why_json
from vllama.planner import plan
from vllama.planner.evidence import evidence_of, needs_evidence

GOLDEN = Path(__file__).parent / "golden"
AT = 1.7622e9


def answer(model: str, *scenes: Cluster) -> dict[str, Any]:
    """Of the last scene, with the decisions of all of them remembered, a minute apart."""
    clock = iter(AT + 60.0 * number for number in range(1000))
    history = History(wall=lambda: next(clock))
    for scene in scenes:
        desired, snapshot = scene.states()
        news = history.note(plan(desired, snapshot, NOW), {}, ())
        for decisions, evidence in evidence_of(desired, snapshot, NOW, [each for each in news if needs_evidence(each)]):
            history.keep(decisions, evidence)
        if plain := [each for each in news if not needs_evidence(each)]:
            history.keep(plain)
    return {
        "model": model,
        "engines": [why_json(each) for each in why(desired, snapshot, NOW, [model], [history.decisions_of(model)])],
    }


def crowd() -> Cluster:
    return (
        Cluster(gpus=(24.0, 24.0), reserve=0.5, foreign={1: 1.5})
        .model("Qwen/Qwen3-8B", 18.0).model("meta-llama/Llama-3.1-8B-Instruct", 17.5)
        .model("mistralai/Mistral-7B-Instruct-v0.3", 16.0).model("org/small", 4.0)
    )  # fmt: skip


def waiting() -> dict[str, Any]:
    first = (
        crowd().engine("Qwen/Qwen3-8B", 0).busy("meta-llama/Llama-3.1-8B-Instruct", 1, requests=3)
        .waits("mistralai/Mistral-7B-Instruct-v0.3", since=0.5)
    )  # fmt: skip
    then = (
        crowd().busy("Qwen/Qwen3-8B", 0, requests=2).busy("meta-llama/Llama-3.1-8B-Instruct", 1, requests=3)
        .waits("org/small", since=21.0, requests=4).waits("mistralai/Mistral-7B-Instruct-v0.3", since=12.0)
    )  # fmt: skip
    return answer("mistralai/Mistral-7B-Instruct-v0.3", crowd(), first, then)


def evicted() -> dict[str, Any]:
    cluster = crowd().engine("Qwen/Qwen3-8B", 0).engine("meta-llama/Llama-3.1-8B-Instruct", 1, unused=30.0)
    return answer("Qwen/Qwen3-8B", cluster, cluster.waits("mistralai/Mistral-7B-Instruct-v0.3", since=1.0))


def failed() -> dict[str, Any]:
    cluster = crowd().waits("org/small")
    cluster.unknown = {1}
    cluster.crashes["org/small"] = Crashes(count=3, last_at=NOW - 12.0, cause="ValueError: No available memory")
    return answer("org/small", cluster)


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("scene", [waiting, evicted, failed])
def test_why_reads_as_its_golden_file(scene: Any, width: int) -> None:
    text = render_why(scene(), zone=UTC, width=width).plain
    assert matches(GOLDEN / f"why_{scene.__name__}_{width}.txt", text)
    assert max(map(len, text.splitlines())) <= width


def test_nothing_is_cut_where_there_is_no_terminal() -> None:
    text = render_why(waiting(), zone=UTC, width=None).plain
    assert "mistralai/Mistral-7B-Instruct-v0.3" in text
    assert "…" not in text


def test_what_was_kept_of_a_large_case_is_called_a_part() -> None:
    said = waiting()
    assert "in part: " not in render_why(said, zone=UTC, width=None).plain
    said["engines"][0]["decisions"][0]["whole"] = False
    assert "in part: gpu0: 16.0 GiB needed" in render_why(said, zone=UTC, width=None).plain


def test_where_there_are_several_machines_each_device_is_said_with_its_own() -> None:
    told = waiting()
    text = render_why(told, zone=UTC, width=None, several_nodes=True).plain
    assert "  gpu0 of here: 24.0 GiB - " in text
    assert "gpu0: " not in text
    assert " of here" not in render_why(told, zone=UTC, width=None).plain
