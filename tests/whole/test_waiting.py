"""What a client may say of waiting, and what it is told, through the real server."""

import socket
import threading
import time

import httpx
import openai
import pytest

from tests.waiting import wait_until
from tests.whole.crowd import Crowd, crowd

CHAT = "/v1/chat/completions"
HELLO = {"max_tokens": 2, "messages": [{"role": "user", "content": "hello"}]}
NEVER = "{VLLAMA_SIM_LOAD_S: '600'}"


def chat(server, model: str, headers: dict | None = None, **body) -> httpx.Response:
    return server.http.post(f"{server.url}{CHAT}", json={"model": model} | HELLO | body, headers=headers)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["error"]["code"]


def test_the_limits_of_a_queue(start_server):
    server = start_server(
        f"""
        models:
          org/full: {{memory: 1GiB, max_queue: 2, env: {NEVER}}}
          org/late: {{memory: 1GiB, queue_timeout: 1s, env: {NEVER}}}
        policy: {{queue_memory: 4KiB}}
        """,
        "--simulate", "8GiB",
    )  # fmt: skip

    async def test(clients: Crowd) -> None:
        await clients.ask(2, {"model": "org/full", "prompt": "hello"})
        await clients.until("org/full", waiting=2)
        full = chat(server, "org/full")
        assert code(full) == (429, "queue_full")
        assert 10 < int(full.headers["retry-after"]) <= 40  # a start of what was never measured
        too_much = chat(server, "org/late", user="x" * 5000)
        assert code(too_much) == (503, "queue_memory_full")
        assert "retry-after" in too_much.headers
        late = chat(server, "org/late")
        assert code(late) == (503, "queue_timeout")
        assert 10 < int(late.headers["retry-after"]) <= 80
        clients.leave()
        await clients.until("org/full", waiting=0)

    crowd(server, test)


def test_who_is_to_displace_nobody_is_refused_and_told_when_to_come_back(start_server):
    server = start_server(
        """
        models:
          org/small: {memory: 3GiB, idle: {sleep_after: 5m}}
          org/large: {memory: 7GiB, on_conflict: refuse}
        """,
        "--simulate", "8GiB",
    )  # fmt: skip
    assert chat(server, "org/small").status_code == 200
    refused = chat(server, "org/large")
    assert code(refused) == (503, "would_evict")
    assert 200 < int(refused.headers["retry-after"]) <= 300
    assert server.phases() == {"org/small": "Ready", "org/large": "Stopped"}


def test_so_many_at_a_time_and_no_more_and_each_in_its_turn(start_server):
    server = start_server("models: {org/A: {memory: 1GiB, max_concurrency: 3}}", "--simulate", "8GiB")
    seen: list[int] = []
    over = threading.Event()

    def watch() -> None:
        with httpx.Client(trust_env=False) as http:
            while not over.is_set():
                models = http.get(f"{server.url}/admin/status").json()["models"]
                seen.extend(model["in_flight"] for model in models)

    watching = threading.Thread(target=watch)
    watching.start()

    async def test(clients: Crowd) -> None:
        await clients.ask(40, {"model": "org/A", "prompt": "hello", "max_tokens": 3})
        answers = await clients.answers()
        assert {answer.status for answer in answers} == {200}
        assert {answer.headers["x-vllama-state"] for answer in answers} == {"started"}

    crowd(server, test)
    over.set()
    watching.join()
    assert max(seen) == 3
    assert chat(server, "org/A").headers["x-vllama-state"] == "hit"


def test_how_long_a_model_stays_after_a_request_that_says_so(start_server):
    server = start_server(
        """
        defaults: {memory: 1GiB, idle: {sleep_after: 1s}}
        models: {org/none: {}, org/kept: {}, org/at_once: {idle: {sleep_after: never}}}
        """,
        "--simulate", "8GiB",
    )  # fmt: skip
    assert chat(server, "org/kept", ttl=-1).status_code == 200
    assert chat(server, "org/none").status_code == 200
    started = chat(server, "org/at_once", keep_alive=0)
    assert (started.status_code, started.headers["x-vllama-state"]) == (200, "started")
    assert chat(server, "org/kept").status_code == 200
    wait_until(lambda: server.phases()["org/at_once"] == "Asleep", deadline_s=4, what="it to sleep at once")
    wait_until(lambda: server.phases()["org/none"] == "Asleep", what="its own time to come")
    assert server.phases()["org/kept"] == "Ready"
    woken = chat(server, "org/at_once")
    assert woken.headers["x-vllama-state"] == "woken"
    assert int(woken.headers["x-vllama-wait-ms"]) >= 50  # what the engine needs to wake


