"""logs and events, as typed; and the log of the server itself."""

import json
import logging
from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import pytest
import structlog
from typer.testing import Result

from tests.cli.answers import a_running
from tests.cli.golden import matches
from tests.cli.pages import everything
from tests.cli.render.test_servers import the_answer
from tests.cli.scripted import ScriptedServer
from vllama.cli.logging import LogSettings, configure, to_file
from vllama.cli.render.events import render_event
from vllama.runtime.local.runtime import log_name

Vllama = Callable[..., Result]
GOLDEN = Path(__file__).parent / "render" / "golden"

MESSAGE = "Unused for 3m; sleeping at level 1 frees 3.1 GiB for org/c.\n\x1b[31mred\x1b[0m"
EVENTS = [
    {"number": 7, "at": "2025-11-03T11:59:51Z", "model": None, "reason": "Reloaded", "message": "2 models.",
     "warning": False},
    {"number": 8, "at": "2025-11-03T12:00:01Z", "model": "mistralai/Mistral-Small-3.2-24B-Instruct-2506-AWQ",
     "reason": "Evicted", "message": MESSAGE, "warning": False},
    {"number": 9, "at": "2025-11-03T12:00:02Z", "model": "org/a", "reason": "Crashed",
     "message": "ValueError: No available memory for the cache blocks.", "warning": True},
]  # fmt: skip


def test_logs_of_a_server(vllama: Vllama, server: ScriptedServer) -> None:
    server.pages = {"/admin/models/a/logs?tail=2": "two\nthree\n", "/admin/models/a/logs?tail=2&follow=1": "x\ny\n"}
    assert vllama("logs", "a", "-n", "2", "--server", server.url).stdout == "two\nthree\n"
    assert json.loads(vllama("logs", "a", "-n", "2", "-o", "json", "--server", server.url).stdout) == ["two", "three"]
    assert vllama("logs", "-f", "a", "-n", "2", "--server", server.url).stdout == "x\ny\n"
    server.pages["/admin/models/a/logs?tail=2&replica=3"] = "z\n"
    assert vllama("logs", "a", "-n", "2", "--replica", "3", "--server", server.url).stdout == "z\n"
    assert vllama("logs", "-f", "a", "-n", "2", "-o", "json", "--server", server.url).stdout == '"x"\n"y"\n'


def test_a_line_of_a_log_does_not_act_on_the_terminal(vllama: Vllama, tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("models: {org/a: {}}")
    (tmp_path / "logs").mkdir()
    said = "\x1b[31mred\x1b[0m\tprompt \x1b]0;title\x07 caf\u00e9\n"
    (tmp_path / "logs" / log_name("org/a")).write_text(said)
    shown = vllama("logs", "a", "--config-dir", tmp_path).stdout
    assert shown == "red\tprompt \ufffd]0;title\ufffd caf\u00e9\n"


def test_logs_without_a_server_are_read_from_the_file(vllama: Vllama, tmp_path: Path) -> None:
    (tmp_path / "models.yaml").write_text("models: {org/a: {aliases: [small]}}")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / log_name("org/a")).write_text("one\ntwo\nthree\n")
    for name in ("org/a", "a", "small"):
        assert vllama("logs", name, "-n", "2", "--config-dir", tmp_path).stdout == "two\nthree\n"
    result = vllama("logs", "nobody", "--config-dir", tmp_path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no engine of nobody has written a log" in result.stderr


def test_a_server_that_is_named_and_away_is_not_replaced_by_a_file(vllama: Vllama, tmp_path: Path) -> None:
    assert vllama("logs", "a", "--server", "http://127.0.0.1:1", "--config-dir", tmp_path).exit_code == 3


def test_events(vllama: Vllama, server: ScriptedServer) -> None:
    server.pages = {
        "/admin/events?limit=50": {"events": EVENTS}, "/admin/events?model=a&limit=1": {"events": EVENTS[2:]},
        "/admin/events?limit=50&follow=1": "".join(f"{json.dumps(event)}\n" for event in EVENTS),
        "/admin/events?model=b&limit=50": {"events": []},
    }  # fmt: skip
    assert "Crashed: ValueError" in vllama("events", "--server", server.url).stdout.splitlines()[2]
    assert json.loads(vllama("events", "a", "-n", "1", "-o", "json", "--server", server.url).stdout) == EVENTS[2:]
    assert len(vllama("events", "-f", "--server", server.url).stdout.splitlines()) == 3
    followed = vllama("events", "-f", "-o", "json", "--server", server.url).stdout
    assert [json.loads(line) for line in followed.splitlines()] == EVENTS
    assert vllama("events", "b", "--server", server.url).stdout == "Nothing has happened to b yet.\n"


@pytest.mark.parametrize("columns", [80, 120])
def test_events_read_as_their_golden_file(columns: int) -> None:
    text = "\n".join(render_event(event, zone=UTC, columns=columns).plain for event in EVENTS)
    assert max(map(len, text.splitlines())) <= columns
    assert matches(GOLDEN / f"events_{columns}.txt", text)


@pytest.fixture
def logging_as_before():
    before = structlog.get_config()
    yield
    structlog.configure(**before)
    logging.getLogger("vllama").handlers = []


@pytest.mark.usefixtures("logging_as_before")
def test_the_file_has_its_own_level_and_the_screen_its_own_format(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = LogSettings(level="warning", file_level="debug", format="console")
    configure(settings)
    stop = to_file(tmp_path / "logs" / "vllama.log", settings)
    log = structlog.get_logger("vllama")
    log.debug("Detail", model="org/a")
    log.warning("Crashed", model="org/a")
    try:
        int("boom")
    except ValueError:
        log.exception("PassFailed")
    stop()
    lines = [json.loads(line) for line in (tmp_path / "logs" / "vllama.log").read_text().splitlines()]
    assert [(line["event"], line["level"]) for line in lines] == [
        ("Detail", "debug"), ("Crashed", "warning"), ("PassFailed", "error"),
    ]  # fmt: skip
    assert "ValueError: invalid literal" in lines[2]["exception"]
    said = capsys.readouterr().err
    assert "Detail" not in said
    assert "Crashed" in said
    assert not said.startswith("{")


@pytest.mark.usefixtures("logging_as_before")
def test_the_file_is_rotated(tmp_path: Path) -> None:
    settings = LogSettings(level="error", max_size_mb=1, backup_count=1)
    configure(settings)
    stop = to_file(tmp_path / "vllama.log", settings)
    for _ in range(3):
        structlog.get_logger("vllama").info("Filler", message="x" * 700_000)
    stop()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["vllama.log", "vllama.log.1"]
    assert all(entry.stat().st_size <= settings.max_bytes for entry in tmp_path.iterdir())


def test_top_is_one_look_where_there_is_no_terminal(vllama: Vllama, server: ScriptedServer) -> None:
    server.statuses = [[a_running("org/a")]]
    server.pages = {
        "/admin/events?limit=6": {"events": EVENTS}, "/admin/memory": everything(), "/load-stats": the_answer(),
    }  # fmt: skip
    lines = vllama("top", "--server", server.url).stdout.splitlines()
    assert lines[1].startswith("org/a  Ready")
    assert lines[3].startswith("SERVER")
    assert lines[10].endswith("Reloaded: 2 models.")
    assert any(line.startswith("gpu0") for line in lines)
    answer = json.loads(vllama("top", "-o", "json", "--server", server.url).stdout)
    assert set(answer) == {"status", "servers", "memory", "events"}
