"""The manager ends, by its own choice or not, and nothing is lost, doubled, or left behind."""

import contextlib
import os
import random
import signal
import threading
import time

import httpx
import pytest

from tests.waiting import wait_until
from tests.whole.server import serve

MODELS = """
models:
  org/serving: {memory: 2GiB}
  org/sleeping: {memory: 2GiB}
  org/loading: {memory: 2GiB, env: {VLLAMA_SIM_LOAD_S: "1"}}
"""


def restart(server):
    """The manager is killed as by the kernel, and started again on the same directory."""
    server.process.kill()
    server.process.wait()
    return serve(server.config_dir, (server.config_dir / "models.yaml").read_text(), "--simulate", "24GiB")


def call_in_background(server, model):
    def call():
        with contextlib.suppress(httpx.HTTPError):  # the manager is killed under it
            server.chat(model)

    threading.Thread(target=call, daemon=True).start()


def sleep(server, model):
    server.http.post(f"{server.url}/admin/models/{model}/sleep", json={"level": 1})
    wait_until(lambda: server.phases()[model] == "Asleep", what=f"{model} to sleep")


def test_engines_survive_a_killed_manager_and_the_next_one_adopts_them(start_server):
    server = start_server(MODELS, "--simulate", "24GiB")
    server.chat("org/serving")
    server.chat("org/sleeping")
    sleep(server, "org/sleeping")
    before = server.ps()
    again = restart(server)
    try:
        wait_until(lambda: again.phases()["org/serving"] == "Ready", deadline_s=2, what="the serving one")
        wait_until(lambda: again.phases()["org/sleeping"] == "Asleep", deadline_s=2, what="the sleeping one")
        after = again.ps()
        for model in ("org/serving", "org/sleeping"):
            assert after[model]["pid"] == before[model]["pid"]
        assert again.chat("org/serving").status_code == 200
        assert again.chat("org/sleeping").status_code == 200
        assert len(again.engines()) == 4
        assert again.terminate() == 0
        assert again.engines() == {}
    finally:
        again.close()


def test_what_no_longer_fits_the_file_is_reaped_after_a_restart(start_server):
    server = start_server(MODELS, "--simulate", "24GiB")
    server.chat("org/serving")
    server.chat("org/sleeping")
    server.process.kill()
    server.process.wait()
    changed = "models: {org/serving: {memory: 3GiB}}"  # the one has other settings now, the other is gone
    again = serve(server.config_dir, changed, "--simulate", "24GiB")
    try:
        wait_until(lambda: len(again.engines()) == 2, what="the removed one to be reaped")

        def is_new():
            """Called until its engine has the new settings; the old one may still answer."""
            return again.chat("org/serving").status_code == 200 and again.ps()["org/serving"]["memory_bytes"] == 3 << 30

        wait_until(is_new, what="the changed one to run with its new settings")
        assert len(again.engines()) == 2
    finally:
        again.close()


def test_an_orphaned_core_whose_api_server_is_gone_is_reaped(start_server):
    server = start_server(MODELS, "--simulate", "24GiB")
    server.chat("org/serving")
    leader = server.ps()["org/serving"]["pid"]
    server.process.kill()
    server.process.wait()
    os.kill(leader, signal.SIGKILL)
    wait_until(lambda: len(server.engines()) == 1, what="only the core to be left")
    again = serve(server.config_dir, MODELS, "--simulate", "24GiB")
    try:
        wait_until(lambda: not again.engines(), deadline_s=2, what="the orphan to be reaped")
    finally:
        again.close()


def test_managers_of_two_directories_live_together(start_server):
    one = start_server(MODELS, "--simulate", "24GiB", directory="one")
    two = start_server(MODELS, "--simulate", "24GiB", directory="two")
    one.chat("org/serving")
    two.chat("org/serving")
    assert two.terminate() == 0
    assert len(one.engines()) == 2
    assert one.chat("org/serving").status_code == 200


KILLS = 20


@pytest.mark.timeout(400)
def test_a_manager_killed_at_any_moment_leaves_nothing_that_the_next_does_not_adopt_or_reap(start_server):
    """One loading, one serving, one sleeping; killed at a random moment, again and again."""
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)
    server = start_server(MODELS, "--simulate", "24GiB")
    bystander = start_server("models: {org/other: {memory: 1GiB}}", "--simulate", "24GiB", directory="bystander")
    bystander.chat("org/other")
    others = set(bystander.engines())
    try:
        for _ in range(KILLS):
            server.chat("org/serving")
            server.chat("org/sleeping")
            sleep(server, "org/sleeping")
            server.http.post(f"{server.url}/admin/models/org/loading/stop")
            wait_until(lambda s=server: s.phases()["org/loading"] == "Stopped", what="a clean start")
            serving = server.ps()["org/serving"]["pid"]
            call_in_background(server, "org/loading")
            time.sleep(dice.uniform(0, 1.3))  # not to wait for anything: the moment of the kill is drawn
            server.process.kill()
            server.process.wait()
            server = serve(server.config_dir, MODELS, "--simulate", "24GiB")
            wait_until(lambda s=server: _all_listed(s), deadline_s=2, what="every engine to be adopted or reaped")
            assert server.ps()["org/serving"]["pid"] == serving
            with server.http.stream(
                "POST",
                f"{server.url}/v1/completions",
                json={"model": "org/serving", "prompt": "on", "stream": True, "max_tokens": 3},
            ) as answer:
                assert list(answer.iter_lines())[-2] == "data: [DONE]"
        assert set(bystander.engines()) == others
        assert server.terminate() == 0
        assert server.engines() == {}
    finally:
        server.close()


def _all_listed(server) -> bool:
    """Every living leader is listed, and whoever is listed is known for what it is."""
    ps = server.ps()
    phases = {model: each["phase"] for model, each in ps.items()}
    settled = (phases["org/serving"], phases["org/sleeping"]) == ("Ready", "Asleep")
    settled = settled and phases["org/loading"] in {"Ready", "Stopped", "Starting"}
    listed = {each["pid"] for each in ps.values()}
    return settled and {process.sid for process in server.engines().values()} <= listed


@pytest.mark.parametrize("signals", [1, 2], ids=["patient", "hurried"])
def test_sigterm_lets_streams_end_and_a_second_one_hurries(start_server, signals):
    server = start_server(MODELS, "--simulate", "24GiB", VLLAMA_SIM_TOKEN_S="0.1")
    lines: list[str] = []
    begun = threading.Event()

    def stream():
        body = {"model": "org/serving", "prompt": "go", "stream": True, "max_tokens": 30 if signals == 1 else 1000}
        try:
            with server.http.stream("POST", f"{server.url}/v1/completions", json=body) as answer:
                for line in answer.iter_lines():
                    lines.append(line)
                    begun.set()
        except Exception as error:  # noqa: BLE001  # a hurried end may break the connection
            lines.append(f"broken: {error}")

    reader = threading.Thread(target=stream)
    reader.start()
    assert begun.wait(10)
    for _ in range(signals):
        server.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)  # two signals at once are one to the kernel
    assert server.process.wait(40) == 0
    reader.join(10)
    assert server.engines() == {}
    if signals == 1:
        assert [line for line in lines if line][-1] == "data: [DONE]"
