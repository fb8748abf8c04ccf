import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import pytest

from tests.simulator.engines import CHAT, Engine, launch, make_devices, streaming
from tests.waiting import wait_until
from vllama.domain.units import GIB, MIB
from vllama.simulator.devices import SimulatedDevices


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Engine, SimulatedDevices]]:
    directory = tmp_path_factory.mktemp("sleep")
    devices = make_devices(directory / "devices", "2x4GiB")
    engine = launch(
        directory / "engine.log",
        "--enable-sleep-mode",
        "--enable-server-load-tracking",
        VLLAMA_SIM_DEVICES=str(devices.directory),
        VLLAMA_SIM_MEMORY="3GiB",
        VLLAMA_SIM_RESIDUE="300MiB",
        CUDA_VISIBLE_DEVICES="0,1",
    )
    yield engine.wait_ready(), devices
    engine.stop()


@pytest.fixture
def engine(one: tuple[Engine, SimulatedDevices]) -> Iterator[Engine]:
    """Awake before and after."""
    engine = one[0]
    yield engine
    engine.http.post("/wake_up")
    engine.http.post("/collective_rpc", json={"method": "reload_weights"})
    assert not is_sleeping(engine)


def is_sleeping(engine: Engine) -> bool:
    answer = engine.http.get("/is_sleeping").json()
    assert list(answer) == ["is_sleeping"]
    return answer["is_sleeping"]


def sleep_states(engine: Engine) -> set[str]:
    """Those that /metrics calls true."""
    lines = [line for line in engine.http.get("/metrics").text.splitlines() if "engine_sleep_state{" in line]
    return {line.split('sleep_state="')[1].split('"')[0] for line in lines if line.endswith(" 1.0")}


def held(devices: SimulatedDevices) -> list[int]:
    return [sum(claim.memory_bytes for claim in reading.claims) for reading in devices.read()]


def test_level_1_gives_memory_back_on_every_device(one: tuple[Engine, SimulatedDevices], engine: Engine) -> None:
    devices = one[1]
    before = engine.text()
    assert held(devices) == [3 * GIB, 3 * GIB]
    assert sleep_states(engine) == {"awake"}
    assert engine.http.post("/sleep").text == '{"status":"sleeping","level":1}'
    assert held(devices) == [300 * MIB, 300 * MIB]
    assert is_sleeping(engine)
    assert sleep_states(engine) == {"weights_offloaded"}
    assert (engine.health(), engine.http.get("/v1/models").status_code) == (200, 200)
    assert engine.http.post("/wake_up").text == '{"status":"awake","tags":null}'
    assert held(devices) == [3 * GIB, 3 * GIB]
    assert sleep_states(engine) == {"awake"}
    assert engine.text() == before
    log = engine.log()
    assert "Sleep mode freed 2.71 GiB memory, 0.59 GiB memory is still in use." in log
    assert "sleep freed 2.71 GiB memory in total, of which 1.80 GiB is backed up in CPU" in log
    assert " seconds to fall asleep." in log
    assert " seconds to wake up tags ['weights', 'kv_cache']." in log
    assert "setting pause state to PAUSED_NEW" in log
    assert "setting pause state to UNPAUSED" in log


