"""The door by itself, with requests as servers hand them over. A real engine behind it: tests/contract/test_door.py."""

import ast
import asyncio
import sys
from pathlib import Path

import pytest

from vllama.engine.door import KEY, MIDDLEWARE, ON_PATH, Door, new_key
from vllama.engine.door.on_path import vllama_door
from vllama.gateway.paths import INFERENCE_PATHS, REALTIME

SECRET = "k" * 43


class Inner:
    def __init__(self):
        self.reached = []

    async def __call__(self, scope, receive, send):
        self.reached.append(scope["type"])


def asked(path="/health", *, shown=f"Bearer {SECRET}", client=("10.0.0.9", 5), server=("10.0.0.2", 80), **more):
    """The statuses, or other messages, by which it refused; [] when the engine was reached."""
    inner, said = Inner(), []
    headers = [] if shown is None else [(b"authorization", shown.encode("latin-1"))]
    scope = {"type": "http", "path": path, "headers": headers, "client": client, "server": server} | more

    async def receive():
        return {"type": "websocket.connect"}

    async def send(message):
        said.append(message)

    asyncio.run(vllama_door.Door(inner)(scope, receive, send))
    assert bool(said) is not bool(inner.reached)
    return [message.get("status", message["type"]) for message in said if not message["type"].endswith(".body")]


@pytest.fixture(autouse=True)
def _key(monkeypatch):
    monkeypatch.setenv(KEY, SECRET)


def test_all_that_the_gateway_passes_and_the_manager_asks_is_served_to_other_hosts():
    paths = [path.decode() for path in (*INFERENCE_PATHS, REALTIME)]
    for path in (*paths, "/health", "/metrics", "/v1/models", "/v1/responses/resp_1", "/v1/responses/resp_1/cancel"):
        assert asked(path) == []
        assert asked(path, shown=None) == [401]


@pytest.mark.parametrize(
    "path", ["/sleep", "/v1/load_lora_adapter", "/something_new", "/health/", "/v1", "", "/V1/models", "/v1/responsesx"]
)
def test_all_else_is_for_its_own_host(path):
    assert asked(path) == [403]
    assert asked(path, client=("127.0.0.1", 5), server=("127.0.0.1", 80)) == []


@pytest.mark.parametrize(
    ("client", "server", "is_own"),
    [
        ("10.0.0.2", "10.0.0.2", True),
        ("127.8.8.8", "127.0.0.1", True),
        ("::1", "::1", True),
        ("::ffff:127.0.0.1", "::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.2", "10.0.0.2", True),
        ("::ffff:10.0.0.9", "::ffff:10.0.0.2", False),
        ("10.0.0.9", "10.0.0.2", False),
        ("fe80::1", "fe80::2", False),
        ("0.0.0.0", "10.0.0.2", False),
        ("not an address", "10.0.0.2", False),
    ],
)
def test_whose_request_is_from_its_own_host(client, server, is_own):
    assert asked("/sleep", client=(client, 5), server=(server, 80)) == ([] if is_own else [403])


@pytest.mark.parametrize("scope", [{"client": None}, {"client": None, "server": ("/run/x.sock", None)}])
def test_who_cannot_be_seen_is_not_of_its_host(scope):
    assert asked("/sleep", **scope) == [403]


@pytest.mark.parametrize("header", [b"x-forwarded-for", b"forwarded"])
def test_a_proxys_word_is_not_taken(header):
    headers = [(b"authorization", f"Bearer {SECRET}".encode()), (header, b"127.0.0.1")]
    assert asked("/sleep", headers=headers, client=("127.0.0.1", 0)) == [403]
    assert asked("/health", headers=headers) == []


def test_a_websocket_is_refused_by_an_answer_or_else_closed():
    ws = {"type": "websocket", "path": "/v1/realtime", "shown": None}
    assert asked(**ws, extensions={"websocket.http.response": {}}) == [401]
    assert asked(**ws, extensions=None) == ["websocket.close"]
    assert asked(**ws) == ["websocket.close"]
    assert asked(**ws | {"shown": f"Bearer {SECRET}"}) == []


def test_the_beginning_and_the_end_of_the_server_pass():
    assert asked(type="lifespan", shown=None) == []


def test_what_is_neither_reaches_nobody():
    inner = Inner()
    asyncio.run(vllama_door.Door(inner)({"type": "webtransport", "headers": []}, None, None))
    assert not inner.reached


@pytest.mark.parametrize("key", [None, "", "short", "k" * 31, "ä" * 40])
def test_without_a_proper_key_there_is_no_engine(monkeypatch, key):
    monkeypatch.delenv(KEY) if key is None else monkeypatch.setenv(KEY, key)
    with pytest.raises(RuntimeError, match="nothing is served"):
        vllama_door.Door(Inner())


def test_keys_are_compared_in_a_time_that_tells_nothing(monkeypatch):
    compared = []
    monkeypatch.setattr(vllama_door.hmac, "compare_digest", lambda a, b: compared.append((a, b)) or False)
    assert asked() == [401]
    assert compared == [(f"Bearer {SECRET}".encode(),) * 2]


def test_it_needs_nothing_but_pythons_library():
    tree = ast.parse((ON_PATH / "vllama_door.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names
    assert [file.name for file in ON_PATH.iterdir() if file.name != "__pycache__"] == ["vllama_door.py"]


def test_it_is_found_where_the_environment_points():
    module, _, name = MIDDLEWARE.partition(".")
    path = Path(Door(host="10.0.0.2", key=SECRET).environment({})["PYTHONPATH"])
    assert (path / f"{module}.py").is_file()
    assert hasattr(vllama_door, name)


def test_a_path_that_was_there_stays_behind_it():
    environment = Door(host="10.0.0.2", key=SECRET).environment({"PYTHONPATH": "/mine"})
    assert environment == {"PYTHONPATH": f"{ON_PATH}:/mine", KEY: SECRET}


def test_keys_are_long_and_each_another():
    assert len({new_key() for _ in range(10)}) == 10
    assert all(len(new_key()) >= vllama_door.SHORTEST_KEY for _ in range(10))
