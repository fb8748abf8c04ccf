"""Servers that somebody else runs, through the whole of vllama: simulated engines that it did not start."""

import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.simulator.engines import launch, sse_events
from tests.waiting import wait_until

MODEL = "tiny/chat"
CLIENTS = 24


@pytest.fixture
def servers(tmp_path):
    """`servers(*flags, NAME=value)`: an engine in a session of its own."""
    running = []

    def start(*arguments, model=MODEL, **environment):
        engine = launch(tmp_path / f"server{len(running)}.log", *arguments, model=model, **environment)
        running.append(engine)
        return engine

    yield start
    for engine in running:
        engine.stop()


def manifest(*servers, balance="", models="{}"):
    listed = "".join(f"\n  - {{url: 'http://127.0.0.1:{engine.port}'{further}}}" for engine, further in servers)
    return f"models: {models}\nservers:{listed or ' []'}\nbalance: {{health_check_interval: 300ms{balance}}}\n"


def stream(server, number):
    """One client: (status, text, how it ended)."""
    body = {"model": MODEL, "stream": True, "max_tokens": 30, "messages": [{"role": "user", "content": f"n {number}"}]}
    chat = f"{server.url}/v1/chat/completions"
    with httpx.Client(trust_env=False, timeout=30) as http, http.stream("POST", chat, json=body) as answer:
        if answer.status_code != 200:
            return answer.status_code, json.loads(answer.read())["error"]["message"], "refused"
        text, end = "", "cut"
        for data in sse_events(answer):
            event = json.loads(data) if data != "[DONE]" else None
            if event is None:
                end = "done"
            elif "error" in event:
                end = "told"
            else:
                text += "".join(choice["delta"].get("content") or "" for choice in event["choices"])
        return 200, text, end


def test_one_is_killed_one_is_slow_one_refuses_and_each_client_has_one_answer(start_server, servers):
    dying = servers(VLLAMA_SIM_TOKEN_S="0.05").wait_ready()
    slow = servers(VLLAMA_SIM_TOKEN_S="0.02").wait_ready()
    refusing = servers("--max-model-len", "8").wait_ready()  # no prompt fits
    more = ", max_concurrent_requests: 4"
    file = manifest((dying, more), (slow, more), (refusing, more))
    server = start_server(file.replace("300ms", "10m"), "--simulate", "8GiB")
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(stream, server, number) for number in range(CLIENTS)]
        wait_until(lambda: dying.metric("vllm:generation_tokens_total") > 8, what="the one to be in the middle")
        os.killpg(dying.process.pid, signal.SIGKILL)
        answers = [client.result() for client in clients]
    begun = [engine.log().count("POST /v1/chat/completions") for engine in (dying, slow, refusing)]
    assert sum(begun) == CLIENTS  # whatever was begun anywhere was begun once
    kinds = [(status, end) for status, _, end in answers]
    assert kinds.count((400, "refused")) == begun[2] > 0
    assert kinds.count((200, "told")) == begun[0] > 0
    assert kinds.count((200, "done")) == begun[1] == CLIENTS - begun[0] - begun[2]
    for number, (status, text, end) in enumerate(answers):
        if status == 200:
            whole = slow.text(model=MODEL, max_tokens=30, messages=[{"role": "user", "content": f"n {number}"}])
            assert text == whole if end == "done" else whole.startswith(text)
    stats = {each["url"]: each for each in server.http.get(f"{server.url}/load-stats").json()["servers"]}
    assert [each["in_flight"] for each in stats.values()] == [0, 0, 0]
    # its 400s took nobody out, the killed one is out
    healthy = {url: each["status"] for url, each in stats.items()}
    assert list(healthy.values()) == ["unhealthy", "healthy", "healthy"]


def test_one_that_is_gone_before_it_answers_costs_nobody_an_answer(start_server, servers):
    gone, there = servers().wait_ready(), servers().wait_ready()
    server = start_server(manifest((gone, ""), (there, ""), balance=", max_retries: 1"), "--simulate", "8GiB")
    os.killpg(gone.process.pid, signal.SIGKILL)
    gone.process.wait()
    for _ in range(6):
        assert server.chat(MODEL).status_code == 200
    os.killpg(there.process.pid, signal.SIGKILL)
    there.process.wait()
    refused = wait_until(lambda: (answer := server.chat(MODEL)).status_code == 503 and answer, what="503")
    assert refused.json()["error"]["code"] == "no_server"
    assert str(there.port) in refused.json()["error"]["message"]
    assert "retry-after" in refused.headers
    health = server.http.get(f"{server.url}/health").json()
    assert (health["status"], health["healthy_servers"], health["total_servers"]) == ("degraded", 0, 2)
    assert server.phases() == {MODEL: "Lost"}


