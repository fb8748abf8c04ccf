"""Sound, as a form and as a conversation."""

import base64
import json
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.wire.ear import masked, offer
from tests.simulator.engines import Engine, launch

SOUND = {"file": ("a.wav", bytes(40_000), "audio/wav")}


@pytest.fixture(scope="module")
def listener(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = launch(tmp_path_factory.mktemp("ear") / "engine.log", "--served-model-name", "ear", model="tiny/voxtral")
    yield engine.wait_ready()
    engine.stop()


def test_a_sound_is_written_down(listener: Engine) -> None:
    assert "Supported tasks: ['generate', 'transcription', 'realtime']" in listener.log()
    answer = listener.http.post("/v1/audio/transcriptions", files=SOUND, data={"model": "ear"})
    assert list(answer.json()) == ["text", "usage"]
    assert answer.json()["usage"] == {"type": "duration", "seconds": 2}
    other = listener.http.post("/v1/audio/translations", files=SOUND, data={"language": "en"})
    assert list(other.json()) == ["text"]
    assert other.json()["text"] != answer.json()["text"]


def test_piece_by_piece(listener: Engine) -> None:
    answer = listener.http.post("/v1/audio/transcriptions", files=SOUND, data={"stream": "true"})
    events = [event.removeprefix("data: ") for event in answer.text.strip().split("\n\n")]
    assert events.pop() == "[DONE]"
    chunks = [json.loads(event) for event in events]
    assert {chunk["object"] for chunk in chunks} == {"transcription.chunk"}
    whole = listener.http.post("/v1/audio/transcriptions", files=SOUND).json()["text"]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in chunks) == whole
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_what_it_does_not_take(listener: Engine) -> None:
    assert listener.http.post("/v1/audio/transcriptions", json={"model": "ear"}).status_code == 400
    assert listener.http.post("/v1/audio/transcriptions", data={"model": "ear"}, files={"x": b""}).status_code == 400
    answer = listener.http.post("/v1/audio/transcriptions", files=SOUND, data={"model": "nope"})
    assert (answer.status_code, answer.json()["error"]["type"]) == (404, "NotFoundError")


class Conversation:
    def __init__(self, engine: Engine) -> None:
        self._socket = socket.create_connection(("127.0.0.1", engine.port), timeout=engine.patience_s)
        self._file = self._socket.makefile("rb")
        self._socket.sendall(offer("?model=whatever"))
        self.status = int(self._file.readline().split()[1])
        while self._file.readline() != b"\r\n":
            pass

    def say(self, **event: object) -> None:
        self._socket.sendall(masked(1, json.dumps(event).encode()))

    def hear(self) -> dict:
        first, size = self._file.read(2)
        assert first == 0x81
        return json.loads(self._file.read(int.from_bytes(self._file.read(2)) if size == 126 else size))

    def close(self) -> bytes:
        self._socket.sendall(masked(8, b""))
        rest = self._file.read()
        self._socket.close()
        return rest


def test_a_conversation(listener: Engine) -> None:
    talk = Conversation(listener)
    assert (talk.status, talk.hear().keys()) == (101, {"type", "id", "created"})
    talk.say(type="input_audio_buffer.commit")
    assert talk.hear()["code"] == "model_not_validated"
    for event, code in (
        ({"type": "session.update"}, "invalid_event"),
        ({"type": "session.update", "model": "nope"}, "model_not_found"),
        ({"type": "input_audio_buffer.append", "audio": "?"}, "invalid_audio"),
        ({"type": "what"}, "unknown_event"),
    ):
        talk.say(**event)
        assert talk.hear()["code"] == code
    talk.say(type="session.update", model="ear")
    for _ in range(2):  # one after the other over one connection
        talk.say(type="input_audio_buffer.commit")
        talk.say(type="input_audio_buffer.append", audio=base64.b64encode(bytes(100_000)).decode())
        talk.say(type="input_audio_buffer.commit", final=True)
        heard = ""
        while (event := talk.hear())["type"] == "transcription.delta":
            heard += event["delta"]
        assert (event["type"], event["text"]) == ("transcription.done", heard)
    assert talk.close() == b"\x88\x00"


def test_who_does_not_listen_refuses_the_conversation(shared_chat: Engine) -> None:
    assert Conversation(shared_chat).status == 403


def test_whisper_only_writes_down(tmp_path: Path) -> None:
    engine = launch(tmp_path / "engine.log", model="openai/whisper-tiny").wait_ready()
    try:
        assert engine.http.post("/v1/audio/transcriptions", files=SOUND).status_code == 200
        assert engine.http.post("/v1/chat/completions", json={}).status_code == 404
        assert Conversation(engine).status == 403
    finally:
        engine.stop()