def test_level_2_in_three_steps(one: tuple[Engine, SimulatedDevices], engine: Engine) -> None:
    before = engine.text()
    assert engine.http.post("/sleep?level=2").json() == {"status": "sleeping", "level": 2}
    assert sleep_states(engine) == {"discard_all"}
    assert engine.http.post("/wake_up?tags=weights").json() == {"status": "sleeping", "tags": ["weights"]}
    assert held(one[1]) == [300 * MIB + (3 * GIB - 300 * MIB) * 2 // 3] * 2
    assert is_sleeping(engine)
    assert engine.http.post("/collective_rpc", json={"method": "reload_weights"}).text == '{"results":[null]}'
    assert engine.http.post("/wake_up?tags=kv_cache").json() == {"status": "awake", "tags": ["kv_cache"]}
    assert engine.text() == before


def test_level_2_without_reloading_answers_garbage(engine: Engine) -> None:
    before = engine.text()
    engine.http.post("/sleep?level=2")
    engine.http.post("/wake_up")
    assert engine.text(max_tokens=4) == "!!!!"
    engine.http.post("/collective_rpc", json={"method": "reload_weights"})
    assert engine.text() == before


def test_a_second_sleep_keeps_the_level(engine: Engine) -> None:
    before = engine.text()
    engine.http.post("/sleep?level=1")
    assert engine.http.post("/sleep?level=2").json() == {"status": "sleeping", "level": 2}
    assert "Executor is already sleeping." in engine.log()
    engine.http.post("/wake_up")
    assert engine.text() == before


def test_level_0_only_pauses(one: tuple[Engine, SimulatedDevices], engine: Engine) -> None:
    engine.http.post("/sleep?level=0")
    assert is_sleeping(engine)
    assert held(one[1]) == [3 * GIB, 3 * GIB]
    assert sleep_states(engine) == set()
    assert engine.http.post("/wake_up?tags=scheduling").json()["status"] == "awake"
    assert not is_sleeping(engine)


def test_an_unknown_tag_wakes_nothing(engine: Engine) -> None:
    engine.http.post("/sleep")
    response = engine.http.post("/wake_up?tags=bogus")
    assert (response.status_code, response.json()) == (200, {"status": "sleeping", "tags": ["bogus"]})
    assert "Tag bogus is not in sleeping tags" in engine.log()
    assert engine.http.post("/wake_up?tags=weights&tags=kv_cache").json()["status"] == "awake"
    assert engine.http.post("/wake_up").json() == {"status": "awake", "tags": None}


@pytest.mark.parametrize(
    ("query", "param", "kind"),
    [
        ("level=3", "query.level", "less_than_equal"),
        ("level=-1", "query.level", "greater_than_equal"),
        ("level=x", "query.level", "int_parsing"),
        ("mode=zzz", "query.mode", "literal_error"),
    ],
)
def test_bad_sleep(engine: Engine, query: str, param: str, kind: str) -> None:
    response = engine.http.post(f"/sleep?{query}")
    error = response.json()["error"]
    assert (response.status_code, error["type"], error["param"], error["code"]) == (400, "Bad Request", param, 400)
    assert error["message"].startswith(f"1 validation error:\n  {{'type': '{kind}', 'loc': '{param}', 'msg': ")
    assert not is_sleeping(engine)


def test_requests_to_a_sleeping_engine_hang_until_it_wakes(engine: Engine) -> None:
    before = engine.text(max_tokens=2)
    engine.http.post("/sleep")
    with pytest.raises(httpx.ReadTimeout):
        engine.http.post("/v1/chat/completions", json=CHAT, timeout=0.2)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(engine.chat, max_tokens=2)
        wait_until(lambda: engine.http.get("/load").json() == {"server_load": 1}, what="the request has arrived")
        assert engine.metric("vllm:num_requests_waiting") == 0
        assert not waiting.done()
        engine.http.post("/wake_up")
        assert waiting.result(timeout=10).json()["choices"][0]["message"]["content"] == before


def test_sleep_mode_abort_cuts_what_is_in_flight(engine: Engine) -> None:
    with ThreadPoolExecutor(1) as pool, streaming(engine) as events:
        plain = pool.submit(engine.chat, max_tokens=4000)
        wait_until(lambda: engine.metric("vllm:num_requests_running") == 2, what="both requests run")
        assert engine.http.post("/sleep?mode=abort").status_code == 200
        *_, last, done = events
        answer = plain.result(timeout=10).json()
    assert (json.loads(last)["choices"][0]["finish_reason"], done) == ("abort", "[DONE]")
    assert answer["choices"][0]["finish_reason"] == "abort"
    assert answer["usage"]["completion_tokens"] < 4000


def test_sleep_mode_wait_lets_it_finish(engine: Engine) -> None:
    with ThreadPoolExecutor(1) as pool, streaming(engine, max_tokens=100) as events:
        sleeping = pool.submit(engine.http.post, "/sleep?mode=wait")
        *_, last, _ = events
        assert json.loads(last)["choices"][0]["finish_reason"] == "length"
        assert sleeping.result(timeout=10).status_code == 200
    assert is_sleeping(engine)


def test_sleep_mode_keep_freezes_it(engine: Engine) -> None:
    with streaming(engine, max_tokens=100) as events:
        assert engine.http.post("/sleep?mode=keep").status_code == 200
        assert is_sleeping(engine)
        engine.http.post("/wake_up")
        *_, last, _ = events
    assert json.loads(last)["choices"][0]["finish_reason"] == "length"


def test_pause_and_resume(engine: Engine) -> None:
    assert engine.http.get("/is_paused").json() == {"is_paused": False}
    assert engine.http.post("/pause?mode=keep&clear_cache=true").json() == {"status": "paused"}
    assert engine.http.get("/is_paused").json() == {"is_paused": True}
    assert is_sleeping(engine)
    assert engine.http.post("/resume").json() == {"status": "resumed"}
    assert not is_sleeping(engine)


def test_abort_requests(engine: Engine) -> None:
    assert engine.http.post("/abort_requests", json={}).json() == {"status": "aborted", "aborted": 0}
    with streaming(engine) as events:
        assert engine.http.post("/abort_requests", json={}).json() == {"status": "aborted", "aborted": 1}
        assert json.loads([*events][-2])["choices"][0]["finish_reason"] == "abort"


def test_abort_one_request_by_its_name(engine: Engine) -> None:
    body = CHAT | {"stream": True, "max_tokens": 4000}
    headers = {"x-request-id": "me"}
    with engine.http.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
        lines = response.iter_lines()
        next(lines)
        engine.http.post("/abort_requests", json={"request_ids": ["chatcmpl-me"]})
        assert "abort" in "".join(lines)


def test_two_requests_may_have_the_same_name(engine: Engine) -> None:
    with ThreadPoolExecutor(2) as pool:
        ask = partial(engine.http.post, "/v1/chat/completions", json=CHAT, headers={"x-request-id": "twin"})
        answers = [future.result(timeout=10).json()["id"] for future in [pool.submit(ask), pool.submit(ask)]]
    assert answers == ["chatcmpl-twin", "chatcmpl-twin"]


def test_caches(engine: Engine) -> None:
    assert engine.http.post("/reset_prefix_cache").json() == {"success": True}
    for path in ("/reset_mm_cache", "/reset_encoder_cache"):
        assert (engine.http.post(path).status_code, engine.http.post(path).content) == (200, b"")
    error = engine.http.post("/release_kv_cache_memory").json()["error"]
    assert error["message"].endswith("release_kv_cache_memory() requires a completed pause first")


def test_collective_rpc_errors(engine: Engine) -> None:
    def post(body: dict) -> httpx.Response:
        return engine.http.post("/collective_rpc", json=body)

    missing, unknown = post({}), post({"method": "nonsense"})
    assert (missing.status_code, missing.json()["error"]["message"]) == (400, "Missing 'method' in request body")
    assert unknown.status_code == 500
    message = "Call to collective_rpc method failed: Method 'nonsense' is not implemented."
    assert unknown.json()["error"]["message"] == message
    assert engine.health() == 200


def test_without_the_flag_sleep_frees_nothing(start: Callable[..., Engine], devices: SimulatedDevices) -> None:
    engine = start(VLLAMA_SIM_DEVICES=str(devices.directory)).wait_ready()
    assert engine.http.post("/sleep").status_code == 200
    assert is_sleeping(engine)
    assert held(devices) == [GIB, 0]


def test_no_dev_mode_no_sleep(start: Callable[..., Engine]) -> None:
    engine = start("--enable-sleep-mode", VLLM_SERVER_DEV_MODE="0").wait_ready()
    for path in ("/sleep", "/wake_up", "/pause", "/collective_rpc"):
        assert engine.http.post(path).json() == {"detail": "Not Found"}
    assert engine.http.get("/is_sleeping").status_code == 404


def test_a_wake_that_does_not_fit_kills_the_engine(start: Callable[..., Engine], devices: SimulatedDevices) -> None:
    room = {"VLLAMA_SIM_DEVICES": str(devices.directory), "VLLAMA_SIM_MEMORY": "3GiB"}
    sleeper = start("--enable-sleep-mode", **room).wait_ready()
    sleeper.http.post("/sleep")
    start(**room).wait_ready()
    response = sleeper.http.post("/wake_up")
    assert response.status_code == 500
    assert "CUDA Error: out of memory at " in response.json()["error"]["message"]
    assert "CUDA Error: out of memory at /workspace/csrc/cumem_allocator.cpp:" in sleeper.log()
    assert sleeper.wait_exit() == 0
    assert held(devices) == [3 * GIB, 0]
