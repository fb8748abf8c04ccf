"""An engine without the dev routes, with a tool parser, and with a process below its core, up to its end.

The last test kills it.
"""

import json
import os
import signal

import httpx
import pytest

from tests.contract.shapes import check, exact, shape_of
from tests.contract.test_client import ask
from tests.contract.test_routes import ALWAYS, GENERATE, check_routes
from tests.simulator.engines import alive, streaming
from tests.waiting import wait_until
from vllama.domain.spec import SleepLevel
from vllama.engine.client import EngineRefused, Refused


def group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


# `strict` and no randomness: even a model that knows nothing then writes a call that can be read.
SCHEMA = {
    "type": "object", "properties": {"unit": {"type": "string", "enum": ["c", "f"]}}, "required": ["unit"],
    "additionalProperties": False,
}  # fmt: skip
WEATHER = {"messages": [{"role": "user", "content": "weather?"}], "max_tokens": 300, "temperature": 0}
FUNCTION = {"type": "function", "function": {"name": "weather", "strict": True, "parameters": SCHEMA}}
TOOLS = WEATHER | {"tools": [FUNCTION]}
NAMED = TOOLS | {"tool_choice": {"type": "function", "function": {"name": "weather"}}}
REQUIRED = TOOLS | {"tool_choice": "required"}
USES = WEATHER | {"model": "chat", "tools": [{"name": "weather", "strict": True, "input_schema": SCHEMA}]}
USE = USES | {"tool_choice": {"type": "tool", "name": "weather"}}
STREAM = {"stream": True}
CALLS = {
    "tool_named": ("/v1/chat/completions", NAMED),
    "tool_required": ("/v1/chat/completions", REQUIRED),
    "tool_named_stream": ("/v1/chat/completions", NAMED | STREAM | {"stream_options": {"include_usage": True}}),
    "tool_required_stream": ("/v1/chat/completions", REQUIRED | STREAM),
    "tool_too_short": ("/v1/chat/completions", NAMED | {"max_tokens": 2}),
    "tool_none": ("/v1/chat/completions", TOOLS | {"tool_choice": "none", "max_tokens": 3}),
    "tool_use": ("/v1/messages", USE),
    "tool_use_any": ("/v1/messages", USES | {"tool_choice": {"type": "any"}}),
    "tool_use_stream": ("/v1/messages", USE | STREAM),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls_of_tools(plain, kind, name):
    path, body = CALLS[name]
    check(name, kind, shape_of(plain.http.post(path, json=body)))


def test_what_is_called_is_what_was_offered(plain):
    call = plain.http.post("/v1/chat/completions", json=NAMED).json()["choices"][0]["message"]["tool_calls"][0]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("weather", {"unit": "c"})
    result = {"role": "tool", "tool_call_id": call["id"], "content": "3"}
    said = {"role": "assistant", "content": "", "tool_calls": [call], "reasoning": "hm"}
    told = TOOLS | {"messages": [*WEATHER["messages"], said, result], "max_tokens": 2}
    assert plain.http.post("/v1/chat/completions", json=told).json()["choices"][0]["message"]["content"]


def test_routes(plain):
    check_routes(plain.http, ALWAYS | GENERATE)


def test_every_step_is_refused(plain):
    for call in (
        lambda client, url: client.is_sleeping(url, timeout_s=30),
        lambda client, url: client.sleep(url, SleepLevel.WEIGHTS_OFFLOADED, "abort", timeout_s=30),
        lambda client, url: client.wake(url, SleepLevel.DISCARDED, timeout_s=30),
    ):
        with pytest.raises(EngineRefused, match="404: Not Found"):
            ask(plain, call)


ASKED = {"input": "tell me something", "max_output_tokens": 16, "temperature": 0}
LONG = {"input": "tell me something", "max_output_tokens": 3900, "ignore_eos": True}


def test_a_response_is_kept(plain, kind):
    made = plain.http.post("/v1/responses", json=ASKED).json()
    assert plain.http.get(f"/v1/responses/{made['id']}").json() == made
    check("errors/response_cancelled_too_late", kind, exact(plain.http.post(f"/v1/responses/{made['id']}/cancel")))


def test_one_that_is_not_to_be_stored_is_not_kept(plain, kind):
    made = plain.http.post("/v1/responses", json=ASKED | {"store": False, "request_id": "resp_mine"}).json()
    assert made["id"] == "resp_mine"
    check("errors/response_unknown", kind, exact(plain.http.get("/v1/responses/resp_mine")))
    check("errors/response_unknown_cancelled", kind, exact(plain.http.post("/v1/responses/resp_mine/cancel")))


def test_in_the_background_it_is_queued_until_it_is_done(plain, kind):
    made = plain.http.post("/v1/responses", json=ASKED | {"background": True})
    check("response_background", kind, shape_of(made))
    path = f"/v1/responses/{made.json()['id']}"

    def done() -> httpx.Response | None:
        answer = plain.http.get(path)
        assert answer.json()["status"] in {"queued", "incomplete", "completed"}
        return None if answer.json()["status"] == "queued" else answer

    answer = wait_until(done, deadline_s=plain.patience_s, what="it is done")
    check("response_background_done", kind, shape_of(answer))


def test_in_the_background_it_can_be_cancelled(plain, kind):
    for _ in range(5):  # a model of random weights may be done before that: then it cannot be cancelled
        made = plain.http.post("/v1/responses", json=LONG | {"background": True}).json()
        cancelled = plain.http.post(f"/v1/responses/{made['id']}/cancel")
        if cancelled.status_code == 200:
            break
    check("response_background_cancelled", kind, shape_of(cancelled))
    assert plain.http.get(f"/v1/responses/{made['id']}").json()["status"] == "cancelled"


def test_a_background_stream_can_be_left_and_read_again(plain):
    with plain.http.stream("POST", "/v1/responses", json=ASKED | {"background": True, "stream": True}) as stream:
        first = next(line for line in stream.iter_lines() if line.startswith("data: "))
    name = json.loads(first.removeprefix("data: "))["response"]["id"]
    again = plain.http.get(f"/v1/responses/{name}?stream=true&starting_after=0").text
    kinds = [line.removeprefix("event: ") for line in again.splitlines() if line.startswith("event: ")]
    assert (kinds[0], kinds[-1]) == ("response.in_progress", "response.completed")
    assert plain.http.get(f"/v1/responses/{name}").json()["status"] in {"completed", "incomplete"}


def test_a_killed_api_server_leaves_its_core_and_workers(plain):
    """The core goes on for ever, until it is killed itself; its workers follow, and their shared memory is removed."""
    with streaming(plain, max_tokens=3900, ignore_eos=True) as events:
        core = plain.core_pid()
        plain.process.kill()
        with pytest.raises(httpx.RemoteProtocolError):
            list(events)
    assert plain.wait_exit() == -signal.SIGKILL
    assert ask(plain, lambda client, url: client.health(url, timeout_s=30)) == Refused()
    assert alive(core)
    core_group = os.getpgid(core)
    assert core_group == plain.process.pid
    os.kill(core, signal.SIGKILL)
    wait_until(lambda: not group_exists(core_group), deadline_s=plain.patience_s, what="nobody is left")
