"""What an engine answers is what its client gets, on every path, byte for byte and wherever the network cuts.

The answers are those of simulated engines, recorded once with all their framing and played again through the gateway.
"""

import asyncio
import json
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.contract.test_shapes import CASES
from tests.gateway.house import MODEL, House, live, post
from tests.gateway.test_forms import END, SOUND, field
from tests.gateway.upstream import Exchange
from tests.gateway.wire.test_framing import cut
from tests.simulator.engines import Engine, launch
from vllama.controller.demand import Endpoint
from vllama.domain.units import MIB
from vllama.gateway.paths import ROUTES

JSON = "content-type: application/json\r\n"
FORM = "content-type: multipart/form-data; boundary=xyz\r\n"
# Of the paths that no case of the contract is about, one request each.
FURTHER = {
    "detokenize": ("chat", "/detokenize", {"tokens": [0x0163, 0x01C3A9]}),
    "batch": ("chat", "/v1/chat/completions/batch", {"messages": [[]]}),
    "generative_scoring": ("chat", "/generative_scoring", {}),
    "systemone": ("chat", "/v1/systemone", {}),
    "embed": ("embedder", "/v2/embed", {"texts": ["a"]}),
    "refused": ("chat", "/v1/chat/completions", {"messages": 7}),
    "lacking": ("embedder", "/v1/chat/completions", {}),
    "long": ("long", "/v1/chat/completions", {"stream": True}),
}
SOUNDS = {
    "transcription": ("listener", "/v1/audio/transcriptions", b""),
    "transcription_stream": ("listener", "/v1/audio/transcriptions", field(b"stream", b"true")),
    "translation": ("listener", "/v1/audio/translations", field(b"stream", b"true")),
}
JSON_CASES = FURTHER | {
    case.name: (case.engine, case.path, case.body)
    for case in CASES
    if case.body is not None and case.path.encode() in ROUTES
}
REQUESTS = {
    name: (engine, path, JSON, json.dumps(body | {"model": MODEL}).encode())
    for name, (engine, path, body) in JSON_CASES.items()
} | {
    name: (engine, path, FORM, SOUND + more + field(b"model", MODEL.encode()) + END)
    for name, (engine, path, more) in SOUNDS.items()
}
NAMES = sorted(REQUESTS.keys() - {"long"})
CUTS = st.lists(st.integers(min_value=0, max_value=20_000), max_size=25)
CLOSE = b"\r\nconnection: close"
MOODS = (rb'"created(?:_at)?":\d+', rb"[0-9a-f]{16,}", rb"content-length: \d+|date: [^\r]*")


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Engine]]:
    directory = tmp_path_factory.mktemp("engines")
    models = {"chat": "tiny/chat", "embedder": "tiny/embed", "reranker": "tiny/rerank", "listener": "tiny/voxtral"}
    begun = {
        name: launch(directory / f"{name}.log", "--served-model-name", MODEL, model=model)
        for name, model in models.items()
    }
    begun["long"] = launch(
        directory / "long.log", "--served-model-name", MODEL, VLLAMA_SIM_FAULTS="long_line"
    )  # fmt: skip
    yield {name: engine.wait_ready() for name, engine in begun.items()}
    for engine in begun.values():
        engine.stop()


@pytest.fixture(scope="module")
def recorded(engines: Mapping[str, Engine]) -> Mapping[str, bytes]:
    return {
        name: ask(engines[engine].port, path, headers, body) for name, (engine, path, headers, body) in REQUESTS.items()
    }


