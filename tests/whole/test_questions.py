"""What a real server tells of memory, models, and what would happen, and that it happens so."""

import json
import subprocess
import sys

import pytest

from tests.waiting import wait_until
from tests.whole.server import Server
from vllama.domain.units import GIB

MODELS = """
models:
  org/a: { memory: 5GiB, aliases: [a], env: { HF_TOKEN: hf_very_secret }, auto_start: true }
  org/b: { memory: 6GiB }
  org/c: { memory: 1GiB, pin: true }
  org/huge: { memory: 50GiB }
policy: { only_declared: true }
"""


@pytest.fixture
def hog(tmp_path):
    """`hog(memory)`: another program that holds so much of the device."""
    running = []

    def begin(memory: str) -> int:
        command = [sys.executable, "-m", "vllama.simulator.hog", "--directory", str(tmp_path / "config" / "simulated")]
        running.append(subprocess.Popen([*command, "--memory", memory], stdout=subprocess.DEVNULL))
        return running[-1].pid

    yield begin
    for process in running:
        process.kill()
        process.wait()


def ask(server: Server, path: str, **params) -> dict:
    answer = server.http.get(f"{server.url}/admin/{path}", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def page(server: Server) -> dict:
    """The one device, whose sum is checked."""
    [found] = ask(server, "memory")["nodes"][0]["devices"]
    counted = sum(entry["counted_bytes"] for entry in found["engines"])
    assert found["reserve_bytes"] + found["foreign_bytes"] + counted + found["room_bytes"] == found["total_bytes"]
    return found


def test_what_is_foretold_happens_and_the_books_add_up_all_the_while(start_server):
    server = start_server(MODELS, "--simulate", "10GiB")
    wait_until(lambda: server.phases().get("org/a") == server.phases().get("org/c") == "Ready", what="both ready")
    assert {each["model"]: each["counted_bytes"] for each in page(server)["engines"]} == {
        "org/a": 5 * GIB, "org/c": GIB,
    }  # fmt: skip

    foretold = ask(server, "plan/request", model="org/b")
    assert [(step["kind"], step["model"]) for step in foretold["steps"]] == [("sleep", "org/a"), ("start", "org/b")]
    assert server.phases()["org/b"] == "Stopped"
    assert server.chat("org/b").status_code == 200
    assert server.phases() == {"org/a": "Asleep", "org/b": "Ready", "org/c": "Ready", "org/huge": "Stopped"}
    then = foretold["after"]["nodes"][0]["devices"][0]["room_bytes"]
    wait_until(lambda: page(server)["room_bytes"] == then, what="the room that was foretold")

    memory = ask(server, "memory")
    assert [copy["model"] for copy in memory["nodes"][0]["host"]["copies"]] == ["org/a"]
    sources = {each["model"]: each["sources"] for each in memory["models"]}
    assert sources["org/a"]["sleep_s"] == sources["org/a"]["asleep_bytes"] == "measured"
    again = ask(server, "plan/request", model="org/a")
    assert [(step["kind"], step["model"], step["takes"]["assumed"]) for step in again["steps"]][-1:] == [
        ("wake", "org/a", True)
    ]  # fmt: skip

    [refused] = ask(server, "plan/request", model="org/huge")["asked"]
    assert (refused["outcome"], refused["message"]) == (
        "refused",
        "Needs 50.0 GiB; gpu0 has 10.0 GiB - 1.0 GiB of pinned org/c = 9.0 GiB.",
    )
    matrix = ask(server, "plan/matrix")
    assert matrix["pairs"] == [{"a": "org/a", "b": "org/b", "together": "no"}]
    assert (matrix["pinned"], set(matrix["never"])) == (["org/c"], {"org/huge"})


def test_a_model_and_another_program_are_shown(start_server, hog):
    server = start_server(MODELS, "--simulate", "10GiB")
    wait_until(lambda: server.phases().get("org/a") == "Ready", what="ready")
    card = ask(server, "models/a")
    assert (card["model"], card["status"]["phase"], card["tasks"]) == ("org/a", "Ready", ["generate"])
    assert card["command"]["env"]["HF_TOKEN"] == "***"
    assert str(card["engine"]["port"]) in card["command"]["argv"]
    assert "loadDone" in {event["reason"] for event in card["lately"]}

    pid = hog("1GiB")
    wait_until(lambda: page(server)["foreign"], what="the other program is seen")
    assert page(server)["foreign"][0]["pid"] == pid
    assert f"(pid {pid}) 1.0 GiB" in server.cli("memory").stdout
    shown = server.cli("show", "a")
    assert (shown.returncode, "hf_very_secret" in shown.stdout) == (0, False)
    assert "\nWould be started as\n" in shown.stdout


def test_a_change_of_models_yaml_is_foretold_and_happens_so(start_server):
    models = "models:\n  org/a: {memory: 5GiB, auto_start: true}\n  org/b: {memory: 4GiB}\n"
    server = start_server(models, "--simulate", "10GiB")
    wait_until(lambda: server.phases().get("org/a") == "Ready", what="ready")
    pid = server.ps()["org/a"]["pid"]
    change = ["assign", "org/a", "--set", "memory=7GiB", "--config-dir", str(server.config_dir)]
    told = server.cli(*change, "--dry-run", "-o", "json")
    answer = json.loads(told.stdout)
    foretold = [
        (decision["action"]["verb"], decision["model"])
        for plan in answer["foreseen"]["plans"] for decision in plan["decisions"] if decision["action"]
    ]  # fmt: skip
    assert foretold == [("stop", "org/a"), ("start", "org/a")], told.stderr
    assert [answer["foreseen"][when]["awake_bytes"] for when in ("before", "after")] == [5 * GIB, 7 * GIB]
    assert server.ps()["org/a"]["pid"] == pid  # asking changed nothing

    assert server.cli(*change).returncode == 0
    wait_until(lambda: server.ps()["org/a"]["pid"] not in {None, pid}, what="another engine")
    wait_until(lambda: server.phases()["org/a"] == "Ready", what="ready again")
    assert server.ps()["org/a"]["memory_bytes"] == 7 * GIB
    wrong = server.http.post(f"{server.url}/admin/plan/suppose", json={"model": "a", "new_engine": True, "env": {}})
    assert (wrong.status_code, "env" in wrong.text) == (400, True), wrong.text
