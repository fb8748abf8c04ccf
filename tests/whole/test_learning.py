"""What is learned of a model by running it, and what comes of that."""

import json
from pathlib import Path

import pytest

from tests.waiting import wait_until


def test_the_residue_that_was_measured_is_kept_for_the_next_server(start_server):
    two = "models: {org/A: {memory: 6GiB, env: {VLLAMA_SIM_RESIDUE: 0.2GiB}}, org/B: {memory: 6GiB}}"
    server = start_server(two, "--simulate", "8GiB")
    server.chat("org/A")
    server.chat("org/B")
    assert server.phases()["org/A"] == "Asleep"
    assert server.terminate() == 0
    profiles = json.loads((server.config_dir / "profiles.json").read_text())["profiles"]
    (measured,) = [profile for key, profile in profiles.items() if key.startswith("org/A ")]
    assert measured["asleep_bytes"] == int(0.2 * (1 << 30))
    assert measured["sleep_s"] > 0


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
