"""What became of models is told, also by the server that comes after."""

from tests.waiting import wait_until

MODELS = "models: {org/A: {memory: 6GiB}, org/B: {memory: 6GiB}}"


def spans(server, model):
    found = server.http.get(f"{server.url}/admin/history").json()["spans"]
    return [(span["phase"], span["reason"]) for span in found if span["model"] == model]


def test_a_swap_is_remembered_with_its_reasons_after_a_restart(start_server, tmp_path):
    server = start_server(MODELS, "--simulate", "8GiB")
    assert server.chat("org/A").status_code == 200
    assert server.chat("org/B").status_code == 200
    wait_until(lambda: spans(server, "org/B")[-1:] == [("Ready", "Demanded")], what="org/B to be seen ready")
    was = spans(server, "org/A")
    assert was == [("Starting", "Demanded"), ("Ready", "Demanded"), ("Draining", "Evicted"), ("Asleep", "Evicted")]
    assert server.terminate() == 0
    assert (tmp_path / "config" / "history.jsonl").read_bytes().endswith(b'"begun":false}\n')
    again = start_server(MODELS, "--simulate", "8GiB")
    told = again.http.get(f"{again.url}/admin/history").json()
    assert spans(again, "org/A") == was
    assert all(span["to_s"] is not None for span in told["spans"])
    assert len(told["began_s"]) == 2
