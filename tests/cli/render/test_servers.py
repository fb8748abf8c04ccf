from pathlib import Path
from typing import Any

import pytest

from tests.cli.golden import matches
from vllama.cli.render.servers import render_servers
from vllama.controller.servers.status import ServerStatus
from vllama.engine.load import EngineLoad
from vllama.gateway.servers import load_json

GOLDEN = Path(__file__).parent / "golden"


def a_server(number: int, **over: Any) -> ServerStatus:
    told: dict[str, Any] = {
        "url": f"http://gpu-server-{number}:8081", "wrong": None, "models": ("org/a", "org/b"), "models_at": 0.0,
        "in_flight": 1, "capacity": 10, "load": EngineLoad(running=1, waiting=0, kv_cache_usage=0.25), "load_at": 0.0,
        "checked_at": 0.0, "checks": 9, "failed_checks": 0, "success_rate": 1.0, "mean_s": 0.1, "last_s": 0.1,
    }  # fmt: skip
    return ServerStatus(**(told | over))


def the_answer() -> dict[str, Any]:
    busy = EngineLoad(running=10, waiting=4, kv_cache_usage=0.99)
    many = tuple(f"organisation/model-{n}" for n in range(9))
    return load_json(
        [
            a_server(1),
            a_server(2, load=busy, models=many),
            a_server(3, load=None, in_flight=7),
            a_server(4, wrong="nobody listens there", load=None, models=()),
        ]
    )


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_table_reads_as_its_golden_file(width: int) -> None:
    shown = render_servers(the_answer(), width=width)
    assert max(len(line) for line in shown.plain.splitlines()) <= width
    assert matches(GOLDEN / f"servers_{width}.txt", shown.plain)


def test_the_colour_says_how_full_and_a_line_through_it_that_it_is_not_well() -> None:
    shown = render_servers(the_answer(), width=120)
    assert [str(span.style) for span in shown.spans] == ["bold", "green", "red", "yellow", "strike", "red"]