def test_who_cannot_wait_is_told_when_to_come_back_and_finds_it_ready_then(start_server):
    server = start_server("models: {org/A: {memory: 1GiB}}", "--simulate", "8GiB")
    refused = chat(server, "org/A", {"X-Max-Wait": "2"})
    assert code(refused) == (503, "max_wait")
    assert 30 <= int(refused.headers["retry-after"]) <= 40
    assert "at most 2 s. It takes about" in refused.json()["error"]["message"]
    coming = server.ps()["org/A"]
    assert coming["waiting"] == 0
    assert coming["phase"] == "Ready" or "who could not wait is expected back" in coming["message"]
    wait_until(lambda: server.phases()["org/A"] == "Ready", what="it to be there for who comes back")
    assert chat(server, "org/A", {"Prefer": "wait=0"}).headers["x-vllama-state"] == "hit"
    assert server.cli("stop", "org/A").returncode == 0
    wait_until(lambda: server.phases()["org/A"] == "Stopped", what="it to stop")
    assert chat(server, "org/A", {"X-Max-Wait": "20"}).status_code == 200  # measured by now


def test_a_stream_shows_signs_of_life_while_its_model_comes_up(start_server):
    server = start_server(
        """
        models:
          org/A: {memory: 1GiB, env: {VLLAMA_SIM_LOAD_S: '1'}}
          org/B: {memory: 1GiB, env: {VLLAMA_SIM_LOAD_S: '1', VLLAMA_SIM_FAULTS: kv_error_at_load}}
        """,
        "--simulate", "8GiB",
    )  # fmt: skip
    asked, often = {"model": "org/A", "stream": True} | HELLO, {"X-Keep-Alive": "0.2"}
    with server.http.stream("POST", f"{server.url}{CHAT}", json=asked, headers=often) as answer:
        assert (answer.status_code, answer.headers["x-vllama-state"]) == (200, "queued")
        lines = [line for line in answer.iter_lines() if line]
    assert lines[0].startswith(": vllama loading org/A, about ")
    comments = [line for line in lines if line.startswith(":")]
    events = lines[len(comments) :]
    assert events[-1] == "data: [DONE]"
    assert all(line.startswith("data: ") for line in events)
    assert server.cli("stop", "org/A").returncode == 0
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    stream = client.chat.completions.create(**asked, extra_headers=often)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    with pytest.raises(openai.APIError, match="max seq len"):
        list(client.chat.completions.create(**asked | {"model": "org/B"}, extra_headers=often))


def test_a_client_that_takes_nothing_does_not_keep_its_model_awake(start_server):
    server = start_server(
        """
        models: {org/A: {memory: 1GiB, env: {VLLAMA_SIM_FAULTS: long_line}}}
        policy: {stalled_client: 1s}
        """,
        "--simulate", "8GiB",
    )  # fmt: skip
    host, port = server.url.removeprefix("http://").split(":")
    body = b'{"model":"org/A","stream":true,"messages":[{"role":"user","content":"go"}]}'
    head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.socket() as stalled:
        stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stalled.connect((host, int(port)))
        stalled.sendall(head.encode() + body)
        wait_until(lambda: server.ps()["org/A"]["in_flight"] == 1, what="the stream to begin")
        began = time.monotonic()
        wait_until(lambda: server.ps()["org/A"]["in_flight"] == 0, what="it to be cut")
        assert time.monotonic() - began > 0.5  # not before it had its time
        assert server.ps()["org/A"]["phase"] == "Ready"
        size = 0
        while piece := stalled.recv(1 << 20):  # what was on its way, and then the end
            size += len(piece)
        assert size < 10_000_000
