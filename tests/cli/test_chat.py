"""`vllama run`: one answer, a pipe, a conversation."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from tests.cli.scripted import ScriptedServer
from vllama.cli.app import app
from vllama.cli.chat import Talk, converse
from vllama.cli.client import AdminClient

Vllama = Callable[..., Result]


def sse(*chunks: dict[str, object]) -> str:
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


def delta(**said: object) -> dict[str, object]:
    return {"choices": [{"delta": said}]}


USAGE = {"choices": [], "usage": {"total_tokens": 9}}
ANSWER = sse(
    delta(role="assistant"), delta(reasoning_content="hm"), delta(content="[bold]Hi\x1b[31m"), delta(content=" there"),
    {"choices": [{"delta": {}, "finish_reason": "stop"}]}, USAGE,
)  # fmt: skip
REFUSED = {"error": {"message": "There is no model 'x'.", "code": "model_not_found"}}


def asked(server: ScriptedServer) -> list[list[dict[str, str]]]:
    return [body["messages"] for method, path, body in server.requests if path == "/v1/chat/completions"]


def test_one_question_one_answer_as_it_is(vllama: Vllama, server: ScriptedServer) -> None:
    server.asked = 200, ANSWER
    result = vllama("run", "a", "Say", "hi", "--system", "Be brief.", "--server", server.url)
    assert (result.exit_code, result.stdout) == (0, "[bold]Hi[31m there\n")
    assert asked(server) == [[{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Say hi"}]]
    answer = json.loads(vllama("run", "a", "Say hi", "-o", "json", "--server", server.url).stdout)
    assert (answer["content"], answer["finish_reason"]) == ("[bold]Hi\x1b[31m there", "stop")
    assert answer["usage"] == {"total_tokens": 9}


def test_what_comes_through_a_pipe_belongs_to_the_question(server: ScriptedServer) -> None:
    server.asked = 200, ANSWER
    CliRunner().invoke(app, ["run", "a", "Sum up:", "--server", server.url], input="one\ntwo\n")
    CliRunner().invoke(app, ["run", "a", "--server", server.url], input="only this\n")
    assert [messages[0]["content"] for messages in asked(server)] == ["Sum up:\n\none\ntwo", "only this"]


def test_without_any_question_it_is_a_wrong_command_line(vllama: Vllama, server: ScriptedServer) -> None:
    assert vllama("run", "a", "--server", server.url).exit_code == 2
    assert server.requests == []


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((404, REFUSED), "There is no model 'x'."),
        ((200, sse(delta(content="Hal"), {"error": {"message": "The engine of org/a died."}})), "org/a died."),
    ],
)
def test_what_goes_wrong_is_said(vllama: Vllama, server: ScriptedServer, answer: tuple[int, object], says: str) -> None:
    server.asked = answer
    result = vllama("run", "x", "Hi", "--server", server.url)
    assert result.exit_code == 1
    assert result.stderr.startswith("error: ")
    assert says in result.stderr


def typed(*lines: str) -> Callable[[str], str]:
    remaining: Iterator[str] = iter(lines)

    def read(prompt: str) -> str:
        try:
            return next(remaining)
        except StopIteration:
            raise EOFError from None

    return read


def test_a_conversation_remembers_and_forgets(server: ScriptedServer) -> None:
    server.asked = 200, ANSWER
    with AdminClient(server.url) as client:
        talk = Talk(client, "a")
        lines = ("one", "", '"""two', 'lines"""', "/clear", "/system Be kind.", "/nonsense", "three", "/bye", "never")
        converse(talk, typed(*lines))
    seen = [[message["content"] for message in messages] for messages in asked(server)]
    said = "[bold]Hi\x1b[31m there"
    assert seen == [["one"], ["one", said, "two\nlines"], ["Be kind.", "three"]]


@pytest.mark.parametrize("word", ["/exit", "/quit", "/bye", "exit", "quit"])
def test_every_word_of_the_older_tool_leaves(server: ScriptedServer, word: str) -> None:
    with AdminClient(server.url) as client:
        converse(Talk(client, "a"), typed(word, "never"))
    assert asked(server) == []


def test_a_turn_that_failed_is_not_remembered(server: ScriptedServer, capsys: pytest.CaptureFixture[str]) -> None:
    with AdminClient(server.url) as client:
        server.asked = 404, REFUSED
        talk = Talk(client, "x")
        converse(talk, typed("one"))
        assert talk.said == []
        assert "There is no model 'x'." in capsys.readouterr().err
        server.asked = 200, ANSWER
        pieces = talk.ask("two")
        next(pieces)
        next(pieces)
        pieces.close()  # cut short
        assert [message["content"] for message in talk.said] == ["two", "[bold]Hi\x1b[31m"]


def test_on_a_real_terminal(server: ScriptedServer) -> None:
    server.asked = 200, ANSWER
    master, slave = pty.openpty()
    environ = {**os.environ, "TERM": "xterm", "NO_COLOR": ""}
    command = subprocess.Popen(
        [sys.executable, "-m", "vllama", "run", "a", "--server", server.url], stdin=slave, stdout=slave, stderr=slave,
        env=environ,
    )  # fmt: skip
    os.close(slave)
    os.write(master, b"hello\n/exit\n")
    shown = b""
    try:
        while chunk := os.read(master, 4096):
            shown += chunk
    except OSError:  # the other end is closed
        pass
    assert command.wait(20) == 0
    os.close(master)
    assert b"\x1b[2mhm\x1b[0m" in shown
    assert b"[bold]Hi[31m there" in shown
