"""/v1/realtime: sound in, text out, over a websocket. The events are from vLLM's source."""

import asyncio
import base64
import binascii
import json
import uuid
from collections.abc import Mapping
from typing import Any, cast

from vllama.simulator.answers.generation import make_prompt, random_id, short_usage
from vllama.simulator.core_client import EngineDeadError
from vllama.simulator.middleware import App, Scope, refusal
from vllama.simulator.server_state import ServerState, now
from vllama.simulator.settings import Task
from vllama.simulator.web import to_json
from vllama.simulator.websocket import CLOSE, PING, PONG, TEXT, MessageReader, accept, frame

_REFUSED = b"HTTP/1.1 %d -\r\ncontent-type: text/plain\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class Realtime(asyncio.Protocol):
    """uvicorn makes one for each client that offers to change to a websocket, and feeds it the head of the request."""

    def __init__(self, state: ServerState, gate: App, **_uvicorns: Any) -> None:
        """`gate`: the layers that were named on the command line, which a websocket passes as well."""
        self._state, self._gate = state, gate
        self._begun = False
        self._reader: MessageReader | None = None
        self._chosen = False  # a model, by session.update
        self._sound_bytes = 0
        self._finished = asyncio.Event()  # the client has no more sound
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        if self._reader is None:
            if not self._begun:
                self._begun = True
                self._task = asyncio.create_task(self._shake_hands(data.decode("latin-1")))
            return
        for message in self._reader.feed(data):
            if message.opcode == TEXT:
                self._take(message.payload)
            elif message.opcode == PING:
                self._transport.write(frame(PONG, message.payload))
            elif message.opcode == CLOSE:
                self._transport.write(frame(CLOSE, message.payload))
                self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - as asyncio calls it
        if self._task is not None:
            self._task.cancel()

    async def _shake_hands(self, head: str) -> None:
        first, *lines = head.split("\r\n")
        split = [line.partition(":") for line in lines if line]
        headers = {name.lower(): value.strip() for name, _, value in split}
        path = first.split()[1].partition("?")[0]
        pairs = [(name.lower().encode("latin-1"), value.strip().encode("latin-1")) for name, _, value in split]
        status = await refusal(self._gate, self._scope(path, pairs))
        if status is None and (path != "/v1/realtime" or self._state.settings.task is not Task.LISTEN):
            status = 403
        self._task = None
        if status is not None:
            self._transport.write(_REFUSED % status)
            self._transport.close()
            return
        self._reader = MessageReader()
        accepted = f"Sec-WebSocket-Accept: {accept(headers['sec-websocket-key'])}\r\nserver: uvicorn\r\n\r\n"
        upgrade = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        self._transport.write((upgrade + accepted).encode())
        self._say({"type": "session.created", "id": f"sess-{uuid.uuid4().hex}", "created": now()})

    def _scope(self, path: str, headers: list[tuple[bytes, bytes]]) -> Scope:
        client, server = (self._transport.get_extra_info(name) for name in ("peername", "sockname"))
        extensions: dict[str, object] = {"websocket.http.response": {}}
        return {
            "type": "websocket", "path": path, "headers": headers, "client": client, "server": server,
            "extensions": extensions,
        }  # fmt: skip

    def _take(self, payload: bytes) -> None:
        try:
            event = json.loads(payload)
        except ValueError:
            self._refuse("Invalid JSON", "invalid_json")
            return
        match event.get("type"):
            case "session.update":
                self._choose(event.get("model"))
            case "input_audio_buffer.append":
                self._append(event.get("audio"))
            case "input_audio_buffer.commit":
                self._commit(final=bool(event.get("final")))
            case unknown:
                self._refuse(f"Unknown event type: {unknown}", "unknown_event")

    def _choose(self, model: object) -> None:
        if model is None:
            self._refuse("Missing required field: model", "invalid_event")
        elif model not in self._state.command.served_model_names:
            self._refuse(f"The model `{model}` does not exist.", "model_not_found")
        else:
            self._chosen = True

    def _append(self, audio: object) -> None:
        try:
            sound = base64.b64decode(str(audio), validate=True)
        except binascii.Error:
            sound = b""
        self._sound_bytes += len(sound)
        if not sound:
            self._refuse("Invalid audio data", "invalid_audio")

    def _commit(self, *, final: bool) -> None:
        if not self._chosen:
            message = "Model not validated. Make sure to validate the model by sending a session.update event."
            self._refuse(message, "model_not_validated")
        elif final:
            self._finished.set()
        elif self._task is None or self._task.done():
            self._task = asyncio.create_task(self._transcribe())

    async def _transcribe(self) -> None:
        """The text depends on all of the sound, so it is made when the last of it has come."""
        await self._finished.wait()
        self._finished.clear()
        state = self._state
        prompt = make_prompt(state, f"realtime {self._sound_bytes}", {}, unlimited="stop")
        pieces: list[str] = []
        try:
            async for output in prompt.outputs(state, f"rt-{random_id()}"):
                pieces.append(output.text)
                self._say({"type": "transcription.delta", "delta": output.text})
        except EngineDeadError as error:
            self._refuse(str(error), "processing_error")
            return
        usage = short_usage(prompt.tokens, len(pieces)) | {"prompt_tokens_details": None}
        self._say({"type": "transcription.done", "text": "".join(pieces), "usage": usage})

    def _refuse(self, message: str, code: str) -> None:
        self._say({"type": "error", "error": message, "code": code})

    def _say(self, event: Mapping[str, Any]) -> None:
        self._transport.write(frame(TEXT, to_json(event).encode()))
