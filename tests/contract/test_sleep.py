"""The sleep state machine: what vllama's whole work stands on."""

import json
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.simulator.engines import CHAT, Engine, streaming
from tests.waiting import wait_until

LONG_TOKENS = 3900  # 6 s and more of either engine
SOME_TOKENS = 300
REJECTED_S = 0.5  # how long a request is watched that shall hang


def post(engine: Engine, path: str) -> dict:
    answer = engine.http.post(path)
    assert answer.status_code == 200, answer.text
    return answer.json()


def sleeps(engine: Engine) -> tuple[bool, bool]:
    """/is_sleeping and /is_paused."""
    return tuple(engine.http.get(f"/is_{what}").json()[f"is_{what}"] for what in ("sleeping", "paused"))


def gauges(engine: Engine) -> set[str]:
    """The values of engine_sleep_state that /metrics calls true."""
    lines = [line for line in engine.http.get("/metrics").text.splitlines() if "engine_sleep_state{" in line]
    assert len(lines) == 3
    return {line.split('sleep_state="')[1].split('"')[0] for line in lines if line.endswith(" 1.0")}


def wait_running(engine: Engine, count: int) -> None:
    wait_until(lambda: engine.metric("vllm:num_requests_running") == count, what=f"{count} requests run")


def finish_reason(event: str) -> str:
    return json.loads(event)["choices"][0]["finish_reason"]


@pytest.mark.parametrize(("level", "gauge"), [(0, set()), (1, {"weights_offloaded"}), (2, {"discard_all"})])
@pytest.mark.parametrize("mode", ["abort", "wait", "keep"])
def test_a_level_and_back(awake, level, gauge, mode):
    assert (sleeps(awake), gauges(awake)) == ((False, False), {"awake"})
    assert post(awake, f"/sleep?level={level}&mode={mode}") == {"status": "sleeping", "level": level}
    assert (sleeps(awake), gauges(awake)) == ((True, True), gauge)
    assert (awake.health(), awake.http.get("/v1/models").status_code) == (200, 200)
    assert post(awake, "/wake_up") == {"status": "awake", "tags": None}
    assert (sleeps(awake), gauges(awake)) == ((False, False), {"awake"})


def test_without_parameters_it_is_level_1(awake):
    assert post(awake, "/sleep") == {"status": "sleeping", "level": 1}
    assert gauges(awake) == {"weights_offloaded"}


def test_an_awake_engine_wakes_again(awake):
    assert post(awake, "/wake_up") == {"status": "awake", "tags": None}
    assert post(awake, "/wake_up?tags=weights") == {"status": "awake", "tags": ["weights"]}
    assert gauges(awake) == {"awake"}


def test_a_second_sleep_moves_the_gauge_and_nothing_else(awake):
    """So the gauge tells the level last asked for, which is not the level it sleeps at."""
    before = awake.text(max_tokens=8, temperature=0)
    post(awake, "/sleep?level=1")
    for level, gauge in ((2, {"discard_all"}), (1, {"weights_offloaded"}), (0, set()), (2, {"discard_all"})):
        assert post(awake, f"/sleep?level={level}") == {"status": "sleeping", "level": level}
        assert (sleeps(awake), gauges(awake)) == ((True, True), gauge)
    assert awake.log().count("Executor is already sleeping.") >= 3
    assert post(awake, "/wake_up") == {"status": "awake", "tags": None}
    assert awake.text(max_tokens=8, temperature=0) == before  # no weights were lost


def test_level_2_in_three_steps(awake):
    before = awake.text(max_tokens=8, temperature=0)
    post(awake, "/sleep?level=2")
    assert post(awake, "/wake_up?tags=weights") == {"status": "sleeping", "tags": ["weights"]}
    assert (sleeps(awake), gauges(awake)) == ((True, True), {"discard_all"})
    reloaded = awake.http.post("/collective_rpc", json={"method": "reload_weights"})
    assert (reloaded.status_code, reloaded.json()) == (200, {"results": [None]})
    assert post(awake, "/wake_up?tags=kv_cache") == {"status": "awake", "tags": ["kv_cache"]}
    assert (sleeps(awake), gauges(awake)) == ((False, False), {"awake"})
    assert post(awake, "/reset_prefix_cache") == {"success": True}
    assert awake.text(max_tokens=8, temperature=0) == before


def test_tags_in_any_order_and_several_at_once(awake):
    post(awake, "/sleep")
    assert post(awake, "/wake_up?tags=kv_cache") == {"status": "sleeping", "tags": ["kv_cache"]}
    assert post(awake, "/wake_up?tags=kv_cache") == {"status": "sleeping", "tags": ["kv_cache"]}
    assert post(awake, "/wake_up?tags=weights") == {"status": "awake", "tags": ["weights"]}
    post(awake, "/sleep")
    both = post(awake, "/wake_up?tags=weights&tags=kv_cache")
    assert both == {"status": "awake", "tags": ["weights", "kv_cache"]}


def test_an_unknown_tag_wakes_nothing_not_even_its_neighbour(awake):
    post(awake, "/sleep")
    assert post(awake, "/wake_up?tags=bogus") == {"status": "sleeping", "tags": ["bogus"]}
    assert post(awake, "/wake_up?tags=bogus&tags=weights") == {"status": "sleeping", "tags": ["bogus", "weights"]}
    assert "Tag bogus is not in sleeping tags" in awake.log()
    assert post(awake, "/wake_up?tags=kv_cache")["status"] == "sleeping"  # the weights did not wake
    assert post(awake, "/wake_up?tags=weights")["status"] == "awake"


def test_scheduling_wakes_from_level_0(awake):
    post(awake, "/sleep?level=0")
    assert post(awake, "/wake_up?tags=scheduling") == {"status": "awake", "tags": ["scheduling"]}
    assert (sleeps(awake), gauges(awake)) == ((False, False), {"awake"})


