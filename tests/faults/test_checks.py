"""The checks themselves can fail: each is shown what it is there to find."""

import json
import subprocess
import sys

import pytest

from tests.faults.checks import no_escape, strays
from tests.faults.clients import Asking, Kind, _judge
from tests.faults.house import House, stranger
from tests.waiting import wait_until

ASKED = Asking(request_id="1", model="org/a", stream=True, tokens=2)
FIRST, SECOND = ASKED.text.split(" ")
RIGHT = [{"id": "cmpl-1", "choices": [{"text": text}]} for text in (FIRST, f" {SECOND}")]
ERROR = {"error": {"message": "it broke off", "code": "engine_gone"}}


def events(*contents: object, done: bool = True) -> bytes:
    lines = [b"data: " + (each if isinstance(each, bytes) else json.dumps(each).encode()) for each in contents]
    return b"".join(line + b"\n\n" for line in [*lines, *([b"data: [DONE]"] if done else [])])


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (events(*RIGHT), Kind.WHOLE),
        (events(*RIGHT, done=False), Kind.MALFORMED),
        (events(*RIGHT, *RIGHT), Kind.WRONG),
        (events(*RIGHT[::-1]), Kind.WRONG),
        (events({"id": "cmpl-2", "choices": RIGHT[0]["choices"]}, RIGHT[1]), Kind.WRONG),
        (events(RIGHT[0], ERROR, done=False), Kind.BROKE_OFF),
        (events(RIGHT[0], ERROR), Kind.BROKE_OFF),
        (events(RIGHT[0], b'{"choices":[{"text":"caf\xc3', ERROR, done=False), Kind.BROKE_OFF),
        (events(b'{"cho', *RIGHT), Kind.MALFORMED),
        (events(*RIGHT) + events(ERROR, done=False), Kind.MALFORMED),
        (events(*RIGHT) + b"data: ", Kind.MALFORMED),
        (b"", Kind.MALFORMED),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_a_stream_is_held_to_what_it_should_be(body, kind):
    assert _judge(ASKED, 200, body, "")[0] is kind


def test_an_answer_is_held_to_what_it_should_be():
    plain = Asking(request_id="1", model="org/a", tokens=2)
    whole = {"id": "cmpl-1", "choices": [{"text": plain.text}]}
    assert _judge(plain, 200, json.dumps(whole).encode(), "")[0] is Kind.WHOLE
    assert _judge(plain, 200, json.dumps(whole | {"id": "cmpl-2"}).encode(), "")[0] is Kind.WRONG
    assert _judge(plain, 200, json.dumps(whole).encode(), "something comes behind")[0] is Kind.MALFORMED
    assert _judge(plain, 200, b"{", "closed")[0] is Kind.CUT
    assert _judge(plain, 0, b"", "closed")[0] is Kind.REFUSED
    assert _judge(plain, 503, json.dumps(ERROR).encode(), "")[0] is Kind.TOLD
    assert _judge(plain, 503, b"Internal Server Error", "")[0] is Kind.MALFORMED


def test_a_process_that_is_left_is_found(tmp_path):
    house = House(tmp_path / "house")
    assert strays(house, set()) == []
    left = subprocess.Popen(
        [sys.executable, "-c", "import signal; signal.pause()"],
        env={"VLLAMA_SIM_DEVICES": str(house.config_dir / "simulated")},
    )
    other = stranger()
    try:
        (found,) = wait_until(lambda: strays(house, set()), what="it to be found")
        assert f"process {left.pid} without a tag" in found
    finally:
        for each in (left, other):
            each.kill()
            each.wait()


def test_a_file_that_is_elsewhere_is_found(tmp_path):
    house = House(tmp_path / "house")
    house.config_dir.mkdir()
    (house.config_dir / "models.yaml").touch()
    no_escape(house)
    (house.root / "cwd" / "x").touch()
    with pytest.raises(AssertionError):
        no_escape(house)
