"""manifests/nginx/vllama.conf with a real nginx: what docs/guides/nginx.md says of it."""

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from tests.docs.test_commands import free_port
from tests.gateway.wire.ear import offer
from tests.waiting import wait_until
from tests.whole.server import Server, serve

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
SITE = Path(__file__).parents[2] / "manifests" / "nginx" / "vllama.conf"
MODELS = "models: {tiny/chat: {memory: 1GiB}, tiny/voxtral: {memory: 1GiB}}"
MAIN = """
{user}
pid {here}/nginx.pid;
error_log {here}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi;
    uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;
    include {here}/vllama.conf;
}}
"""
pytestmark = pytest.mark.skipif(NGINX is None, reason="needs nginx")


@dataclass
class Behind:
    """`http`: a client of 127.0.0.2, which is no proxy."""

    server: Server
    url: str
    http: httpx.Client


@pytest.fixture(scope="module")
def behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    here, port = tmp_path_factory.mktemp("nginx"), free_port()
    flags = ("--simulate", "8GiB", "--forwarded-allow-ips", "127.0.0.1", "--access-log")
    server = serve(here / "config", MODELS, *flags, VLLAMA_SIM_TOKEN_S="0.05")
    site = SITE.read_text().replace("127.0.0.1:33258", urlsplit(server.url).netloc)
    (here / "vllama.conf").write_text(site.replace("listen 8080", f"listen 127.0.0.1:{port}"))
    (here / "main.conf").write_text(MAIN.format(here=here, user="user root;" if os.geteuid() == 0 else ""))
    command = [str(NGINX), "-p", str(here), "-e", f"{here}/error.log", "-c", f"{here}/main.conf", "-g", "daemon off;"]
    nginx = subprocess.Popen(command)
    transport = httpx.HTTPTransport(local_address="127.0.0.2")
    try:
        with httpx.Client(transport=transport, base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
            wait_until(lambda: answers(port), what="nginx to listen")
            yield Behind(server=server, url=f"http://127.0.0.1:{port}", http=http)
    finally:
        nginx.terminate()
        nginx.wait(10)
        server.close()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_a_stream_passes_as_it_comes(behind: Behind) -> None:
    body = {"model": "tiny/chat", "prompt": "Hi", "stream": True, "max_tokens": 100}
    with behind.http.stream("POST", "/v1/completions", json=body) as answer:
        assert answer.headers["x-vllama-state"] in {"hit", "started"}
        lines = answer.iter_lines()
        assert next(lines).startswith("data: ")
        assert behind.server.ps()["tiny/chat"]["in_flight"] == 1  # there is more to come
        assert [line for line in lines if line][-1] == "data: [DONE]"


def test_a_client_that_leaves_is_seen(behind: Behind) -> None:
    body = {"model": "tiny/chat", "prompt": "Hi", "stream": True, "max_tokens": 1000}
    with behind.http.stream("POST", "/v1/completions", json=body) as answer:
        next(answer.iter_lines())
    wait_until(lambda: behind.server.ps()["tiny/chat"]["in_flight"] == 0, what="the end to be seen")


@pytest.mark.parametrize("path", ["/admin/status", "/%61dmin/status", "/instances", "/api/pull"])
def test_the_admin_api_is_not_there(behind: Behind, path: str) -> None:
    answer = behind.http.get(path)
    assert (answer.status_code, "nginx" in answer.text) == (404, True)


def test_the_client_is_who_nginx_saw_and_not_who_it_says_it_is(behind: Behind) -> None:
    forged = {"x-forwarded-for": "203.0.113.7", "forwarded": "for=203.0.113.8", "user-agent": "forger"}
    assert behind.http.get("/v1/models", headers=forged).status_code == 200

    def lines() -> list[dict[str, object]]:
        found = [json.loads(line) for line in behind.server.log().splitlines() if line.startswith("{")]
        return [line for line in found if line.get("user_agent") == "forger"]

    (line,) = wait_until(lines, what="its line in the log")
    assert line["client"] == "127.0.0.2"


def test_large_bodies_and_what_vllama_says_of_them_pass(behind: Behind) -> None:
    answer = behind.http.post("/v1/completions", json={"model": "tiny/chat", "prompt": "word " * 2_000_000})
    assert (answer.status_code, "context length" in answer.text) == (400, True)


def test_a_websocket_passes(behind: Behind) -> None:
    address = urlsplit(behind.url)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=30) as line:
        line.sendall(offer("?model=tiny/voxtral"))
        assert line.recv(4096).startswith(b"HTTP/1.1 101 ")
