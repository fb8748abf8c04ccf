from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.cli.answers import GIB, a_running, a_status, an_answer
from tests.cli.golden import matches
from vllama.cli.render.ps import COLUMNS, DROPPED_FIRST, render_ps

GOLDEN = Path(__file__).parent / "golden"
NOW = datetime(2025, 11, 3, 12, 0, 0, tzinfo=UTC)

BROKEN_FILE = {
    "type": "ManifestValid",
    "ok": False,
    "reason": "Invalid",
    "message": "models.yaml line 12: unknown key 'alias', did you mean 'aliases'? (the last good file stays in force)",
}
FINE = {"type": "DevicesSeen", "ok": True, "reason": "Read", "message": "Devices and engines are observed."}
BUSY = an_answer(
    a_running("Qwen/Qwen3-0.6B", in_flight=2, waiting=0, reason="Serving"),
    a_running("Qwen/Qwen3-Embedding-0.6B", "Asleep", sleep_level=1, memory_bytes=int(1.3 * GIB), reason="Sleeping"),
    a_running(
        "meta-llama/Llama-3.3-70B-Instruct", "Starting", devices=[0, 1], memory_bytes=36 * GIB, waiting=14,
        reason="Starting", pid=1234567, port=33302, last_used=None,
    ),
    a_status("org/d", reason="CannotFit", message="Needs 30.0 GiB; gpu0 has 24.0 GiB."),
    *(a_status(f"cached/{n}", declared=False) for n in range(12)),
    conditions=(FINE, BROKEN_FILE),
)  # fmt: skip


def render(answer: dict[str, Any], width: int | None = None, *, show_all: bool = False) -> str:
    return render_ps(answer, now=NOW, width=width, show_all=show_all).plain


@pytest.mark.parametrize("width", [40, 80, 120, None])
def test_the_table_reads_as_its_golden_file(width: int | None) -> None:
    assert matches(GOLDEN / f"ps_busy_{width or 'unlimited'}.txt", render(BUSY, width))


def test_all_shows_the_cached_models_too() -> None:
    text = render(BUSY, show_all=True)
    assert text.count("cached/") == 12
    assert "--all" not in text


def test_a_cached_model_that_runs_or_has_something_to_say_is_shown() -> None:
    text = render(
        an_answer(
            a_running("cached/runs", declared=False),
            a_status("cached/refused", declared=False, reason="CannotFit", message="Needs too much."),
            a_status("cached/quiet", declared=False),
        )
    )
    assert "cached/runs" in text
    assert "cached/refused" in text
    assert text.endswith("\n\n1 more model in the model cache, stopped; --all shows it.")


def test_without_any_model_it_says_how_to_get_one() -> None:
    assert render(an_answer()) == "No models yet: declare one in models.yaml, or put one into the model cache."
    assert render(an_answer(a_status(declared=False))) == "1 model in the model cache, stopped; --all shows it."


def test_a_condition_that_is_fine_is_silent_and_each_problem_has_its_line() -> None:
    two = {**BROKEN_FILE, "message": "models.yaml:1: first\nmodels.yaml:2: second"}
    text = render(an_answer(conditions=(FINE, two)))
    assert text.splitlines()[:3] == ["! models.yaml:1: first", "! models.yaml:2: second", ""]


@pytest.mark.parametrize("width", range(22, 140))
@pytest.mark.parametrize("nodes", [["here"], ["here", "there"]])
def test_columns_go_in_the_stated_order_and_no_row_is_too_wide(width: int, nodes: list[str]) -> None:
    models = an_answer(*BUSY["models"]) | {"nodes": nodes}
    lines = render(models, width).splitlines()[:-2]
    assert all(len(line) <= width for line in lines)
    kept = [name for name in COLUMNS if name in lines[0]]
    order = [name for name in DROPPED_FIRST if name != "NODE" or len(nodes) > 1]
    gone = [name for name in order if name not in kept]
    assert gone == order[: len(gone)]
    assert kept[0] == "MODEL"


def test_a_name_that_alone_is_too_wide_is_cut_and_not_wrapped() -> None:
    text = render(an_answer(a_running("org/" + "x" * 90)), 60)
    assert len(text.splitlines()) == 2
    assert "…  Ready" in text


def test_nodes_are_named_once_there_are_several() -> None:
    further = [{"node": "right", "devices": [2, 3]}]
    models = (
        a_running("org/a", node="left"), a_running("org/b", node="left", devices=[0, 1], further=further), a_status(),
    )  # fmt: skip
    lines = render(an_answer(*models) | {"nodes": ["left", "right"]}).splitlines()
    assert lines[0].split()[:4] == ["MODEL", "PHASE", "NODE", "DEVICES"]
    assert [line.split()[2] for line in lines[1:]] == ["left", "left,right", "-"]
    assert "left,right  gpu0,gpu1 + gpu2,gpu3  " in lines[2]
    assert "NODE" not in render(an_answer(a_running("org/a", node="left")))
    assert "NODE" in render(an_answer(a_running("org/a", node="left"), a_running("org/b", node="right")))


@pytest.mark.parametrize(
    ("last_used", "shown"),
    [
        ("2025-11-03T12:00:00+00:00", "now"),
        ("2025-11-03T12:00:03Z", "now"),
        ("2025-11-03T11:59:18.200000Z", "41s ago"),
        ("2025-11-03T11:57:01Z", "2m ago"),
        ("2025-11-03T13:00:00+02:00", "1h ago"),
        ("2025-10-30T11:00:00Z", "4d ago"),
    ],
)
def test_last_used_is_told_in_one_unit(last_used: str, shown: str) -> None:
    assert f"  {shown}  " in render(an_answer(a_running("org/a", last_used=last_used)))


def test_what_is_in_flight_is_used_now() -> None:
    assert "  now  " in render(an_answer(a_running("org/a", in_flight=1, last_used="2025-11-03T11:00:00Z")))
