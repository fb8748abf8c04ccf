"""Who comes in where there are API keys."""

import asyncio
import json

import anthropic
import openai
import pytest

from tests.gateway.house import CHAT, MODEL, House, live, post, until
from tests.gateway.upstream import Exchange
from vllama.domain.units import MIB
from vllama.gateway.guard import Guard
from vllama.gateway.keys.key import Key, Scope, digest_of
from vllama.gateway.keys.ring import Keyring
from vllama.gateway.paths import INFERENCE_PATHS

MODELS, ADMIN = "vllama-of-laptop", "vllama-of-ops"
RING = {
    digest_of(MODELS.encode()): Key(name="laptop", scope=Scope.MODELS),
    digest_of(ADMIN.encode()): Key(name="ops", scope=Scope.ADMIN),
}
BODY = {"model": MODEL}


def keyed(*, ring: dict[bytes, Key] | None = RING, **settings: bool) -> Guard:
    return Guard(keyring=Keyring(ring=ring), **settings)  # type: ignore[arg-type]


def bearer(secret: str) -> dict[str, str]:
    return {"authorization": f"Bearer {secret}"}


WAYS_TO_SHOW = [bearer(MODELS), bearer(ADMIN), {"x-api-key": MODELS}, {"api-key": MODELS}, {"X-API-Key": ADMIN}]
NOT_SHOWN = [
    {},
    bearer("vllama-of-nobody"),
    {"authorization": MODELS},
    {"authorization": f"Basic {MODELS}"},
    {"x-api-key": MODELS.upper()},
    {"cookie": f"api-key={MODELS}"},
    bearer(digest_of(MODELS.encode()).hex()),
]


@pytest.mark.parametrize("headers", WAYS_TO_SHOW)
def test_any_key_opens_the_models_and_goes_no_further(headers: dict[str, str]) -> None:
    async def test(here: House) -> None:
        here.open()
        assert (await here.chat(headers=headers)).status_code == 200
        assert (await here.http.get("/v1/models", headers=headers)).status_code == 200
        (exchange,) = here.upstream.exchanges
        names = {name.lower() for name, _ in exchange.headers}
        assert not names & {"authorization", "x-api-key", "api-key"}
        assert not any(secret in value for _, value in exchange.headers for secret in (MODELS, ADMIN))

    live(test, guard=keyed())


