"""Requests that go to somebody else's servers: byte for byte, at most one answer, and nothing generated twice."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests import certificates
from tests.gateway.house import MODEL, House, live, post, until
from tests.gateway.upstream import Exchange, Upstream, echo, upstream
from tests.gateway.wire.ear import a_mouth, an_ear
from vllama.controller.manifest.servers import BalanceSpec, ServerSpec
from vllama.controller.servers.fleet import Fleet
from vllama.controller.servers.health import Check
from vllama.engine.load import EngineLoad
from vllama.gateway.recording import Recording
from vllama.gateway.wire import pool
from vllama.replay.trace import read_trace

REMOTE = "org/Remote-7B"
ASKED = {"model": REMOTE, "messages": [{"role": "user", "content": "hello"}]}


def enlist(here: House, specs: list[ServerSpec], balance: BalanceSpec) -> Fleet:
    fleet = here.control.board.servers
    fleet.apply(specs, balance)
    for server in fleet.servers.values():
        fleet.found(server, (REMOTE,))
        server.health.check(Check(took_s=0.01), 0.0)
    here.control.specs.extend(fleet.specs(()))
    return fleet


@asynccontextmanager
async def servers(
    here: House, count: int, *, path: str = "", api_key: str | None = None, **balance: object
) -> AsyncIterator[tuple[Fleet, list[Upstream]]]:
    """The first is the first that is asked. Afterwards nothing may be in flight at any."""
    async with AsyncExitStack() as stack:
        ups = [await stack.enter_async_context(upstream()) for _ in range(count)]
        specs = [ServerSpec(url=f"http://127.0.0.1:{up.port}{path}", api_key=api_key) for up in ups]
        fleet = enlist(here, specs, BalanceSpec(**balance))  # type: ignore[arg-type]
        for number, server in enumerate(fleet.servers.values()):
            server.last_chosen_at = float(number)
        yield fleet, ups
        await until(lambda: not any(server.in_flight for server in fleet.servers.values()), "nothing in flight")


def answering(status: int, body: bytes = b'{"error":{}}') -> Callable[[Exchange], Awaitable[None]]:
    async def script(exchange: Exchange) -> None:
        exchange.answer(body, status=status)

    return script


async def closing(exchange: Exchange) -> None:
    exchange.close()


def test_it_gets_what_the_client_wrote_with_its_own_path_and_key() -> None:
    async def test(here: House) -> None:
        async with servers(here, 1, path="/llm", api_key="s3cret") as (_, (up,)):
            keys = {"authorization": "Bearer mine", "x-api-key": "mine", "api-key": "mine"}
            answer = await here.chat(ASKED, headers={"x-further": "1"} | keys)
            (got,) = up.exchanges
            assert answer.content == got.body
            assert got.line == "POST /llm/v1/chat/completions HTTP/1.1"
            assert [value for name, value in got.headers if name.lower() == "authorization"] == ["Bearer s3cret"]
            assert (got.header("x-further"), got.header("x-api-key"), got.header("api-key")) == ("1", None, None)
            assert got.header("host") == f"127.0.0.1:{up.port}"

    live(test)


def test_a_key_that_changes_in_the_file_counts_for_the_next_request_on_the_same_connection() -> None:
    async def test(here: House) -> None:
        async with servers(here, 1, path="/llm", api_key="old") as (fleet, (up,)):
            async with httpx.AsyncClient(base_url=here.http.base_url, trust_env=False) as client:
                for key in ("old", "old", "new", "new"):
                    spec = ServerSpec(url=f"http://127.0.0.1:{up.port}/llm", api_key=key)
                    fleet.apply([spec], fleet.balance)
                    assert (await client.post("/v1/chat/completions", json=ASKED)).status_code == 200
            said = [value for got in up.exchanges for name, value in got.headers if name.lower() == "authorization"]
            assert said == ["Bearer old", "Bearer old", "Bearer new", "Bearer new"]
            assert up.connections == 1

    live(test)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/rerank", "/v1/score", "/tokenize", "/v1/messages"])
def test_every_kind_of_request_goes_by_its_model_with_its_query(path: str) -> None:
    async def test(here: House) -> None:
        async with servers(here, 2) as (fleet, (one, other)):
            fleet.found(next(iter(fleet.servers.values())), ("org/Another",))
            assert (await here.http.post(f"{path}?x=1&y=%20", json={"model": REMOTE, "input": "x"})).status_code == 200
            assert ([got.line for got in other.exchanges], one.exchanges) == ([f"POST {path}?x=1&y=%20 HTTP/1.1"], [])

    live(test)


def test_what_it_answered_is_not_recorded_as_if_an_engine_here_had(tmp_path: Path) -> None:
    recording = Recording(tmp_path / "requests.csv")

    async def test(here: House) -> None:
        here.open()
        async with servers(here, 2) as (_, (up, _other)):
            up.script = answering(503)
            assert (await here.chat(ASKED)).status_code == 200
            assert (await here.chat(ASKED | {"stream": True})).status_code == 200
            assert (await here.chat(ASKED | {"model": MODEL})).status_code == 200

    live(test, recording=recording)
    recording.close()
    assert [request.model for request in read_trace(tmp_path / "requests.csv")] == [MODEL]


def test_connections_are_kept_and_a_stale_one_costs_nothing() -> None:
    async def test(here: House) -> None:
        async with servers(here, 1, max_retries=0) as (fleet, (up,)):
            for _ in range(3):
                assert (await here.chat(ASKED)).status_code == 200
            assert up.connections == 1
            up.exchanges[0].close()
            assert (await here.chat(ASKED)).status_code == 200
            assert all(server.health.wrong is None for server in fleet.servers.values())

    live(test)


@pytest.mark.parametrize("status", [502, 503])
def test_who_did_nothing_is_followed_by_another(status: int) -> None:
    async def test(here: House) -> None:
        async with servers(here, 3) as (_, ups):
            ups[0].script = ups[1].script = answering(status)
            answer = await here.chat(ASKED)
            assert (answer.status_code, answer.content) == (200, ups[2].exchanges[0].body)
            assert [len(up.exchanges) for up in ups] == [1, 1, 1]

    live(test)


@pytest.mark.parametrize("ends", [True, False], ids=["ends", "breaks off"])
def test_so_is_one_whose_refusal_comes_in_pieces(*, ends: bool) -> None:
    async def in_pieces(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 503 X\r\ntransfer-encoding: chunked\r\n\r\n")
        await asyncio.sleep(0)
        exchange.chunk(b'{"error": ')
        await asyncio.sleep(0)
        if ends:
            exchange.chunk(b"{}}")
            exchange.end_chunks()
        else:
            exchange.close()

    async def test(here: House) -> None:
        async with servers(here, 2) as (fleet, ups):
            ups[0].script = in_pieces
            answer = await here.chat(ASKED)
            assert (answer.status_code, answer.content) == (200, ups[1].exchanges[0].body)
            assert [len(up.exchanges) for up in ups] == [1, 1]
            assert [server.health.failures for server in fleet.servers.values()] == [1, 0]

    live(test)


def test_a_refusal_in_pieces_that_nobody_else_can_mend_is_passed_on_and_counts() -> None:
    async def in_pieces(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 500 X\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
        await asyncio.sleep(0)
        exchange.chunk(b'{"error": {"message": "as it said"}}')
        exchange.end_chunks()

    async def test(here: House) -> None:
        async with servers(here, 2) as (fleet, ups):
            ups[0].script = in_pieces
            answer = await here.chat(ASKED)
            assert (answer.status_code, answer.json()["error"]["message"]) == (500, "as it said")
            assert [len(up.exchanges) for up in ups] == [1, 0]
            assert [server.health.failures for server in fleet.servers.values()] == [1, 0]

    live(test)


@pytest.mark.parametrize("status", [400, 401, 404, 408, 422, 429, 500, 504])
def test_no_other_answer_is_tried_again(status: int) -> None:
    async def test(here: House) -> None:
        async with servers(here, 2, failure_threshold=1) as (fleet, ups):
            ups[0].script = answering(status, b'{"error": {"message": "as it said"}}')
            answer = await here.chat(ASKED)
            assert (answer.status_code, answer.json()["error"]["message"]) == (status, "as it said")
            assert [len(up.exchanges) for up in ups] == [1, 0]
            first = next(iter(fleet.servers.values()))
            assert (first.health.wrong is None) is (status < 500)  # what a client did wrong is no fault of theirs
            assert first.checks is (status in {404, 500, 504})

    live(test)


def test_before_the_first_byte_another_is_asked_and_after_it_nobody() -> None:
    async def test(here: House) -> None:
        async with servers(here, 3) as (_, ups):
            ups[0].script = closing

            async def half(exchange: Exchange) -> None:
                exchange.start_events()
                exchange.chunk(b'data: {"choices":[]}\n\n')
                exchange.close()

            ups[1].script = half
            answer = await here.chat(ASKED | {"stream": True})
            assert answer.status_code == 200
            first, second, *_ = answer.text.split("\n\n")
            assert first == 'data: {"choices":[]}'
            assert "The server of 'org/Remote-7B' broke off" in second
            assert [len(up.exchanges) for up in ups] == [1, 1, 0]

    live(test)


@pytest.mark.parametrize(("retries", "asked"), [(0, 1), (1, 2), (3, 3)])
def test_so_many_are_asked_and_each_once(retries: int, asked: int) -> None:
    async def test(here: House) -> None:
        async with servers(here, 3, max_retries=retries) as (_, ups):
            for up in ups:
                up.script = closing
            answer = await here.chat(ASKED)
            assert (answer.status_code, answer.json()["error"]["code"]) == (502, "server_gone")
            assert "retry-after" in answer.headers
            assert sum(len(up.exchanges) for up in ups) == asked

    live(test)


def test_one_that_nobody_listens_at_is_passed_over() -> None:
    async def test(here: House) -> None:
        async with upstream() as gone, servers(here, 1) as (fleet, (up,)):
            free = gone.port
        fleet = enlist(here, [ServerSpec(url=f"http://127.0.0.1:{free}")], BalanceSpec())
        answer = await here.chat(ASKED)
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "server_gone")
        async with upstream() as up:
            urls = [f"http://127.0.0.1:{port}" for port in (free, up.port)]
            fleet = enlist(here, [ServerSpec(url=url) for url in urls], BalanceSpec())
            fleet.servers[urls[1]].last_chosen_at = float("inf")
            assert (await here.chat(ASKED)).status_code == 200

    live(test)


def test_who_says_nothing_is_given_up_and_nobody_else_is_asked() -> None:
    async def test(here: House) -> None:
        async with servers(here, 2, request_timeout_s=0.05) as (fleet, ups):

            async def say_nothing(exchange: Exchange) -> None:
                await exchange.gone.wait()

            ups[0].script = say_nothing
            answer = await here.chat(ASKED)
            assert (answer.status_code, answer.json()["error"]["code"]) == (504, "engine_timeout")
            assert [len(up.exchanges) for up in ups] == [1, 0]
            assert next(iter(fleet.servers.values())).checks

    live(test)


def test_who_leaves_is_seen_there_at_once_and_counts_for_nothing() -> None:
    async def test(here: House) -> None:
        async with servers(here, 1, failure_threshold=1) as (fleet, (up,)):

            async def say_nothing(exchange: Exchange) -> None:
                await exchange.gone.wait()

            up.script = say_nothing
            _, writer = await here.raw(post(b'{"model":"%s"}' % REMOTE.encode()))
            await until(lambda: up.exchanges, "to be asked")
            (server,) = fleet.servers.values()
            assert server.in_flight == 1
            writer.transport.abort()
            await asyncio.wait_for(up.exchanges[0].gone.wait(), 10)
            assert server.health.wrong is None

    live(test)


def test_a_response_is_read_where_it_was_made() -> None:
    async def test(here: House) -> None:
        async with servers(here, 2) as (_, ups):

            async def make(exchange: Exchange) -> None:
                exchange.answer(b'{"id": "resp_1", "status": "completed"}')

            ups[0].script = ups[1].script = make
            assert (await here.http.post("/v1/responses", json={"model": REMOTE, "input": "x"})).status_code == 200
            for _ in range(3):
                assert (await here.http.get("/v1/responses/resp_1")).status_code == 200
            assert [len(up.exchanges) for up in ups] == [4, 0]

    live(test)


def test_servers_are_called_over_tls_and_only_if_their_certificate_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test(here: House) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificates.issued().configure_cert(context)
        heads: list[bytes] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            await writer.drain()
            writer.close()

        listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        port = listening.sockets[0].getsockname()[1]
        enlist(here, [ServerSpec(url=f"https://localhost:{port}", api_key="k")], BalanceSpec(failure_threshold=9))
        try:
            monkeypatch.setattr(pool, "trust", certificates.trusting)
            assert (await here.chat(ASKED)).content == b"{}"
            assert b"authorization: Bearer k\r\n" in heads[0]
            monkeypatch.setattr(pool, "trust", ssl.create_default_context)
            refused = await here.chat(ASKED)
            assert refused.status_code == 502
            assert "CERTIFICATE_VERIFY_FAILED" in refused.json()["error"]["message"]
            assert len(heads) == 1
        finally:
            listening.close()

    live(test)


def test_vllamas_that_list_each_other_do_not_pass_a_request_round_for_ever() -> None:
    async def test(here: House) -> None:
        async with servers(here, 0) as (fleet, _):
            enlist(here, [ServerSpec(url=f"http://127.0.0.1:{here.port}")], BalanceSpec(queue=0))
            answer = await here.chat(ASKED)
            assert (answer.status_code, answer.json()["error"]["code"]) == (429, "queue_full")  # all in this one house
            fleet.apply([ServerSpec(url=f"http://127.0.0.1:{here.port}", max_concurrent_requests=99)], BalanceSpec())
            answer = await here.chat(ASKED)
            assert (answer.status_code, answer.json()["error"]["code"]) == (508, "loop_detected")

    live(test)


def test_a_burst_over_three_is_answered_once_each() -> None:
    async def test(here: House) -> None:
        async with servers(here, 3) as (fleet, ups):
            most = dict.fromkeys(fleet.servers, 0)

            async def script(exchange: Exchange) -> None:
                for url, server in fleet.servers.items():
                    most[url] = max(most[url], server.in_flight)
                await asyncio.sleep(0)
                await echo(exchange)

            for up in ups:
                up.script = script
            answers = await asyncio.gather(*(here.chat(ASKED | {"n": n}) for n in range(60)))
            assert sorted(answer.json()["n"] for answer in answers) == list(range(60))
            assert sum(len(up.exchanges) for up in ups) == 60
            assert set(most.values()) == {3}

    live(test)


def test_load_and_models_are_told_as_mvllm_tells_them() -> None:
    async def test(here: House) -> None:
        async with servers(here, 2) as (fleet, ups):
            one, other = fleet.servers.values()
            one.told_load(EngineLoad(running=2, waiting=1, kv_cache_usage=0.5), 0.0)
            for _ in range(3):
                other.health.check(Check(took_s=0.0, wrong="nobody listens there"), 0.0)
            said = (await here.http.get("/load-stats")).json()
            assert said["summary"] == {
                "total_servers": 2, "healthy_servers": 1, "total_active_load": 3, "total_capacity": 3,
                "overall_utilization_percent": 100.0,
            }  # fmt: skip
            first, second = said["servers"]
            assert (first["url"], first["current_load"], first["available_capacity"]) == (one.url, 3, 0)
            assert first["detailed_metrics"]["kv_cache_usage_perc"] == 0.5
            assert (second["status"], second["detailed_metrics"]["num_requests_running"]) == ("unhealthy", None)
            assert (await here.http.get("/server-models")).json() == {one.url: [REMOTE], other.url: [REMOTE]}
            health = (await here.http.get("/health")).json()
            assert (health["health_score"], health["servers"][1]["consecutive_failures"]) == (50.0, 3)
            assert (health["config"]["health_check_interval"], health["config"]["max_retries"]) == (30.0, 3)
            outside = (await here.http.get("/health", headers={"x-forwarded-for": "10.0.0.1"})).json()
            assert (outside["healthy_servers"], {"servers", "config"} & outside.keys()) == (1, set())
            assert ups

    live(test)


def test_prometheus_is_told_of_each_server_and_of_no_key() -> None:
    async def test(here: House) -> None:
        assert "vllama_server_" not in (await here.http.get("/metrics")).text
        async with servers(here, 1) as (fleet, _ups):
            (one,) = fleet.servers.values()
            one.told_load(EngineLoad(running=2, waiting=1, kv_cache_usage=0.5), 0.0)
            one.in_flight += 1
            specs = [one.spec, ServerSpec(url="https://llm.example:8443", api_key="s3cret", max_concurrent_requests=8)]
            fleet.apply(specs, BalanceSpec())
            other = list(fleet.servers.values())[1]
            for _ in range(3):
                other.health.check(Check(took_s=0.0, wrong="nobody listens there"), 0.0)
            text = (await here.http.get("/metrics")).text
            one.in_flight -= 1
        assert "s3cret" not in text
        told = {
            (sample.name.removeprefix("vllama_server_"), sample.labels["server"]): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name.startswith("vllama_server_")
        }
        away = "https://llm.example:8443"
        assert told == {
            ("up", one.url): 1, ("requests_in_flight", one.url): 1, ("requests_running", one.url): 2,
            ("requests_waiting", one.url): 1, ("kv_cache_usage_ratio", one.url): 0.5, ("capacity", one.url): 3,
            ("up", away): 0, ("requests_in_flight", away): 0, ("capacity", away): 8,
        }  # fmt: skip

    live(test)


def test_a_websocket_goes_to_a_server_like_any_other_request() -> None:
    async def test(here: House) -> None:
        async with an_ear(here, opened=False) as ear:
            url = f"http://127.0.0.1:{ear.port}/llm"
            fleet = enlist(here, [ServerSpec(url=url, api_key="s3cret")], BalanceSpec())
            mouth = await a_mouth(here, f"?model={REMOTE}")
            assert (await mouth.hear_event())["type"] == "session.created"
            assert fleet.is_busy
            assert ear.heads[0].startswith(b"GET /llm/v1/realtime?model=org/Remote-7B HTTP/1.1\r\n")
            assert b"\r\nauthorization: Bearer s3cret\r\n" in ear.heads[0]
            mouth.writer.transport.abort()
            await until(lambda: not fleet.is_busy, "its end to be seen")

    live(test)
