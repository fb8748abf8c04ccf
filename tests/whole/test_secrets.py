"""What is given to vllama in confidence shows nowhere: not in answers, logs, files, events or the list of processes."""

from pathlib import Path

MODELS = """
models:
  org/A: {memory: 1GiB, env: {SOME_API_KEY: from-models-yaml-1f3a}}
  org/B: {memory: 1GiB, env: {SOME_TOKEN: "${VAULT}", VLLAMA_SIM_FAULTS: exit_at_load}}
servers:
  - {url: "http://127.0.0.1:9", api_key: "${SERVER_KEY}"}
"""
SECRETS = {"VAULT": "from-the-vault-77b1", "SERVER_KEY": "of-a-server-90cc", "HF_TOKEN": "hf_ofAnOperator123456"}
GETS = (
    "/", "/health", "/readyz", "/livez", "/metrics", "/v1/models", "/v1/models/org/A", "/load-stats", "/server-models",
    "/admin/status", "/admin/plan", "/admin/plan?settle=true", "/admin/memory", "/admin/history", "/admin/info",
    "/admin/models/org/A", "/admin/models/org/B", "/admin/models/org/A/why", "/instances", "/api/tags", "/api/ps",
)  # fmt: skip


def test_secrets_are_told_to_nobody(start_server):
    server = start_server(MODELS, "--simulate", "8GiB", "--access-log", **SECRETS)
    hidden = [*SECRETS.values(), "from-models-yaml-1f3a"]
    said = [server.chat("org/A").text, server.chat("org/B").text]
    assert "engine_failed" in said[1]
    shown = server.http.post(f"{server.url}/api/show", json={"model": "org/A"})
    for path in GETS:
        answer = server.http.get(server.url + path)
        assert answer.status_code in {200, 503}, path
        said.append(answer.text)
    said += [shown.text, server.cli("show", "org/A").stdout, server.cli("plan").stdout, server.cli("logs", "B").stdout]
    files = [path for path in server.config_dir.rglob("*") if path.is_file() and path.suffix != ".yaml"]
    said += [path.read_text(errors="replace") for path in files]
    engines = server.engines()
    assert engines
    said += [Path(f"/proc/{pid}/cmdline").read_text() for pid in (server.process.pid, *engines)]
    assert not [(secret, text[:200]) for secret in hidden for text in said if secret in text]
    environ = Path(f"/proc/{next(iter(engines))}/environ").read_text()
    assert "from-models-yaml-1f3a" in environ, "it was to be kept from everybody but its engine"