def test_servers_come_and_go_with_the_file_and_their_models_have_names(start_server, servers):
    one, other = servers().wait_ready(), servers("--api-key", "s3cret", model="org/Other-7B")
    server = start_server(manifest((one, "")), "--simulate", "8GiB", ROUTER_KEY="s3cret")
    assert server.chat("chat").json()["model"] == MODEL  # by its short name
    assert server.chat("Other-7B").status_code == 404
    other.wait_ready()
    further = ", api_key: '${ROUTER_KEY}', aliases: {big: org/Other-7B}"
    (server.config_dir / "models.yaml").write_text(manifest((one, ""), (other, further)))
    wait_until(lambda: "org/Other-7B" in server.ps(), what="the file to be read and the new server to be asked")
    answer = server.http.post(
        f"{server.url}/v1/chat/completions", headers={"authorization": "Bearer of-the-client"},
        json={"model": "big", "max_tokens": 2, "messages": [{"role": "user", "content": "hello"}]},
    )  # fmt: skip
    assert answer.json()["model"] == "org/Other-7B"
    listed = {each["id"]: each for each in server.http.get(f"{server.url}/v1/models").json()["data"]}
    assert sorted(listed) == ["big", "org/Other-7B", MODEL]
    assert listed["big"]["servers"] == [f"http://127.0.0.1:{other.port}"]
    assert f"127.0.0.1:{other.port}" in server.cli("ps").stdout
    models = server.http.get(f"{server.url}/server-models").json()
    assert models == {f"http://127.0.0.1:{one.port}": [MODEL], f"http://127.0.0.1:{other.port}": ["org/Other-7B"]}
    tags = server.http.get(f"{server.url}/api/tags").json()["models"]
    assert any(each["model"].startswith("org/Other-7B") for each in tags)
    ollama = {"model": "big", "stream": False, "messages": [{"role": "user", "content": "hello"}]}
    assert server.http.post(f"{server.url}/api/chat", json=ollama).json()["message"]["content"]
    started = server.cli("start", "big")
    assert started.returncode == 1
    assert "others run that" in " ".join(started.stderr.split())
    (server.config_dir / "models.yaml").write_text(manifest((other, further)))
    wait_until(lambda: list(server.ps()) == ["org/Other-7B"], what="the first server to be forgotten")
    assert server.chat(MODEL).status_code == 404


def test_at_capacity_requests_wait_or_are_refused_as_the_file_says(start_server, servers):
    narrow = servers(VLLAMA_SIM_TOKEN_S="0.02").wait_ready()
    file = manifest((narrow, ", max_concurrent_requests: 1"))
    server = start_server(file, "--simulate", "8GiB")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: server.chat(MODEL, max_tokens=10), range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    assert sorted(answer.headers["x-vllama-state"] for answer in answers) == ["hit", "queued", "queued", "queued"]
    (server.config_dir / "models.yaml").write_text(file.replace("balance: {", "balance: {queue: 0, "))

    def codes():
        with ThreadPoolExecutor(4) as pool:
            return sorted(pool.map(lambda _: server.chat(MODEL, max_tokens=10).status_code, range(4)))

    wait_until(lambda: codes() == [200, 429, 429, 429], what="the file to be read")


def test_neither_vllm_nor_a_gpu_is_needed_where_only_servers_are_declared(start_server, servers, tmp_path):
    theirs = servers().wait_ready()
    nowhere = {"PATH": "/usr/bin:/bin", "VLLAMA_VLLM": "/no/such/vllm", "HF_HOME": str(tmp_path)}
    server = start_server(manifest((theirs, "")), **nowhere)
    assert "vllama serves" in server.log()
    assert "on no engines of its own, only servers that others run" in server.log()
    assert server.chat(MODEL).status_code == 200
    declared = manifest((theirs, ""), models="{org/here: {memory: 1GiB}}")
    (server.config_dir / "models.yaml").write_text(declared)
    wait_until(lambda: "org/here" in server.ps(), what="the file to be read")
    answer = server.chat("org/here")
    assert (answer.status_code, "/no/such/vllm" in answer.json()["error"]["message"]) == (503, True)
    assert server.chat(MODEL).status_code == 200


def test_an_engine_here_goes_before_servers_once_it_is_ready(start_server, servers):
    theirs = servers(model="org/A").wait_ready()
    server = start_server(manifest((theirs, ""), models="{org/A: {memory: 2GiB}}"), "--simulate", "8GiB")
    answer = server.chat("org/A")
    assert (answer.status_code, answer.headers["x-vllama-state"]) == (200, "hit")
    assert server.phases() == {"org/A": "Stopped"}  # nobody waits, so nothing is started
    assert server.cli("start", "org/A").returncode == 0
    before = theirs.log().count("POST /v1/chat/completions")
    assert server.chat("org/A").status_code == 200
    assert theirs.log().count("POST /v1/chat/completions") == before == 1