@pytest.mark.parametrize("mode", ["abort", "wait", "keep"])
def test_pausing_looks_asleep_but_not_in_the_metrics(awake, mode):
    assert post(awake, f"/pause?mode={mode}&clear_cache=true") == {"status": "paused"}
    assert (sleeps(awake), gauges(awake)) == ((True, True), {"awake"})
    assert post(awake, "/resume") == {"status": "resumed"}
    assert sleeps(awake) == (False, False)


def test_resuming_does_not_wake(awake):
    post(awake, "/sleep")
    assert post(awake, "/resume") == {"status": "resumed"}
    assert (sleeps(awake), gauges(awake)) == ((True, False), {"weights_offloaded"})


@pytest.mark.parametrize("level", [0, 1, 2])
def test_requests_to_a_sleeping_engine_hang_until_it_wakes(awake, level):
    post(awake, f"/sleep?level={level}")
    with pytest.raises(httpx.ReadTimeout):
        awake.http.post("/v1/chat/completions", json=CHAT, timeout=REJECTED_S)
    wait_until(lambda: awake.http.get("/load").json() == {"server_load": 0}, what="the client that left is forgotten")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(awake.chat, max_tokens=2)
        wait_until(lambda: awake.http.get("/load").json() == {"server_load": 1}, what="the request has arrived")
        assert awake.metric("vllm:num_requests_waiting") == 0  # a sleeping engine does not count
        assert awake.metric("vllm:num_requests_running") == 0
        assert not waiting.done()
        post(awake, "/wake_up")
        answer = waiting.result(timeout=awake.patience_s)
    assert (answer.status_code, answer.json()["choices"][0]["finish_reason"]) == (200, "length")


def test_requests_wait_while_only_one_tag_is_awake(awake):
    post(awake, "/sleep")
    post(awake, "/wake_up?tags=weights")
    with pytest.raises(httpx.ReadTimeout):
        awake.http.post("/v1/chat/completions", json=CHAT, timeout=REJECTED_S)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_mode_abort_cuts_what_is_in_flight(awake, level):
    with ThreadPoolExecutor(1) as pool, streaming(awake, max_tokens=LONG_TOKENS) as events:
        plain = pool.submit(awake.chat, max_tokens=LONG_TOKENS)
        wait_running(awake, 2)
        post(awake, f"/sleep?level={level}&mode=abort")
        *_, last, done = events
        answer = plain.result(timeout=awake.patience_s)
    assert (finish_reason(last), done) == ("abort", "[DONE]")
    assert (answer.status_code, answer.json()["choices"][0]["finish_reason"]) == (200, "abort")
    assert answer.json()["usage"]["completion_tokens"] < LONG_TOKENS


def test_other_dialects_do_not_say_that_they_were_cut(awake):
    """/v1/messages has no stop_reason then, and /v1/responses claims to be complete."""
    message = CHAT | {"model": "chat", "max_tokens": LONG_TOKENS}
    response = {"input": "tell me something", "max_output_tokens": LONG_TOKENS}
    with ThreadPoolExecutor(2) as pool:
        messages = pool.submit(awake.http.post, "/v1/messages", json=message)
        responses = pool.submit(awake.http.post, "/v1/responses", json=response)
        wait_running(awake, 2)
        post(awake, "/sleep?mode=abort")
        message, response = messages.result().json(), responses.result().json()
    assert list(message) == ["id", "type", "role", "content", "model", "usage"]
    assert (response["status"], response["incomplete_details"]) == ("completed", None)
    assert message["usage"]["output_tokens"] < LONG_TOKENS
    assert response["usage"]["output_tokens"] < LONG_TOKENS


@pytest.mark.parametrize("level", [0, 1, 2])
def test_mode_wait_lets_it_finish(awake, level):
    with ThreadPoolExecutor(1) as pool, streaming(awake, max_tokens=SOME_TOKENS) as events:
        sleeping = pool.submit(post, awake, f"/sleep?level={level}&mode=wait")
        *_, last, done = events
        assert (finish_reason(last), done) == ("length", "[DONE]")
        assert sleeping.result(timeout=awake.patience_s) == {"status": "sleeping", "level": level}
    assert sleeps(awake) == (True, True)


@pytest.mark.parametrize("level", [0, 1, 2])
def test_mode_keep_freezes_it(awake, level):
    with ThreadPoolExecutor(1) as pool, streaming(awake, max_tokens=SOME_TOKENS) as events:
        reading = pool.submit(list, events)
        assert post(awake, f"/sleep?level={level}&mode=keep") == {"status": "sleeping", "level": level}
        assert sleeps(awake) == (True, True)
        assert not reading.done()
        assert post(awake, "/wake_up")["status"] == "awake"
        *_, last, done = reading.result(timeout=awake.patience_s)
    assert (finish_reason(last), done) == ("length", "[DONE]")


def test_aborting_by_hand(awake):
    assert awake.http.post("/abort_requests", json={}).json() == {"status": "aborted", "aborted": 0}
    assert awake.http.post("/abort_requests", json={"request_ids": ["nobody"]}).json()["aborted"] == 1
    with streaming(awake, max_tokens=LONG_TOKENS) as events:
        assert awake.http.post("/abort_requests", json={}).json() == {"status": "aborted", "aborted": 1}
        *_, last, done = events
    assert (finish_reason(last), done) == ("abort", "[DONE]")


def test_caches(awake):
    assert post(awake, "/reset_prefix_cache") == {"success": True}
    for path in ("/reset_mm_cache", "/reset_encoder_cache"):
        answer = awake.http.post(path)
        assert (answer.status_code, answer.content) == (200, b"")
