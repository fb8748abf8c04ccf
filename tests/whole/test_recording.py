"""A server's own history becomes a trace, and the trace is replayed."""

import json

from tests.whole.server import vllama
from vllama.replay.trace import read_trace

TWO = "models:\n  org/A: {memory: 3GiB, aliases: [a]}\n  org/B: {memory: 3GiB}\n"


def test_what_was_asked_is_exported_and_replayed(start_server, tmp_path):
    server = start_server(TWO, "--simulate", "4GiB")
    for model in ("a", "org/B", "org/A"):
        assert server.chat(model, messages=[{"role": "user", "content": "top secret"}]).status_code == 200
    assert server.chat("org/none").status_code == 404
    assert server.terminate() == 0
    home = str(server.config_dir)
    assert "secret" not in (server.config_dir / "requests.csv").read_text()

    trace = tmp_path / "day.csv"
    said = vllama("trace", "export", "--config-dir", home, "--to", str(trace))
    assert (said.returncode, said.stdout) == (0, f"{trace}: 3 requests for 2 models.\n")
    found = read_trace(trace)
    assert [request.model for request in found] == ["org/A", "org/B", "org/A"]
    assert found.requests[0].at_s == 0
    anonymous = vllama("trace", "export", "--config-dir", home, "--anonymous", "--since", "1h").stdout
    assert [line.split(",")[1] for line in anonymous.splitlines()] == ["model", "model-1", "model-2", "model-1"]

    replayed = vllama("simulate", str(trace), "-d", "4GiB", "--config-dir", home, "-p", "lru", "-o", "json")
    said = json.loads(replayed.stdout)
    assert said["assumed"] == ["org/B"]  # which was never woken: all else the server has learned
    assert [said["policies"][0][what] for what in ("served", "starts", "swaps")] == [3, 2, 3]


def test_where_it_is_not_wished_nothing_is_kept(start_server):
    server = start_server(TWO, "--simulate", "4GiB", "--no-record-requests")
    assert server.chat("a").status_code == 200
    assert server.terminate() == 0
    assert not (server.config_dir / "requests.csv").exists()
    said = vllama("trace", "export", "--config-dir", str(server.config_dir))
    assert said.returncode == 1
    assert "No request was recorded" in said.stderr