def ask(port: int, path: str, headers: str, body: bytes) -> bytes:
    """The whole answer, as it came over the wire but for the word that this connection ends."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as connection:
        connection.sendall(post(body, target=path, headers=headers + "connection: close\r\n"))
        pieces = []
        while piece := connection.recv(MIB):
            pieces.append(piece)
    return b"".join(pieces).replace(CLOSE, b"", 1)


async def played(here: House, name: str, answer: bytes, cuts: list[int]) -> bytes:
    """What a client of the gateway gets when an engine sends `answer` in such pieces."""

    async def script(exchange: Exchange) -> None:
        for piece in cut(answer, cuts):
            exchange.send(piece)
            await asyncio.sleep(0)

    _, path, headers, body = REQUESTS[name]
    here.upstream.script = script
    here.open()
    reader, writer = await here.raw(post(body, target=path, headers=headers + "connection: close\r\n"))
    whole = await asyncio.wait_for(reader.read(), 20)
    writer.close()
    return whole


def same(got: bytes, sent: bytes) -> None:
    """Status, type and every byte of the body, its chunks included."""
    head, _, body = got.partition(b"\r\n\r\n")
    engines_head, _, engines_body = sent.partition(b"\r\n\r\n")
    assert head.split()[1] == engines_head.split()[1]
    assert types(head) == types(engines_head)
    assert len(body) == len(engines_body)
    assert body == engines_body


def types(head: bytes) -> list[bytes]:
    return [
        line for line in head.split(b"\r\n") if line.startswith((b"content-type:", b"transfer-encoding:", b"vary:"))
    ]


def test_there_is_a_request_for_every_path() -> None:
    assert {path.encode() for _, path, _, _ in REQUESTS.values()} == ROUTES.keys()


@pytest.mark.parametrize("name", NAMES)
def test_whole_and_byte_by_byte(recorded: Mapping[str, bytes], name: str) -> None:
    async def test(here: House) -> None:
        answer = recorded[name]
        for cuts in ([], list(range(1, min(len(answer), 3000)))):
            same(await played(here, name, answer, cuts), answer)

    live(test)


@settings(max_examples=30)
@given(st.sampled_from(NAMES), CUTS)
def test_wherever_the_network_cuts(recorded: Mapping[str, bytes], name: str, cuts: list[int]) -> None:
    async def test(here: House) -> None:
        same(await played(here, name, recorded[name], cuts), recorded[name])

    live(test)


def test_in_the_middle_of_every_letter_of_two_bytes(recorded: Mapping[str, bytes]) -> None:
    async def test(here: House) -> None:
        letters = 0
        for name in ("chat_stream", "message_stream", "response_stream", "transcription_stream", "detokenize"):
            answer = recorded[name]
            inside = [found.start() + 1 for found in re.finditer(rb"[\xc2-\xdf][\x80-\xbf]", answer)]
            letters += len(inside)
            same(await played(here, name, answer, inside), answer)
        assert letters

    live(test)


@settings(max_examples=5)
@given(st.lists(st.integers(min_value=0, max_value=10 * MIB), max_size=8))
def test_a_line_of_ten_megabytes(recorded: Mapping[str, bytes], cuts: list[int]) -> None:
    async def test(here: House) -> None:
        answer = recorded["long"]
        assert len(answer) > 10_000_000
        same(await played(here, "long", answer, cuts), answer)

    live(test)


@pytest.mark.parametrize("name", NAMES)
def test_a_living_engine_answers_through_the_gateway_as_it_does_itself(
    engines: Mapping[str, Engine], name: str
) -> None:
    """But for what it makes up anew each time: ids and the time."""

    def without_moods(answer: bytes) -> bytes:
        for mood in MOODS:
            answer = re.sub(mood, b"*", answer)
        return answer.partition(b"\r\n\r\n")[2]

    async def test(here: House) -> None:
        engine, path, headers, body = REQUESTS[name]
        port = engines[engine].port
        here.control.board.open(MODEL, Endpoint(engine_id="e1", host="127.0.0.1", port=port, served_name=MODEL))
        itself = await asyncio.to_thread(ask, port, path, headers, body)
        through = await asyncio.to_thread(ask, here.port, path, headers, body)
        assert without_moods(through) == without_moods(itself)
        assert through.split()[1] == itself.split()[1]

    live(test)
