"""What vLLM can do beside chat, through the whole server: adapters, tasks, responses in the background, sound."""

import asyncio
import json
from urllib.parse import urlsplit

from tests.gateway.wire.ear import Mouth, offer
from tests.waiting import wait_until
from tests.whole.server import serve

ADAPTERS = """
models:
  org/A: {memory: 2GiB, aliases: [a], lora: {sql: /adapters/sql%s}}
  org/B: {memory: 2GiB}
"""


def test_an_adapter_is_called_like_a_model_and_a_new_one_restarts_its_model_alone(start_server):
    server = start_server(ADAPTERS % "", "--simulate", "8GiB")
    for name in ("sql", "a", "org/B"):
        assert server.chat(name).json()["model"] == {"a": "org/A"}.get(name, name)
    listed = {one["id"]: one["parent"] for one in server.http.get(f"{server.url}/v1/models").json()["data"]}
    assert listed == {"org/A": None, "a": None, "sql": "org/A", "org/B": None}
    before = server.ps()
    (server.config_dir / "models.yaml").write_text(ADAPTERS % ", pirate: /adapters/pirate")
    wait_until(lambda: "pirate" in server.ps()["org/A"]["adapters"], what="the file to be read")
    assert server.chat("pirate").json()["model"] == "pirate"
    after = server.ps()
    assert after["org/A"]["pid"] != before["org/A"]["pid"]
    assert after["org/B"]["pid"] == before["org/B"]["pid"]


def test_what_a_model_cannot_do_is_known_before_its_next_start(start_server):
    server = start_server("models: {tiny/embed: {memory: 2GiB}}", "--simulate", "8GiB")
    asked = {"model": "tiny/embed", "input": "hello"}
    assert server.http.post(f"{server.url}/v1/embeddings", json=asked).status_code == 200
    assert server.chat("tiny/embed").status_code == 400
    assert server.terminate() == 0
    again = serve(server.config_dir, (server.config_dir / "models.yaml").read_text(), "--simulate", "8GiB")
    try:
        refused = again.chat("tiny/embed")
        assert refused.status_code == 400
        assert refused.json()["error"]["message"].endswith("the tasks of this one are: embed, token_embed.")
        assert again.phases() == {"tiny/embed": "Stopped"}
    finally:
        again.close()


def test_a_response_in_the_background_is_finished_before_its_model_makes_room(start_server):
    models = "models: {org/A: {memory: 6GiB}, org/B: {memory: 6GiB}}"
    env = {"VLLM_ENABLE_RESPONSES_API_STORE": "1", "VLLAMA_SIM_TOKEN_S": "0.05"}
    server = start_server(models, "--simulate", "8GiB", **env)
    body = {"model": "org/A", "input": "hello", "background": True, "max_output_tokens": 30}
    made = server.http.post(f"{server.url}/v1/responses", json=body).json()
    assert (made["status"], server.ps()["org/A"]["in_flight"]) == ("queued", 1)
    assert server.chat("org/B", max_tokens=1).status_code == 200
    assert server.phases()["org/A"] == "Asleep"
    found = server.http.get(f"{server.url}/v1/responses/{made['id']}").json()
    assert (found["status"], found["usage"]["output_tokens"]) == ("incomplete", 30)


def test_a_model_that_listens_is_in_flight_while_it_does(start_server):
    server = start_server("models: {tiny/voxtral: {memory: 2GiB, aliases: [ear]}}", "--simulate", "8GiB")
    sound = {"file": ("a.wav", bytes(1000))}
    answer = server.http.post(f"{server.url}/v1/audio/transcriptions", files=sound, data={"model": "ear"})
    assert answer.json()["text"]

    async def talk() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(server.url).port)
        writer.write(offer())
        mouth = Mouth(reader, writer, await reader.readuntil(b"\r\n\r\n"))
        assert (await mouth.hear_event())["type"] == "session.created"
        commit = {"type": "input_audio_buffer.commit"}
        for event in ({"type": "session.update", "model": "ear"}, commit, commit | {"final": True}):
            mouth.say(event)
        assert (await mouth.hear_event())["type"] == "transcription.delta"
        assert (await asyncio.to_thread(server.ps))["tiny/voxtral"]["in_flight"] == 1
        while (event := await mouth.hear_event())["type"] == "transcription.delta":
            pass
        mouth.say((1000).to_bytes(2), opcode=8)
        assert await mouth.hear() == (8, (1000).to_bytes(2))
        assert await mouth.hear_end() == b""
        return json.dumps(event)

    assert "transcription.done" in asyncio.run(talk())
    wait_until(lambda: server.ps()["tiny/voxtral"]["in_flight"] == 0, what="the end to be seen")


def test_a_server_that_stops_does_not_wait_for_those_who_listen(start_server):
    server = start_server("models: {tiny/voxtral: {memory: 2GiB}}", "--simulate", "8GiB")

    async def listen() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(server.url).port)
        writer.write(offer("?model=tiny/voxtral"))
        mouth = Mouth(reader, writer, await reader.readuntil(b"\r\n\r\n"))
        await mouth.hear_event()
        assert await asyncio.to_thread(server.terminate) == 0
        return await mouth.hear_end()

    assert asyncio.run(listen())[2:4] == (1001).to_bytes(2)
    assert not server.engines()
