"""The operator's commands against a real server."""

import json
import signal

from tests.waiting import wait_until

TWO = """
models:
  org/late:  {memory: 3GiB, auto_start: true}
  org/first: {memory: 3GiB, auto_start: true, priority: 5}
"""


def events(server, reason):
    """The models of the log's lines with this event, in order."""
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [line.get("model") for line in lines if line["event"] == reason]


def test_auto_start_keeps_nobody_from_the_port_and_goes_by_priority(start_server):
    server = start_server(TWO, "--simulate", "8GiB", VLLAMA_SIM_LOAD_S="1")
    assert server.phases() != {"org/first": "Ready", "org/late": "Ready"}  # it answers already
    wait_until(lambda: server.phases() == {"org/first": "Ready", "org/late": "Ready"}, deadline_s=40, what="both ready")
    assert events(server, "Demanded")[:2] == ["org/first", "org/late"]


def test_restart_reload_and_warm_up(start_server):
    server = start_server("models: {org/a: {memory: 3GiB}}", "--simulate", "8GiB")
    warm = server.cli("warm-up", "a")
    assert (warm.returncode, warm.stdout.splitlines()[-1]) == (0, "1 of 1 warmed up."), warm.stderr
    assert server.phases() == {"org/a": "Asleep"}
    assert server.cli("start", "a").returncode == 0
    pid = server.ps()["org/a"]["pid"]
    done = server.cli("restart", "a", "-o", "json")
    assert (done.returncode, json.loads(done.stdout)["phase"]) == (0, "Ready"), done.stderr
    assert json.loads(done.stdout)["pid"] != pid

    file = server.config_dir / "models.yaml"
    file.write_text("models: {org/a: {memory: 3GiB}, org/b: {memory: 1GiB}}")
    done = server.cli("reload", "-o", "json")
    assert json.loads(done.stdout)["models"] == ["org/a", "org/b"]
    file.write_text("models: {org/a: {memry: 3GiB}}")
    done = server.cli("reload")
    assert (done.returncode, "memry" in done.stderr) == (1, True)
    assert set(server.ps()) == {"org/a", "org/b"}

    said = len(events(server, "Reloaded"))
    server.process.send_signal(signal.SIGHUP)
    wait_until(lambda: len(events(server, "Reloaded")) == said + 1, what="SIGHUP reloads")
    assert server.ps()["org/a"]["phase"] == "Ready"


def test_events_logs_and_the_servers_own_log(start_server):
    server = start_server(
        "models: {org/a: {memory: 3GiB, aliases: [small]}}", "--simulate", "8GiB", VLLAMA_LOG_MAX_SIZE="1"
    )
    server.cli("start", "a")
    found = json.loads(server.cli("events", "small", "-o", "json").stdout)
    assert "Demanded" in [event["reason"] for event in found]
    assert server.cli("logs", "small").stdout.startswith("--- vllama: engine ")
    log = next((server.config_dir / "logs").glob("a-*.log"), None) or next(
        path for path in (server.config_dir / "logs").glob("*.log") if path.name != "vllama.log"
    )
    with log.open("ab") as engine:
        engine.write(b"filler\n" * 200_000)
    wait_until(lambda: log.stat().st_size < 1 << 20, what="the log under its bound")
    assert log.with_name(log.name + ".1").stat().st_size >= 1 << 20
    assert server.chat("org/a").status_code == 200
    with server.http.stream("GET", f"{server.url}/admin/events?follow=1") as stream:
        assert server.terminate() == 0  # whoever follows does not keep it
        assert stream.read()
    lines = (server.config_dir / "logs" / "vllama.log").read_text().splitlines()
    assert "Demanded" in [json.loads(line)["event"] for line in lines]


