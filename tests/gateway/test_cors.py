"""Pages of other sites, in a browser."""

import socket

import pytest

from tests.gateway.house import CHAT, House, live
from tests.gateway.upstream import Exchange
from vllama.gateway.cors import Origins, origins
from vllama.gateway.guard import Guard
from vllama.gateway.keys.key import Key, Scope, digest_of
from vllama.gateway.keys.ring import Keyring

SITE, OTHER = "https://chat.example", "https://evil.example"
ASKS = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type,x-y"}
KEYS = Guard(keyring=Keyring(ring={digest_of(b"k1"): Key(name="page", scope=Scope.ADMIN)}))
ALLOW = "access-control-allow-origin"


def test_by_default_no_page_may_read_anything_whatever_the_engine_says() -> None:
    async def test(here: House) -> None:
        async def script(exchange: Exchange) -> None:
            assert exchange.header("origin") is None
            said = "access-control-allow-origin: *\r\nAccess-Control-Allow-Credentials: true\r\n"
            exchange.answer(b"{}", headers=said + "access-control-expose-headers: x\r\n")

        here.upstream.script = script
        here.open()
        answers = [
            await here.chat(headers={"origin": SITE}),
            await here.http.get("/v1/models", headers={"origin": SITE}),
        ]
        answers.append(await here.http.options(CHAT, headers={"origin": SITE} | ASKS))
        assert [answer.status_code for answer in answers] == [200, 200, 405]
        assert not [name for answer in answers for name in answer.headers if name.startswith("access-control")]

    live(test)


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/v1/messages"])
@pytest.mark.parametrize("guard", [Guard(), KEYS])
def test_a_page_that_may_is_told_so_before_it_shows_a_key(path: str, guard: Guard) -> None:
    async def test(here: House) -> None:
        for _ in range(2):  # the connection stays
            answer = await here.http.options(path, headers={"origin": SITE} | ASKS)
            assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers[ALLOW] == SITE
        assert answer.headers["access-control-allow-headers"] == ASKS["access-control-request-headers"]
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert answer.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answer.headers
        refused = await here.http.options(path, headers={"origin": OTHER} | ASKS)
        assert refused.status_code == (405 if guard is not KEYS else 401)
        assert ALLOW not in refused.headers

    live(test, guard=guard, origins=Origins([SITE]))


def test_its_answers_can_be_read_and_its_errors_too() -> None:
    async def test(here: House) -> None:
        page = {"origin": SITE, "authorization": "Bearer k1"}
        here.open()
        answers = [
            await here.chat(headers=page),
            await here.http.get("/v1/models", headers=page),
            await here.chat({"model": "nope"}, headers=page),
            await here.chat(headers={"origin": SITE}),
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 404, 401]
        assert [answer.headers.get_list(ALLOW) for answer in answers] == [[SITE]] * 4
        assert ALLOW not in (await here.chat(headers=page | {"origin": OTHER})).headers
        assert ALLOW not in (await here.chat(headers={"authorization": "Bearer k1"})).headers

    live(test, guard=KEYS, origins=Origins([SITE]))


def test_all_pages_is_a_star() -> None:
    async def test(here: House) -> None:
        here.open()
        for origin in (SITE, "null"):
            assert (await here.chat(headers={"origin": origin})).headers[ALLOW] == "*"

    live(test, origins=Origins(["*"]))


def test_the_admin_api_is_not_for_pages_of_other_sites_at_all() -> None:
    async def test(here: House) -> None:
        asked = await here.http.options("/admin/status", headers={"origin": SITE} | ASKS)
        got = await here.http.get("/admin/status", headers={"origin": SITE, "authorization": "Bearer k1"})
        assert (asked.status_code, got.status_code) == (401, 403)
        assert ALLOW not in {*asked.headers, *got.headers}
        hidden = await here.http.get("/%61dmin/status", headers={"origin": SITE, "authorization": "Bearer k1"})
        assert hidden.status_code == 403

    live(test, guard=KEYS, origins=Origins(["*"]))


def test_a_websocket_which_no_browser_asks_leave_for_is_refused_to_pages_that_may_not() -> None:
    async def test(here: House) -> None:
        upgrade = {"connection": "upgrade", "upgrade": "websocket"}
        for origin, refused in ((OTHER, True), ("null", True), (SITE, False), (f"http://127.0.0.1:{here.port}", False)):
            answer = await here.http.get("/v1/realtime?model=tiny", headers=upgrade | {"origin": origin})
            assert (answer.status_code == 403) is refused
        assert (await here.http.get("/v1/realtime?model=tiny", headers=upgrade)).status_code != 403

    live(test, origins=Origins([SITE]))


def test_a_preflight_that_is_none_is_an_options_request() -> None:
    async def test(here: House) -> None:
        assert (await here.http.options(CHAT, headers={"origin": SITE})).status_code == 405
        assert (await here.http.options(CHAT, headers=ASKS)).status_code == 405

    live(test, origins=Origins(["*"]))


@pytest.mark.parametrize("word", ["chat.example", "https://", "https://a/b", "https://a?b", "[", "https://["])
def test_what_is_no_origin_is_said(word: str) -> None:
    with pytest.raises(ValueError, match="is no origin; write for example"):
        origins(f"https://ok.example, {word}")


def test_origins_are_written_with_commas_or_spaces() -> None:
    assert origins("") is None
    found = origins("HTTPS://A.example/,http://localhost:3000 app://obsidian.md")
    assert found is not None
    for origin in (b"https://a.example", b"http://localhost:3000", b"app://obsidian.md"):
        assert b"allow-origin: " + origin in found.lines(origin)
    assert found.lines(b"https://a.example:444") == b""


LED_HERE = {"host": "evil.example:8080", "origin": "http://evil.example:8080"}


@pytest.mark.parametrize("path", [CHAT, "/v1/models", "/metrics", "/api/chat"])
def test_a_page_whose_name_was_made_to_lead_here_is_refused(path: str) -> None:
    """To its browser it is of the same site, so that it could read everything."""

    async def test(here: House) -> None:
        here.open()
        answer = await here.http.post(path, json={"model": "tiny"}, headers=LED_HERE)
        assert (answer.status_code, "--cors-origins" in answer.text) == (403, True)
        assert here.upstream.connections == 0

    live(test)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example:8080"},  # a program
        {"host": "vllama:8080", "origin": "http://vllama:8080"},  # nobody far away has such a name
        {"host": "gpu.local", "origin": "http://gpu.local"},
        {"host": "127.0.0.1:8080", "origin": "http://127.0.0.1:8080"},
        {"host": "[::1]:8080", "origin": "http://[::1]:8080"},
        {"host": socket.gethostname(), "origin": f"http://{socket.gethostname()}"},
        LED_HERE | {"x-forwarded-for": "203.0.113.9"},
        {"host": "chat.example", "origin": SITE},  # which may
        {"host": "localhost", "origin": "http://evil.example"},  # it is executed, but cannot be read
    ],
)
def test_who_calls_this_machine_by_a_name_of_its_own_is_served(headers: dict[str, str]) -> None:
    async def test(here: House) -> None:
        here.open()
        assert (await here.chat(headers=headers)).status_code == 200

    live(test, origins=Origins([SITE]))


def test_where_keys_are_wanted_a_name_opens_nothing_and_shuts_nobody_out() -> None:
    async def test(here: House) -> None:
        here.open()
        assert (await here.chat(headers=LED_HERE)).status_code == 401
        assert (await here.chat(headers=LED_HERE | {"authorization": "Bearer k1"})).status_code == 200

    live(test, guard=KEYS)
