"""What a line of the log of requests tells, and that nothing in it does anything to who reads it."""

import json

import pytest

from vllama.gateway.access.line import ForEyes, Json, Lines, plain
from vllama.gateway.forwarded import proxies
from vllama.gateway.keys.key import Key, Scope, digest_of
from vllama.gateway.keys.ring import Keyring
from vllama.gateway.metrics.finished import Finished
from vllama.gateway.wire.request import parse

RING = {digest_of(b"secret-1"): Key(name="ann", scope=Scope.MODELS)}
AT = 1_700_000_000.25


def request(target=b"/v1/chat/completions?api_key=hidden", *headers):
    head = b"\r\n".join((b"POST %b HTTP/1.1" % target, b"host: x", *headers))
    return parse(head, most_headers=100)[0]


def over(**more):
    known = {"request": request(), "client": "10.0.0.9", "model": "org/A", "outcome": "ok", "status": 200}
    return Finished(**(known | more))


def told(one, believed="", *, render=Json):
    lines = Lines(keyring=Keyring(ring=RING), proxies=proxies(believed))
    return render(lambda: AT)(lines.of(one))


def test_all_of_it():
    one = over(
        request=request(b"/v1/chat/completions?api_key=hidden", b"User-Agent: curl/8", b"X-Api-Key: secret-1"),
        wait_s=1.23456, first_byte_s=0.0123, duration_s=2.0, request_bytes=10, answer_bytes=20, usage=(3, 4),
    )  # fmt: skip
    line = told(one)
    assert line.endswith(b"}\n")
    assert json.loads(line) == {
        "event": "request", "level": "info", "timestamp": "2023-11-14T22:13:20.250000Z", "method": "POST",
        "path": "/v1/chat/completions", "model": "org/A", "status": 200, "outcome": "ok", "wait_ms": 1234.6,
        "ttft_ms": 12.3, "duration_ms": 2000.0, "bytes_in": 10, "bytes_out": 20, "prompt_tokens": 3,
        "completion_tokens": 4, "client": "10.0.0.9", "key": "ann", "user_agent": "curl/8",
    }  # fmt: skip
    assert b"secret" not in line
    assert b"hidden" not in line


def test_what_does_not_apply():
    line = json.loads(told(over(request=None, model="", outcome="refused", status=400)))
    assert (line["method"], line["path"], line["model"]) == ("", "", "")
    assert {name for name, value in line.items() if value is None} == {
        "ttft_ms", "prompt_tokens", "completion_tokens", "key", "user_agent",
    }  # fmt: skip


ODD = [
    b"\x1b[31mred", b"a\nb", b"a\rb", b"\x00", b"\x7f", b"\x9b31m", "\x9b31m".encode(), "\u202eturned".encode(), b"\t",
    b"\xff\xfe", "é".encode(),
]  # fmt: skip


@pytest.mark.parametrize("text", ODD)
def test_control_characters_are_escaped(text):
    shown = plain(text)
    assert shown.isascii()
    assert shown.isprintable()
    assert "\\x" in shown or "\\u" in shown or "\\n" in shown or "\\r" in shown or "\\t" in shown


@pytest.mark.parametrize("render", [Json, ForEyes])
def test_in_a_whole_line_too(render):
    head = request(b"/v1/chat/completions", b"User-Agent: \x9b\xe2\x80\xae a\tb")
    line = told(over(request=head, model="\x1b[2J\n"), render=render).decode()
    assert line.count("\n") == 1
    assert line[:-1].isprintable()
    assert line.isascii()


def test_long_values_have_an_end():
    assert plain(b"a" * 1000) == "a" * 200 + "..."


def test_for_eyes():
    one = over(first_byte_s=0.25, duration_s=1.5, request=request(b"/v1/completions", b"user-agent: a b"))
    line = told(one, render=ForEyes).decode()
    assert line.split("]", 1)[1] == (
        " request                method=POST path=/v1/completions model=org/A status=200 outcome=ok wait_ms=0"
        " ttft_ms=250 duration_ms=1500 bytes_in=0 bytes_out=0 client=10.0.0.9 user_agent='a b'\n"
    )


@pytest.mark.parametrize(
    ("believed", "client"),
    [("", "10.0.0.9"), ("10.0.0.9", "1.2.3.4"), ("10.0.0.0/8", "1.2.3.4"), ("10.0.0.8", "10.0.0.9")],
)
def test_the_client_is_who_a_believed_proxy_says(believed, client):
    one = over(request=request(b"/v1/completions", b"X-Forwarded-For: 1.2.3.4"))
    assert json.loads(told(one, believed))["client"] == client


def test_a_user_agent_is_found_in_a_long_head_too():
    one = over(request=request(b"/v1/completions", b"x-long: " + b"x" * 5000, b"User-Agent: late"))
    assert json.loads(told(one))["user_agent"] == "late"
