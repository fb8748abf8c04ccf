"""What stands in for an engine: every POST gets one small answer, or a stream of CHUNKS events, one each 10 ms.

python -m tests.bench.backend PORT

No two streams speak at the same time, which is the dearest for whoever passes them on: each event comes alone.
A stream asked for with `"prefill": true` says nothing for PREFILL_S first. GET /lost tells when connections were
lost amid a stream: nanoseconds of the wall clock, as JSON. The other GETs are what proxies ask of vLLM.
"""

import asyncio
import json
import sys
import time

import uvloop

CHUNKS = 100
CHUNK_EVERY_S = 0.01
PREFILL_S = 3.0
_GOLDEN = 0.618  # of a turn: so many steps of it, and they lie evenly
_ANSWER = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1,"model":"bench","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"%b"},"finish_reason":"stop"}],'
    b'"usage":{"prompt_tokens":400,"total_tokens":600,"completion_tokens":200,"prompt_tokens_details":null}}'
) % (b"word " * 130)
_JSON = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_WHOLE = _JSON % (len(_ANSWER), _ANSWER)
_MODELS = b'{"object":"list","data":[{"id":"bench","object":"model","created":1,"owned_by":"vllm"}]}'
_METRICS = b'vllm:num_requests_running{model_name="bench"} 0.0\nvllm:num_requests_waiting{model_name="bench"} 0.0\n'
_TOLD = {b"/v1/models": _MODELS, b"/metrics": _METRICS}
_BEGIN = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
_EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"bench","choices":[{"index":0,'
    b'"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
) % (b"w" * 100)
_CHUNK = b"%x\r\n%b\r\n" % (len(_EVENT), _EVENT)
_END = b"e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"


class Answers(asyncio.Protocol):
    lost_at_ns: list[int] = []  # noqa: RUF012  # of all connections
    spread = 0.0

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._came = bytearray()
        self._stream: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]

    def data_received(self, data: bytes) -> None:
        self._came += data
        while (head := self._came.find(b"\r\n\r\n")) >= 0:
            said = bytes(self._came[:head]).lower()
            name = said.find(b"content-length: ")
            length = int(said[name + 16 :].split(b"\r\n", 1)[0]) if name >= 0 else 0
            end = head + 4 + length
            if len(self._came) < end:
                return
            streams = is_true(b"stream", self._came, head, end)
            prefills = streams and is_true(b"prefill", self._came, head, end)
            del self._came[:end]
            if said.startswith(b"get "):
                told = _TOLD.get(said.split(b" ", 2)[1]) or json.dumps(self.lost_at_ns).encode()
                self.transport.write(_JSON % (len(told), told))
            elif streams:
                Answers.spread = (Answers.spread + _GOLDEN) % 1
                at = self._loop.time() + (PREFILL_S if prefills else 0) + self.spread * CHUNK_EVERY_S
                self._stream = self._loop.call_at(at, self._begin, at)
            else:
                self.transport.write(_WHOLE)

    def _begin(self, at: float) -> None:
        self.transport.write(_BEGIN)
        self._speak(CHUNKS, at)

    def _speak(self, left: int, at: float) -> None:
        self.transport.write(_CHUNK if left else _END)
        self._stream = None
        if left:
            at += CHUNK_EVERY_S
            self._stream = self._loop.call_at(at, self._speak, left - 1, at)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._stream is not None:
            self._stream.cancel()
            self.lost_at_ns.append(time.time_ns())


def is_true(name: bytes, body: bytearray, start: int, end: int) -> bool:
    """Whether it is asked for, with a space behind the colon or without."""
    return any(body.find(b'"%b":%btrue' % (name, space), start, end) >= 0 for space in (b" ", b""))


async def serve(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", port, backlog=2048)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
