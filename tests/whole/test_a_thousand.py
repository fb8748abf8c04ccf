"""A thousand clients wait for a model that is not there: all are served, or all leave, or all are told why."""

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
