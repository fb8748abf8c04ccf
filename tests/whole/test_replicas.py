"""Several engines of one model: real processes on two made-up devices."""

import asyncio
import os
import signal

from tests.waiting import wait_until
from tests.whole.crowd import crowd
from tests.whole.server import serve

TWO = """
models:
  org/A: { memory: 20GiB, replicas: 2, aliases: [a] }
  org/B: { memory: 20GiB }
"""


def test_replicas_share_the_requests_and_one_that_dies_takes_none_with_it_but_its_own(start_server):
    server = start_server(TWO, "--simulate", "2x24GiB", VLLAMA_SIM_TOKEN_S="0.1")
    assert server.chat("a").json()["model"] == "org/A"
    wait_until(lambda: server.phases()["org/A#2"] == "Ready", what="the second engine")
    first, second = server.ps()["org/A"], server.ps()["org/A#2"]
    assert (first["replica"], second["replica"], second["replica_of"]) == (1, 2, "org/A")
    assert sorted([first["devices"], second["devices"]]) == [[0], [1]]
    assert [each["id"] for each in server.http.get(f"{server.url}/v1/models").json()["data"]] == ["org/A", "a", "org/B"]

    async def sixty_four(clients):
        await clients.ask(64, {"model": "org/A", "prompt": "hello", "max_tokens": 60, "stream": True})
        await clients.until("org/A", in_flight=32)
        await clients.until("org/A#2", in_flight=32)
        os.kill(second["pid"], signal.SIGKILL)
        await clients.until("org/A#2", in_flight=0)
        assert (await asyncio.to_thread(server.chat, "org/A")).status_code == 200
        answers = [answer.body for answer in await clients.answers()]
        whole = sum(b"data: [DONE]" in body and b'"error"' not in body for body in answers)
        assert whole >= 32  # what the dead one had not begun to answer was asked of the other
        assert sum(b'"error"' in body for body in answers) == 64 - whole

    crowd(server, sixty_four)
    wait_until(lambda: server.ps()["org/A#2"]["pid"] not in {None, second["pid"]}, what="another second engine")
    said = server.cli("logs", "org/A", "--replica", "2").stdout
    assert "of org/A#2" in said
    assert "of org/A#2" not in server.cli("logs", "org/A").stdout
    told = server.http.get(f"{server.url}/metrics/engines").text
    assert 'vllama_engine_up{model="org/A"} ' in told
    lines = [line.rpartition(" ")[0] for line in told.splitlines() if line.startswith("vllm:")]
    assert len(lines) == len(set(lines))


def test_a_further_engine_makes_room_first_and_displaces_nobody(start_server):
    server = start_server(TWO, "--simulate", "2x24GiB")
    server.chat("org/A")
    wait_until(lambda: server.phases()["org/A#2"] == "Ready", what="the second engine")
    assert server.chat("org/B").status_code == 200
    assert server.phases() == {"org/A": "Ready", "org/A#2": "Asleep", "org/B": "Ready"}
    assert server.chat("org/A").headers["x-vllama-state"] == "hit"
    assert server.phases() == {"org/A": "Ready", "org/A#2": "Asleep", "org/B": "Ready"}
    assert server.cli("stop", "org/A").returncode == 0
    assert server.phases() == {"org/A": "Stopped", "org/A#2": "Stopped", "org/B": "Ready"}


def test_both_are_taken_up_by_the_next_manager_and_the_second_goes_when_one_is_enough(start_server):
    server = start_server(TWO, "--simulate", "2x24GiB")
    server.chat("org/A")
    wait_until(lambda: server.phases()["org/A#2"] == "Ready", what="the second engine")
    before = {name: each["pid"] for name, each in server.ps().items()}
    server.process.kill()
    server.process.wait()
    again = serve(server.config_dir, TWO, "--simulate", "2x24GiB")
    try:
        wait_until(lambda: again.phases()["org/A#2"] == "Ready", what="the second engine to be found")
        assert {name: each["pid"] for name, each in again.ps().items()} == before
        (again.config_dir / "models.yaml").write_text(TWO.replace("replicas: 2, ", ""))
        wait_until(lambda: "org/A#2" not in again.phases(), what="the second engine to go")
        assert again.ps()["org/A"]["pid"] == before["org/A"]
    finally:
        again.close()
