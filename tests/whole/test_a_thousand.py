"""A thousand clients wait for a model that is not there: all are served, or all leave, or all are told why."""

import json
from datetime import datetime
from pathlib import Path

from tests.waiting import wait_until
from tests.whole.crowd import Crowd, crowd

MANY = 1000
ASKED = {"model": "org/A", "prompt": "hello", "max_tokens": 1}
ONE = 'models: {org/A: {memory: 1GiB, env: {VLLAMA_SIM_LOAD_S: "%s", VLLAMA_SIM_FAULTS: "%s"}}}'


def test_all_are_served_in_one_residency(start_server):
    server = start_server(ONE % ("4", ""), "--simulate", "8GiB", VLLAMA_SIM_TOKEN_S="0.001")

    async def test(clients: Crowd) -> None:
        await clients.ask(MANY, ASKED)
        await clients.until("org/A", waiting=MANY, in_flight=0)
        answers = await clients.answers()
        assert {answer.status for answer in answers} == {200}
        assert {answer.headers["x-vllama-state"] for answer in answers} == {"started"}
        await clients.until("org/A", waiting=0, in_flight=0)

    crowd(server, test)
    assert server.log().count("startDone") == 1
    assert "sleepDone" not in server.log()


def test_all_leave_and_the_start_is_given_up(start_server):
    server = start_server(ONE % ("120", ""), "--simulate", "8GiB")

    async def test(clients: Crowd) -> None:
        await clients.ask(MANY, ASKED)
        await clients.until("org/A", waiting=MANY, phase="Starting")
        assert server.engines()
        clients.leave()
        await clients.until("org/A", waiting=0, in_flight=0)
        await clients.until("org/A", phase="Stopped", deadline_s=30)

    crowd(server, test)
    assert "Abandoned" in server.log()
    wait_until(lambda: not server.engines(), what="the engine to be gone")


def test_all_are_told_the_root_cause_at_once(start_server):
    server = start_server(ONE % ("4", "kv_error_at_load"), "--simulate", "8GiB")

    async def test(clients: Crowd) -> None:
        await clients.ask(MANY, ASKED)
        await clients.until("org/A", waiting=MANY)
        answers = await clients.answers()
        assert {answer.status for answer in answers} == {503}
        assert {answer.headers["retry-after"] for answer in answers} == {"10"}
        (error,) = {(answer.error["code"], answer.error["message"]) for answer in answers}
        assert error[0] == "engine_failed"
        assert "To serve at least one request with the model's max seq len" in error[1]
        await clients.until("org/A", waiting=0, in_flight=0)

    crowd(server, test)


def test_half_leave_and_the_others_are_told_the_moment_it_is_known_and_cost_little(start_server):
    server = start_server(ONE % ("6", "kv_error_at_load"), "--simulate", "8GiB")

    async def test(clients: Crowd) -> None:
        await clients.ask(MANY, ASKED)
        await clients.until("org/A", waiting=MANY)
        leaving, clients.clients = clients.clients[::2], clients.clients[1::2]
        for _, writer in leaving:
            writer.transport.abort()
        await clients.until("org/A", waiting=MANY // 2)
        assert resident_mib(server) < 250
        answers = await clients.answers()
        known_at = failed_at(server)
        assert min(answer.at for answer in answers) >= known_at
        print(f"all were told {max(answer.at for answer in answers) - known_at:.3f} s after it was known")
        assert {(answer.status, answer.error["code"]) for answer in answers} == {(503, "engine_failed")}
        assert len({answer.error["message"] for answer in answers}) == 1
        await clients.until("org/A", waiting=0, in_flight=0)
        assert resident_mib(server) < 250

    crowd(server, test)
    assert not said(server, "Demanded")[1:], "it was tried again, though nobody was left to wait for it"


def failed_at(server) -> float:
    (crashed,) = said(server, "Crashed")
    return datetime.fromisoformat(crashed["timestamp"]).timestamp()


def said(server, event: str) -> list[dict]:
    lines = [json.loads(line) for line in server.log().splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


def resident_mib(server) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024
