"""POST /v1/audio/transcriptions and /v1/audio/translations: forms with a sound. The shapes are from vLLM's source."""

import math
from collections.abc import AsyncIterator, Mapping
from email import message_from_bytes
from typing import Any

from vllama.simulator.answers.generation import Prompt, collect, make_id, make_prompt, until_done
from vllama.simulator.server_state import ServerState, now
from vllama.simulator.web import Answer, ApiError, Request, Stream, answer_json, missing, to_json

_BYTES_PER_S = 32_000  # 16 bit at 16 kHz


async def transcriptions(request: Request, state: ServerState) -> Answer | Stream:
    return await _answer(request, state, "transcribe", "transcription.chunk")


async def translations(request: Request, state: ServerState) -> Answer | Stream:
    return await _answer(request, state, "translate", "translation.chunk")


async def _answer(request: Request, state: ServerState, task: str, kind: str) -> Answer | Stream:
    form = _read_form(request)
    if "file" not in form:
        raise missing(form, "file")
    sound = form["file"]
    model = state.check_model(form.get("model", b"").decode(), generates=True)
    state.check_capacity()
    prompt = make_prompt(state, f"{task} {len(sound)} {form.get('prompt', b'').decode()}", {}, unlimited="stop")
    request_id = make_id(request, task)
    if form.get("stream") == b"true":
        return Stream(events=until_done(_chunks(prompt, state, request_id, model, kind)))
    text = (await collect(prompt.outputs(state, request_id))).text
    usage = {"usage": {"type": "duration", "seconds": math.ceil(len(sound) / _BYTES_PER_S)}}
    return answer_json({"text": text, **(usage if task == "transcribe" else {})})


async def _chunks(prompt: Prompt, state: ServerState, request_id: str, model: str, kind: str) -> AsyncIterator[str]:
    head = {"id": request_id, "object": kind, "created": now(), "model": model}
    async for output in prompt.outputs(state, request_id):
        end = {} if output.finish_reason is None else {"finish_reason": output.finish_reason, "stop_reason": None}
        yield to_json({**head, "choices": [{"delta": {"content": output.text}, **end}]})


def _read_form(request: Request) -> Mapping[str, Any]:
    """The fields of the form, bytes each; of several with one name the last."""
    content_type = request.headers.get("content-type", "")
    read = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + request.body)
    if not read.is_multipart():
        raise ApiError(400, "There was an error parsing the body", type_="Bad Request")
    fields = {}
    for part in read.walk():
        if (name := part.get_param("name", header="content-disposition")) is not None:
            fields[str(name)] = part.get_payload(decode=True)
    return fields
