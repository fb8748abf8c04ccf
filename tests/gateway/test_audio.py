"""Audio comes as a form: it is routed by its field `model`, and passed on as it came."""

import asyncio
from io import BytesIO

import openai
import pytest

from tests.gateway.house import MODEL, House, live, until
from tests.gateway.test_forms import END, SOUND, field, part
from tests.gateway.upstream import Exchange

PATHS = ["/v1/audio/transcriptions", "/v1/audio/translations"]
FORM = {"content-type": "multipart/form-data; boundary=xyz"}
LONG = part(b'Content-Disposition: form-data; name="file"; filename="a.wav"', b"\0\r\n--xy" * 500_000)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("before", [b"", SOUND, LONG], ids=["first", "last", "behind megabytes"])
@pytest.mark.parametrize("name", [MODEL, "tiny"])
def test_a_form_arrives_as_it_was_sent_but_for_an_alias(path: str, before: bytes, name: str) -> None:
    async def test(here: House) -> None:
        here.open()
        form = b"".join((before, field(b"model", b"%b"), field(b"language", b"en"), END))
        asked = form.replace(b"%b", name.encode())
        answer = await here.http.post(path, content=asked, headers=FORM)
        (exchange,) = here.upstream.exchanges
        assert exchange.line == f"POST {path} HTTP/1.1"
        assert exchange.header("content-type") == FORM["content-type"]
        assert exchange.body == answer.content == form.replace(b"%b", MODEL.encode())

    live(test)


def test_a_form_in_chunks_and_pieces_arrives_whole() -> None:
    async def test(here: House) -> None:
        here.open()
        form = b"".join((LONG, field(b"model", b"tiny"), END))

        async def pieces() -> object:
            for start in range(0, len(form), 70_001):
                yield form[start : start + 70_001]

        answer = await here.http.post(PATHS[0], content=pieces(), headers=FORM)  # type: ignore[arg-type]
        assert answer.content == form.replace(b"\r\n\r\ntiny\r\n", b"\r\n\r\n%b\r\n" % MODEL.encode())

    live(test)


@pytest.mark.parametrize(
    ("content", "content_type", "code"),
    [
        (field(b"model", b"tiny"), FORM["content-type"], "invalid_form"),
        (field(b"model", b"tiny") * 2 + END, FORM["content-type"], "invalid_form"),
        (field(b"model", b"tiny") + END, "multipart/form-data; boundary=other", "invalid_form"),
        (b'{"model":"tiny"}', "application/json", "invalid_form"),
        (SOUND + END, FORM["content-type"], "missing_model"),
        (field(b"model", b"nope") + END, FORM["content-type"], "model_not_found"),
    ],
)
def test_what_is_no_form_or_names_no_model_is_refused(content: bytes, content_type: str, code: str) -> None:
    async def test(here: House) -> None:
        here.open()
        answer = await here.http.post(PATHS[0], content=content, headers={"content-type": content_type})
        assert answer.status_code == (404 if code == "model_not_found" else 400)
        assert answer.json()["error"]["code"] == code
        assert here.upstream.exchanges == []

    live(test)


def test_a_client_of_openai_sends_a_file_and_reads_a_stream() -> None:
    async def test(here: House) -> None:
        following = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            assert b'name="model"\r\n\r\norg/Tiny-1B\r\n' in exchange.body
            assert b"RIFF" in exchange.body
            assert b"keep_alive" not in exchange.body
            exchange.start_events()
            exchange.chunk(b'data: {"type":"transcript.text.delta","delta":"one"}\n\n')
            await following.wait()
            exchange.chunk(b"data: [DONE]\n\n")
            exchange.end_chunks()

        here.upstream.script = script
        here.open()
        base_url = f"http://127.0.0.1:{here.port}/v1"
        async with openai.AsyncOpenAI(base_url=base_url, api_key="none", max_retries=0) as client:
            sound = ("a.wav", BytesIO(b"RIFF" + bytes(10_000)))
            stream = await client.audio.transcriptions.create(
                model="tiny", file=sound, stream=True, extra_body={"keep_alive": "7m"}
            )  # fmt: skip
            async for event in stream:
                assert event.delta == "one"
                assert here.in_flight == 1
                following.set()
        await until(lambda: here.in_flight == 0)

    live(test)
