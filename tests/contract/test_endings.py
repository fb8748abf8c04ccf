"""How engines end, and what they leave behind. Each real engine here costs 20 s, so each test looks at all it can."""

import json
import os
import signal
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx

from tests.contract.test_client import ask
from tests.simulator.engines import CHAT, Engine, alive, streaming
from tests.waiting import wait_until
from vllama.engine.client import Healthy, Refused

DEAD = "EngineCore encountered an issue. See stack trace (above) for the root cause."
DEAD_ERROR = {"message": DEAD, "type": "InternalServerError", "param": None, "code": 500}


def health(engine: Engine) -> object:
    return ask(engine, lambda client, url: client.health(url, timeout_s=30))


def test_one_sigterm_while_loading_is_lost_and_one_when_idle_is_not(fleet):
    engine = fleet.begin("deaf")
    engine.wait_log("Starting to load model")
    assert health(engine) == Refused()  # though the port is bound
    engine.process.terminate()
    engine.wait_ready()
    assert engine.chat(max_tokens=2).status_code == 200
    core = engine.core_pid()
    engine.process.terminate()
    assert engine.wait_exit() == 0
    assert not alive(core)
    assert "[shutdown] API server: shutdown triggered" in engine.log()
    fleet.end("deaf")


def test_sigterm_again_and_again_ends_it_while_loading(fleet):
    engine = fleet.begin("interrupted")
    engine.wait_log("Starting to load model")
    core = engine.core_pid()
    for _ in range(60):
        engine.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            engine.process.wait(timeout=1)
            break
    assert engine.wait_exit() in {-signal.SIGINT, -signal.SIGTERM}  # the latter if one came very late
    wait_until(lambda: not alive(core), deadline_s=engine.patience_s, what="the core is gone too")
    fleet.end("interrupted")


def test_sigterm_with_a_stream_in_flight(stalling):
    """Real vLLM races with itself: the stream is aborted, or ends as if the core had died, or it stalls for as long as
    its client stays. The simulator always does the last, which is the worst.
    """
    hangs = "Waiting for connections to close. (CTRL+C to force quit)"
    with ThreadPoolExecutor(1) as pool, streaming(stalling, stall_s=3, max_tokens=3900) as events:
        core = stalling.core_pid()
        stalling.process.terminate()
        reading = pool.submit(list, events)  # leaves when the stream ends, or stalls for 3 s
        wait_until(lambda: reading.done() or hangs in stalling.log(), deadline_s=30, what="it shuts down")
        found = health(stalling), alive(core), stalling.process.poll()
        stalled = isinstance(reading.exception(), httpx.ReadTimeout)
    if stalled:
        assert found == (Refused(), False, None)  # of the core a zombie is left at most
    else:
        *_, last, done = reading.result()
        answer = json.loads(last)
        assert done == "[DONE]"
        assert answer == {"error": DEAD_ERROR} or answer["choices"][0]["finish_reason"] == "abort"
    assert stalling.wait_exit() == 0


def test_a_killed_core_ends_every_request_in_its_own_way(beheaded):
    def read(path: str, body: dict) -> tuple[list[str], Exception | None]:
        lines: list[str] = []
        try:
            with beheaded.http.stream("POST", path, json=body | {"stream": True}) as response:
                lines.extend(line for line in response.iter_lines() if line)
        except httpx.HTTPError as error:
            return lines, error
        return lines, None

    message = CHAT | {"model": "chat", "max_tokens": 3900}
    with ThreadPoolExecutor(5) as pool, streaming(beheaded, max_tokens=3900) as events:
        completion = pool.submit(read, "/v1/completions", {"prompt": "x", "max_tokens": 3900})
        messages = pool.submit(read, "/v1/messages", message)
        responses = pool.submit(read, "/v1/responses", {"input": "x", "max_output_tokens": 3900})
        plain = pool.submit(beheaded.chat, max_tokens=3900)
        plain_message = pool.submit(beheaded.http.post, "/v1/messages", json=message)
        wait_until(lambda: beheaded.metric("vllm:num_requests_running") == 6, what="all six run")
        os.kill(beheaded.core_pid(), signal.SIGKILL)

        *_, error, done = events
        assert (json.loads(error), done) == ({"error": DEAD_ERROR}, "[DONE]")
        *_, error, done = completion.result()[0]
        assert (json.loads(error.removeprefix("data: ")), done) == ({"error": DEAD_ERROR}, "data: [DONE]")
        (*_, event, error), broken = messages.result()
        details = json.loads(error.removeprefix("data: "))["error"]
        assert (event, details["type"], broken) == ("event: error", "internal_error", None)
        assert details["message"].startswith("2 validation errors for ChatCompletionStreamResponse\nmodel\n")
        lines, broken = responses.result()
        assert isinstance(broken, httpx.RemoteProtocolError)  # no error event: the connection breaks off
        assert "response.output_text.delta" in lines[-1]
        assert (plain.result().status_code, plain.result().json()) == (500, {"error": DEAD_ERROR})
        said = {"type": "error", "error": {"type": "InternalServerError", "message": DEAD}}
        assert (plain_message.result().status_code, plain_message.result().json()) == (500, said)
        assert not isinstance(health(beheaded), Healthy)  # 503, refused or reset: the API server is on its way out
    assert beheaded.wait_exit() == 0  # as if all were well