def test_scripts_of_the_older_tool_go_on_working(start_server):
    server = start_server("models: {org/a: {memory: 3GiB}}", "--simulate", "8GiB", VLLAMA_OFFLINE_MODE="true")

    def post(path):
        answer = server.http.post(f"{server.url}{path}")
        return answer.status_code, answer.json()

    code, started = post("/instances/org/a/start")
    assert (code, started["status"], started["port"]) == (200, "success", server.ps()["org/a"]["port"])
    (one,) = server.http.get(f"{server.url}/instances").json()["instances"]
    assert (one["status"], one["pid"]) == ("running", started["pid"])
    assert one["start_time"] > 1.7e9
    assert one["gpu_memory_info"]["0"]["totalGpuMemory"] == 8 << 30
    assert post("/instances/a/sleep?level=1") == (200, {"status": "success", "model_id": "org/a", "level": 1})
    assert server.http.get(f"{server.url}/instances").json()["instances"][0]["status"] == "sleeping_l1"
    assert post("/instances/a/stop") == (200, {"status": "success", "model_id": "org/a"})
    assert server.phases() == {"org/a": "Stopped"}
    assert post("/reload") == (200, {"status": "success", "models_count": 1, "offline_mode": True})


def test_a_change_of_a_config_file_restarts_its_engine_alone(start_server, tmp_path):
    (tmp_path / "config").mkdir()
    flags = tmp_path / "config" / "flags.yaml"
    flags.write_text("max-model-len: 2048\n")
    models = "models:\n  a: { memory: 1GiB, pin: true, config_file: flags.yaml }\n  b: { memory: 1GiB, pin: true }\n"
    server = start_server(models, "--simulate", "8GiB")

    def pids():
        return {model: status["pid"] for model, status in server.ps().items() if status["phase"] == "Ready"}

    wait_until(lambda: set(pids()) == {"a", "b"}, what="both ready")
    before = pids()
    assert server.http.get(f"{server.url}/admin/models/a").json()["command"]["argv"].count("--config") == 1
    flags.write_text("max-model-len: 1024\nport: 1\n")

    def said():
        return "".join(each["message"] for each in server.http.get(f"{server.url}/admin/status").json()["conditions"])

    wait_until(lambda: "flags.yaml:2: the file: 'port' is not allowed" in said(), what="a complaint")
    flags.write_text("max-model-len: 1024\n")
    wait_until(lambda: pids().get("a", before["a"]) != before["a"], what="a new engine of a")
    assert pids()["b"] == before["b"]
    assert server.chat("a").status_code == 200


def test_a_start_that_is_asked_for_while_the_engine_goes_down_is_not_forgotten(start_server):
    server = start_server("models: {org/a: {memory: 1GiB, env: {VLLAMA_SIM_FAULTS: ignore_sigterm}}}\n"
                          "policy: {stop_deadline: 1s}", "--simulate", "8GiB")  # fmt: skip
    assert server.chat("org/a").status_code == 200
    pid = server.ps()["org/a"]["pid"]
    server.act("stop", "org/a")
    wait_until(lambda: server.phases()["org/a"] == "Stopping", what="it to go down")
    server.act("start", "org/a")
    wait_until(lambda: server.ps()["org/a"]["pid"] not in {pid, None}, what="it to come back")
    wait_until(lambda: server.phases()["org/a"] == "Ready", what="it to be ready again")


def test_what_was_ready_comes_back_with_its_new_settings(start_server):
    server = start_server("models: {org/a: {memory: 1GiB}}", "--simulate", "8GiB")
    assert server.chat("org/a").status_code == 200
    pid = server.ps()["org/a"]["pid"]
    (server.config_dir / "models.yaml").write_text("models: {org/a: {memory: 2GiB}}")
    server.http.post(f"{server.url}/admin/reload").raise_for_status()
    wait_until(lambda: server.ps()["org/a"]["pid"] not in {pid, None}, what="another engine")
    wait_until(lambda: server.phases()["org/a"] == "Ready", what="it to be ready again")
    assert server.ps()["org/a"]["memory_bytes"] == 2 << 30
