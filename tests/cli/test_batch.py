"""`vllama batch`: a file of requests, model by model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from tests.cli.answers import a_running, a_status
from tests.cli.scripted import ScriptedServer

Vllama = Callable[..., Result]


def line(name: str, model: str, **over: object) -> str:
    body = {"model": model, "messages": []}
    return json.dumps({"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": body, **over})


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("\n".join([line("1", "org/a"), line("2", "org/b"), line("3", "org/a"), line("4", "b")]) + "\n")
    return path


def posted(server: ScriptedServer) -> list[str]:
    return [body["model"] for method, path, body in server.requests if path == "/v1/chat/completions"]


def test_model_by_model_and_who_is_awake_first(
    vllama: Vllama, server: ScriptedServer, requests: Path, tmp_path: Path
) -> None:
    server.statuses, server.asked = [[a_status("org/a"), a_running("org/b", aliases=["b"])]], (200, {"choices": []})
    out = tmp_path / "out.jsonl"
    result = vllama("batch", requests, out, "-j", "1", "--server", server.url)
    assert (result.exit_code, result.stdout) == (0, f"4 answers in {out}.\n")
    assert posted(server) == ["org/b", "b", "org/a", "org/a"]
    answers = [json.loads(text) for text in out.read_text().splitlines()]
    assert answers[0] == {
        "id": "batch_req_2", "custom_id": "2", "error": None,
        "response": {"status_code": 200, "request_id": "", "body": {"choices": []}},
    }  # fmt: skip
    again = vllama("batch", requests, out, "--server", server.url, "-o", "json")
    assert json.loads(again.stdout) == {"answered": 0, "failed": 0, "results": str(out)}
    assert len(posted(server)) == 4


def test_what_failed_is_told_and_tried_again(
    vllama: Vllama, server: ScriptedServer, requests: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text(json.dumps({"custom_id": "1", "error": None}) + '\n{"custom_id": "2", "err')  # cut short
    server.asked = 503, {"error": {"message": "Needs 30 GiB."}}
    result = vllama("batch", requests, out, "--server", server.url)
    assert result.exit_code == 1
    assert "3 requests failed" in result.stderr
    answers = [json.loads(text) for text in out.read_text().splitlines()[2:]]
    assert {(answer["custom_id"], answer["error"]["message"]) for answer in answers} == {
        (name, "Needs 30 GiB.") for name in "234"
    }
    server.asked = 200, {}
    assert vllama("batch", requests, out, "--server", server.url).stdout == f"3 answers in {out}.\n"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "in.jsonl:1: not JSON"),
        (line("1", "a") + "\n" + line("1", "a"), "in.jsonl:2: the custom_id '1' is used twice"),
        (line("1", "a", url="/sleep"), "in.jsonl:1: url is '/sleep'"),
        (line("1", "a", body={"model": "a", "stream": True}), "no use for `stream`"),
        (line("1", "a", body={}), "in.jsonl:1: not of the form"),
    ],
)
def test_a_wrong_file_is_told_before_anything_is_asked(
    vllama: Vllama, server: ScriptedServer, tmp_path: Path, text: str, says: str
) -> None:
    (tmp_path / "in.jsonl").write_text(text)
    result = vllama("batch", tmp_path / "in.jsonl", tmp_path / "out.jsonl", "--server", server.url)
    assert result.exit_code == 1
    assert says in result.stderr
    assert server.requests == []


def test_files_that_are_not_there(vllama: Vllama, server: ScriptedServer, tmp_path: Path, requests: Path) -> None:
    assert vllama("batch", tmp_path / "none", tmp_path / "out", "--server", server.url).exit_code == 1
    result = vllama("batch", requests, tmp_path / "no" / "out", "--server", server.url)
    assert (result.exit_code, "cannot be written" in result.stderr) == (1, True)
