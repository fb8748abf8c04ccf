"""Keys and TLS at a server as it is deployed, asked by real clients."""

import json
from pathlib import Path

import httpx
import openai
import pytest

from tests import certificates
from tests.waiting import wait_until
from tests.whole.server import vllama
from tests.whole.test_bad_input import refused

_OF_A_PROCESS = ("environ", "cmdline")
ONE = "models: {org/A: {memory: 1GiB}}"


def add(config_dir, name, *args):
    done = vllama("keys", "add", name, *args, "--config-dir", str(config_dir))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def bearer(secret):
    return {"authorization": f"Bearer {secret}"}


def test_keys_and_tls_from_the_first_key_to_the_last(start_server, tmp_path):
    config_dir = tmp_path / "config"
    config_dir.mkdir()
    laptop, ops = add(config_dir, "laptop"), add(config_dir, "ops", "--scope", "admin")
    certificate, key = certificates.write(tmp_path, certificates.issued())
    server = start_server(
        ONE, "--simulate", "8GiB", "--tls-cert", str(certificate), "--tls-key", str(key),
        http=httpx.Client(trust_env=False, timeout=30, verify=certificates.trusting()),
    )  # fmt: skip
    assert server.url.startswith("https://127.0.0.1:")

    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=laptop, http_client=server.http, max_retries=0)
    answer = client.chat.completions.create(model="A", messages=[{"role": "user", "content": "hi"}], max_tokens=4)
    assert answer.choices[0].message.content
    nobody = client.with_options(api_key="vllama-of-nobody")
    with pytest.raises(openai.AuthenticationError):
        nobody.models.list()
    assert server.chat("org/A").status_code == 401

    # an operator on this machine, and one elsewhere
    assert "org/A" in vllama("ps", "--config-dir", str(config_dir)).stdout
    elsewhere = {"x-forwarded-for": "203.0.113.9"}
    for secret, status in ((ops, 200), (laptop, 403), ("", 401)):
        headers = elsewhere | (bearer(secret) if secret else {})
        assert server.http.get(f"{server.url}/admin/status", headers=headers).status_code == status

    # files that change
    (config_dir / "keys.yaml").write_text("keys: {laptop: ")
    wait_until(lambda: "keys.yaml:1" in server.http.get(f"{server.url}/health").text, what="the mistake to show")
    assert "keys.yaml:1" not in server.http.get(f"{server.url}/health", headers=elsewhere).text
    assert client.models.list().data
    (config_dir / "keys.yaml").unlink()
    spare = add(config_dir, "spare")
    wait_until(lambda: server.http.get(f"{server.url}/v1/models", headers=bearer(spare)).status_code == 200)
    with pytest.raises(openai.AuthenticationError):
        client.models.list()
    assert vllama("keys", "remove", "spare", "--config-dir", str(config_dir)).returncode == 0
    wait_until(lambda: server.http.get(f"{server.url}/v1/models", headers=bearer(spare)).status_code == 401)

    everything = "".join(path.read_text(errors="replace") for path in config_dir.rglob("*") if path.is_file())
    assert not [secret for secret in (laptop, ops, spare) if secret in everything]


def test_a_server_that_trusts_not_even_its_own_machine(start_server, tmp_path):
    config_dir = tmp_path / "config"
    ops = add(config_dir, "ops", "--scope", "admin")
    server = start_server(ONE, "--simulate", "8GiB", VLLAMA_ADMIN_LOOPBACK="false", VLLAMA_API_KEY=ops)
    without = vllama("ps", "--server", server.url)
    assert without.returncode == 1
    assert "vllama keys add" in " ".join(without.stderr.split())
    assert "org/A" in vllama("ps", "--server", server.url, VLLAMA_API_KEY=ops).stdout
    assert "org/A" in vllama("start", "A", "--server", server.url, "--api-key", ops).stdout
    seen_by_engines = [Path(f"/proc/{pid}/{what}").read_bytes() for pid in server.engines() for what in _OF_A_PROCESS]
    assert seen_by_engines
    assert not [seen for seen in seen_by_engines if ops.encode() in seen]
    assert json.loads(server.http.get(f"{server.url}/health").text)["conditions"][0] == {
        "type": "ManifestValid",
        "ok": True,
    }


def test_a_file_of_keys_that_is_wrong_keeps_the_server_from_starting(tmp_path):
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "keys.yaml").write_text("keys: {a: {hash: b}}")
    assert "keys.yaml:1: `hash` is not `sha256:`" in refused(tmp_path / "config", ONE, "--simulate", "8GiB")
