"""`keep_alive` and `ttl` in a body: what they mean, that they hold, and that no engine sees them."""

import asyncio

import pytest

from tests.gateway.house import CHAT, MODEL, House, live, until
from vllama.domain.demand import KeepAlive
from vllama.gateway.keep_alive import keep_alive_of
from vllama.gateway.names import said_in

FOR_EVER = KeepAlive(idle_s=None)


def read(members: str) -> KeepAlive | None:
    return keep_alive_of(said_in(b'{"model":"m",%s}' % members.encode()))


@pytest.mark.parametrize(
    ("members", "idle_s"),
    [
        ('"keep_alive":"5m"', 300.0),
        ('"keep_alive":"1h30m"', 5400.0),
        ('"keep_alive":"1.5h"', 5400.0),
        ('"keep_alive":"500ms"', 0.5),
        ('"keep_alive":"300"', 300.0),
        ('"keep_alive":300', 300.0),
        ('"keep_alive":0', 0.0),
        ('"keep_alive":"0"', 0.0),
        ('"ttl":60', 60.0),
        ('"ttl":2.5', 2.5),
        ('"ttl":60,"keep_alive":10', 10.0),
        ('"keep_alive":null,"ttl":60', 60.0),
        ('"keep_alive":1,"keep_alive":2', 2.0),
    ],
)
def test_how_long_a_model_is_to_stay(members: str, idle_s: float) -> None:
    assert read(members) == KeepAlive(idle_s=idle_s)


@pytest.mark.parametrize(
    "members", ['"keep_alive":-1', '"keep_alive":"-1"', '"keep_alive":"-1m"', '"ttl":-1', '"keep_alive":1e300',
                '"keep_alive":' + "9" * 300, '"ttl":-' + "9" * 300],
)  # fmt: skip
def test_for_ever(members: str) -> None:
    assert read(members) == FOR_EVER


@pytest.mark.parametrize("members", ['"x":1', '"keep_alive":null', '"ttl":null,"keep_alive":null'])
def test_nothing_is_said(members: str) -> None:
    assert read(members) is None


@pytest.mark.parametrize(
    "value", ['"soon"', '""', "true", "[5]", "{}", '"5 parsecs"', '"--1"', '"inf"', '"nan"', '"' + "9" * 99 + '"']
)
@pytest.mark.parametrize("key", ["keep_alive", "ttl"])
def test_what_is_no_duration_is_a_400_that_says_what_is(key: str, value: str) -> None:
    async def test(here: House) -> None:
        answer = await here.http.post(CHAT, content=f'{{"model":"{MODEL}","{key}":{value}}}'.encode())
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_request")
        assert answer.json()["error"]["message"].startswith(f"{key} is not a duration; write for example")
        assert here.waiting == 0

    live(test)


def test_the_engine_sees_the_rest_byte_for_byte_and_the_model_stays_as_was_said() -> None:
    async def test(here: House) -> None:
        said = b'{"model":"%s", "temperature":1.10,"keep_alive":"1h","x":[1,\t2]}'
        waiting = asyncio.ensure_future(here.http.post(CHAT, content=said % b"tiny"))
        await until(lambda: here.waiting == 1)
        assert here.control.board.demand_of(MODEL).keep_alive is None
        here.open()
        rest = b'{"model":"%s", "temperature":1.10,"x":[1,\t2]}' % MODEL.encode()
        assert (await waiting).content == rest
        assert here.control.board.demand_of(MODEL).keep_alive == KeepAlive(idle_s=3600.0)
        assert (await here.http.post(CHAT, content=said % MODEL.encode())).content == rest
        assert (await here.chat()).status_code == 200
        assert here.control.board.demand_of(MODEL).keep_alive == KeepAlive(idle_s=3600.0)
        assert (await here.chat({"model": MODEL, "ttl": -1})).json() == {"model": MODEL}
        assert here.control.board.demand_of(MODEL).keep_alive == FOR_EVER

    live(test)


def test_out_of_a_long_body_too() -> None:
    async def test(here: House) -> None:
        here.open()
        long = b'{"image":"%b","keep_alive":0,"model":"tiny"}' % (b"A" * 2_000_000)
        answer = await here.http.post(CHAT, content=long)
        assert answer.content == long.replace(b'"keep_alive":0,', b"").replace(b"tiny", MODEL.encode())

    live(test)


def test_in_a_form_it_is_a_field() -> None:
    async def test(here: House) -> None:
        here.open()
        form = {"model": (None, "tiny"), "keep_alive": (None, "1h"), "file": ("a.wav", b"RIFF")}
        answer = await here.http.post("/v1/audio/transcriptions", files=form)
        assert answer.status_code == 200
        assert b"keep_alive" not in answer.content
        assert b"RIFF" in answer.content
        assert here.control.board.demand_of(MODEL).keep_alive == KeepAlive(idle_s=3600.0)
        form["keep_alive"] = (None, "soon")
        refused = await here.http.post("/v1/audio/transcriptions", files=form)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")

    live(test)