@pytest.mark.parametrize("guard", [keyed(), keyed(ring={})])
@pytest.mark.parametrize("headers", NOT_SHOWN)
def test_without_one_nothing_of_the_models_is_seen(guard: Guard, headers: dict[str, str]) -> None:
    async def test(here: House) -> None:
        here.open()
        for path in INFERENCE_PATHS:
            answer = await here.http.post(path.decode(), json=BODY, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.headers["connection"] == "close"
        for path in (
            "/v1/models",
            f"/v1/models/{MODEL}",
            "/metrics",
            "/nothing",
            "/v1/responses/r1",
            "/v1/realtime",
            "/livez/",
            "/api/tags",
        ):
            assert (await here.http.get(path, headers=headers)).status_code == 401
        assert here.upstream.exchanges == []
        assert here.control.board.demand().get(MODEL) is None or here.in_flight == 0

    live(test, guard=guard)


def test_the_refusal_is_in_the_shape_of_the_dialect() -> None:
    async def test(here: House) -> None:
        openai_shape = (await here.chat()).json()
        assert openai_shape["error"]["code"] == "invalid_api_key"
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            anthropic_shape = (await here.http.post(path, json=BODY)).json()
            assert (anthropic_shape["type"], anthropic_shape["error"]["type"]) == ("error", "authentication_error")
        ollama_shape = (await here.http.post("/api/chat", json=BODY)).json()
        assert ollama_shape == {"error": openai_shape["error"]["message"]}

    live(test, guard=keyed())


def test_what_says_how_the_server_is_stays_open() -> None:
    async def test(here: House) -> None:
        for path in ("/livez", "/readyz", "/health", "/"):
            for headers in ({}, bearer("vllama-of-nobody")):
                assert (await here.http.get(path, headers=headers)).status_code == 200

    live(test, guard=keyed())


def test_without_keys_whatever_is_shown_is_overlooked_and_stays_here() -> None:
    async def test(here: House) -> None:
        here.open()
        for headers in (*WAYS_TO_SHOW, *NOT_SHOWN):
            assert (await here.chat(headers=headers)).status_code == 200
        for exchange in here.upstream.exchanges:
            names = {name.lower() for name, _ in exchange.headers}
            assert not names & {"authorization", "x-api-key", "api-key"}

    live(test)


@pytest.mark.parametrize("header", ["host", "x-forwarded-for"])
def test_the_admin_api_from_elsewhere_wants_a_key_for_it(header: str) -> None:
    elsewhere = {header: "vllama.example"}

    async def test(here: House) -> None:
        for secret, status in ((ADMIN, 200), (MODELS, 403), ("vllama-of-nobody", 401)):
            answer = await here.http.get("/admin/status", headers=elsewhere | bearer(secret))
            assert answer.status_code == status
        assert (await here.http.get("/admin/status", headers=elsewhere)).status_code == 401
        stopped = await here.http.post(f"/admin/models/{MODEL}/stop", headers=elsewhere | bearer(MODELS))
        assert stopped.status_code == 403
        assert here.control.asked == []
        away = await here.http.get("/%61dmin/status", headers=elsewhere | bearer(MODELS))
        assert away.status_code == 403

    live(test, guard=keyed())


def test_on_this_machine_the_admin_api_needs_no_key_unless_it_is_said() -> None:
    async def here_without(here: House) -> None:
        assert (await here.http.get("/admin/status")).status_code == 200
        assert (await here.chat()).status_code == 401  # the models do

    async def here_with(here: House) -> None:
        assert (await here.http.get("/admin/status")).status_code == 401
        assert (await here.http.get("/admin/status", headers=bearer(ADMIN))).status_code == 200

    live(here_without, guard=keyed())
    live(here_with, guard=keyed(admin_loopback=False))


def test_no_page_of_another_site_uses_a_key() -> None:
    async def test(here: House) -> None:
        headers = bearer(ADMIN) | {"host": "vllama.example"}
        for origin, status in (("https://evil.example", 403), ("null", 403), ("https://vllama.example", 202)):
            answer = await here.http.post(f"/admin/models/{MODEL}/start", headers=headers | {"origin": origin})
            assert answer.status_code == status
        assert len(here.control.asked) == 1

    live(test, guard=keyed())


def test_a_client_cannot_make_a_proxy_unseen() -> None:
    """Connection names headers of one hop; were it obeyed here, what comes through a proxy would look direct."""

    async def test(here: House) -> None:
        head = b"GET /admin/status HTTP/1.1\r\nhost: localhost\r\nx-forwarded-for: 203.0.113.9\r\n"
        reader, writer = await here.raw(head + b"connection: close, x-forwarded-for\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 403 ")
        writer.close()

    live(test)


def test_a_key_that_is_removed_counts_from_the_next_request_on() -> None:
    guard = keyed(ring=dict(RING))

    async def test(here: House) -> None:
        here.open()
        half = asyncio.Event()

        async def script(exchange: Exchange) -> None:
            exchange.start_events()
            exchange.chunk(b"data: 1\n\n")
            await half.wait()
            exchange.chunk(b"data: 2\n\n")
            exchange.end_chunks()

        here.upstream.script = script
        request = post(json.dumps(BODY).encode(), headers=f"authorization: Bearer {MODELS}\r\n")
        reader, writer = await here.raw(request)
        await reader.readuntil(b"data: 1\n\n")
        guard.keyring.ring = {}
        half.set()
        await reader.readuntil(b"0\r\n\r\n")
        writer.write(request)
        assert (await reader.read()).startswith(b"HTTP/1.1 401 ")
        writer.close()

    live(test, guard=guard)


def test_keys_that_come_count_at_once_on_open_connections() -> None:
    guard = Guard()

    async def test(here: House) -> None:
        here.open()
        assert (await here.chat()).status_code == 200
        guard.keyring.ring = RING
        assert (await here.chat()).status_code == 401

    live(test, guard=guard)


@pytest.mark.parametrize("framing", ["transfer-encoding: chunked\r\n", f"content-length: {60 * MIB}\r\n"])
def test_a_strangers_body_is_not_waited_for(framing: str) -> None:
    async def test(here: House) -> None:
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n{framing}\r\n"
        reader, writer = await here.raw(head.encode())
        assert (await asyncio.wait_for(reader.read(), 10)).startswith(b"HTTP/1.1 401 ")
        writer.close()

    live(test, guard=keyed())


def test_a_wrong_key_behind_a_right_one_is_refused_in_its_turn() -> None:
    async def test(here: House) -> None:
        here.open()
        body = json.dumps(BODY).encode()
        requests = [post(body, headers=f"x-api-key: {secret}\r\n") for secret in (MODELS, "nobody", MODELS)]
        reader, writer = await here.raw(b"".join(requests))
        whole = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert [int(part[:3]) for part in whole.split(b"HTTP/1.1 ")[1:]] == [200, 401]
        await until(lambda: len(here.upstream.exchanges) == 1)

    live(test, guard=keyed())


def test_the_openai_client_with_and_without_a_key() -> None:
    async def test(here: House) -> None:
        url = f"http://127.0.0.1:{here.port}/v1"
        async with openai.AsyncOpenAI(base_url=url, api_key=MODELS, max_retries=0) as client:
            assert (await client.models.list()).data[0].id == MODEL
        async with openai.AsyncOpenAI(base_url=url, api_key="sk-none", max_retries=0) as client:
            with pytest.raises(openai.AuthenticationError) as refused:
                await client.models.list()
            assert refused.value.code == "invalid_api_key"

    live(test, guard=keyed())


def test_the_anthropic_client_with_and_without_a_key() -> None:
    async def test(here: House) -> None:
        here.open()
        url = f"http://127.0.0.1:{here.port}"
        async with anthropic.AsyncAnthropic(base_url=url, api_key=MODELS, max_retries=0) as client:
            await client.messages.with_raw_response.create(model=MODEL, max_tokens=1, messages=[])
        async with anthropic.AsyncAnthropic(base_url=url, api_key="sk-none", max_retries=0) as client:
            with pytest.raises(anthropic.AuthenticationError, match="vllama keys add"):
                await client.messages.create(model=MODEL, max_tokens=1, messages=[])
        assert len(here.upstream.exchanges) == 1

    live(test, guard=keyed())
