"""An engine behind a door: nothing of it without the key, and from another host only what belongs to serving.

What comes from this machine's own address on the network to 127.0.0.1 is, to the engine, from another host.
"""

import httpx
import pytest

from tests.contract.engines import DOOR
from tests.contract.test_routes import ALWAYS, DEV, EVERYTHING, GENERATE
from tests.lan import lan_address
from tests.simulator.engines import CHAT

KEY = f"Bearer {DOOR.key}"
WRONG = {
    "none": [],
    "another": [("authorization", KEY[:-1] + "b")],
    "beginning": [("authorization", KEY[:-1])],
    "longer": [("authorization", KEY + "a")],
    "bare": [("authorization", DOOR.key)],
    "basic": [("authorization", KEY.replace("Bearer", "Basic"))],
    "x-api-key": [("x-api-key", DOOR.key)],
    "twice": [("authorization", "Bearer x"), ("authorization", KEY)],
}
UPGRADE = [
    ("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
]  # fmt: skip
OF_ITS_HOST = {"/ping", "/load", "/kv_event_sources", "/scale_elastic_ep", "/is_scaling_elastic_ep"}


def ask(engine, method="GET", path="/health", headers=(), *, address="127.0.0.1", **more):
    transport = httpx.HTTPTransport(verify=False, local_address=address)  # it speaks no TLS
    with httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{engine.port}", timeout=60) as http:
        return http.request(method, path, headers=list(headers), **more)


@pytest.fixture(scope="module")
def elsewhere():
    return lan_address()


@pytest.mark.parametrize("shown", WRONG)
def test_without_the_key_there_is_nothing(guarded, shown):
    answer = ask(guarded, headers=WRONG[shown])
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json()["error"]["message"] == "This engine wants a key."


def test_no_path_and_no_method_is_left_out(guarded):
    for path in [*EVERYTHING, "/docs", "/openapi.json", "/health/", "//health", "/%68ealth", "/../health"]:
        for method in ("GET", "POST", "DELETE", "OPTIONS"):
            assert ask(guarded, method, path).status_code == 401, (method, path)


def test_a_websocket_is_no_way_around(guarded):
    assert ask(guarded, path="/v1/realtime", headers=UPGRADE).status_code == 401
    assert ask(guarded, path="/v1/realtime", headers=[*UPGRADE, ("authorization", "Bearer x")]).status_code == 401


def test_with_it_all_is_as_without_a_door(guarded):
    assert ask(guarded, headers=[("authorization", KEY)]).status_code == 200
    assert guarded.chat(max_tokens=3).status_code == 200
    assert guarded.http.get("/is_sleeping").json() == {"is_sleeping": False}
    assert guarded.http.post("/sleep?level=1").json()["status"] == "sleeping"
    assert guarded.http.post("/wake_up").json()["status"] == "awake"


def test_from_another_host_there_is_what_belongs_to_serving(guarded, elsewhere):
    headers = [("authorization", KEY)]
    answer = ask(guarded, "POST", "/v1/chat/completions", headers, address=elsewhere, json=CHAT | {"max_tokens": 3})
    assert answer.status_code == 200
    assert ask(guarded, "POST", "/v1/chat/completions", address=elsewhere, json=CHAT).status_code == 401
    for path, method in (ALWAYS | GENERATE).items():
        status = ask(guarded, "GET" if method == "any" else method, path, headers, address=elsewhere).status_code
        assert (status == 403) is (path in OF_ITS_HOST), path


def test_from_another_host_nothing_of_its_management_is_there(guarded, elsewhere):
    headers = [("authorization", KEY)]
    for path, method in DEV.items():
        answer = ask(guarded, method, path, headers, address=elsewhere)
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, 403), path
        assert ask(guarded, method, path, address=elsewhere).status_code == 401
    assert guarded.http.get("/is_sleeping").json() == {"is_sleeping": False}


def test_what_a_proxy_says_makes_nobody_local(guarded, elsewhere):
    claims = [("authorization", KEY), ("x-forwarded-for", "127.0.0.1")]
    for address in (elsewhere, "127.0.0.1"):
        assert ask(guarded, "POST", "/sleep?level=1", claims, address=address).status_code == 403


def test_the_key_is_in_no_log(guarded):
    assert guarded.log()
    assert DOOR.key not in guarded.log()
