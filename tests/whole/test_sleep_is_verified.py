"""A sleep is believed only when the device says so too, and what was learned of it is kept."""

import json
from pathlib import Path

import pytest

from tests.waiting import wait_until

TWO = """
models:
  org/A: {memory: 6GiB, env: {VLLAMA_SIM_FAULTS: "%s", VLLAMA_SIM_RESIDUE: 0.2GiB}}
  org/B: {memory: 6GiB}
"""


def test_a_sleep_that_frees_nothing_ends_in_a_stop_and_is_never_tried_again(start_server):
    server = start_server(TWO % "sleep_frees_nothing", "--simulate", "8GiB")
    assert server.chat("org/A").status_code == 200
    assert server.chat("org/B").status_code == 200  # A was put to sleep in vain, and stopped
    assert server.phases() == {"org/A": "Stopped", "org/B": "Ready"}
    assert "still holds 6.0 GiB of 6.0 GiB" in server.log()
    server.http.post(f"{server.url}/admin/models/org/A/start")
    wait_until(lambda: server.phases()["org/A"] == "Ready", what="A to be back")
    server.http.post(f"{server.url}/admin/models/org/B/start")
    wait_until(lambda: server.phases()["org/B"] == "Ready", what="B to be back")
    assert server.phases()["org/A"] == "Stopped"
    assert "level 1 did not work when it was tried" in server.log()


def test_the_residue_that_was_measured_is_kept_for_the_next_server(start_server):
    server = start_server(TWO % "", "--simulate", "8GiB")
    server.chat("org/A")
    server.chat("org/B")
    assert server.phases()["org/A"] == "Asleep"
    assert server.terminate() == 0
    profiles = json.loads((server.config_dir / "profiles.json").read_text())["profiles"]
    (measured,) = [profile for key, profile in profiles.items() if key.startswith("org/A ")]
    assert measured["asleep_bytes"] == int(0.2 * (1 << 30))
    assert measured["sleep_s"] > 0


def test_an_engine_that_wakes_up_talking_garbage_is_replaced_before_anybody_hears_it(start_server):
    server = start_server(TWO % "wake_garbage", "--simulate", "8GiB")
    before = server.chat("org/A").json()["choices"][0]["message"]["content"]
    server.chat("org/B")
    assert server.phases()["org/A"] == "Asleep"
    after = server.chat("org/A")
    assert after.status_code == 200
    assert after.json()["choices"][0]["message"]["content"] == before
    assert "answers otherwise than before it slept" in server.log()
    server.chat("org/B")
    assert server.phases()["org/A"] == "Stopped"  # that level is not trusted any more


def test_the_second_start_is_told_the_kv_cache_that_fits_beside_what_the_first_one_took(start_server):
    """Sized by itself it would take what happens to be free, and another amount each time."""
    server = start_server("models: {org/A: {memory: 4GiB}}", "--simulate", "8GiB")
    for expected in (None, int(0.3 * (4 << 30)) - (128 << 20)):
        assert server.chat("org/A").status_code == 200
        argv = Path(f"/proc/{server.ps()['org/A']['pid']}/cmdline").read_text().split("\0")
        told = int(argv[argv.index("--kv-cache-memory-bytes") + 1]) if "--kv-cache-memory-bytes" in argv else None
        assert told == (None if expected is None else pytest.approx(expected, abs=64 << 20))  # its log rounds
        server.http.post(f"{server.url}/admin/models/org/A/stop")
        wait_until(lambda: server.phases()["org/A"] == "Stopped", what="A to be gone")
