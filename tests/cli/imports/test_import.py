"""`vllama import`, as typed: what becomes of models.yaml, and what is said of the rest."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import Result

from tests.engine.test_cache import put
from vllama.controller.manifest import load

Vllama = Callable[..., Result]

SERVERS = """\
[servers]
servers = [
    { url = "http://localhost:8801", max_concurrent_requests = 10, is_healthy = true },
    { url = "http://localhost:8802/v1" },
    { url = "gpu box" },
]

[config]
health_check_interval = 10
config_reload_interval = 30
request_timeout = 30
health_check_timeout = 5
max_retries = 3
failure_threshold = 2
auto_recovery_threshold = 60
enable_active_health_check = true
health_check_max_response_time = 10.0
health_check_min_success_rate = 1.8
health_check_window_size = 10
health_check_consecutive_failures = 3
nonsense = 3
"""

SWAP = """\
macros:
  vllm: /opt/vllm/bin/vllm serve
  ctx: 16384
hooks: {on_startup: {preload: [qwen]}}
groups: {one: {persistent: true, members: [coder]}}
apiKeys: [sk-abcdefghijklmnopqrst]
models:
  qwen:
    cmd: |
      # the small one
      ${vllm} Qwen/Qwen3-8B --port ${PORT} --host 127.0.0.1 \\
        --max-model-len ${ctx} --gpu-memory-utilization=0.4 -tp 2
        --enable-prefix-caching --no-enable-chunked-prefill --served-model-name q8
        --hf-overrides '{"a": 1}' --max-num-seqs 64 --uvicorn-log-level warning --revision 123
    aliases: [small, {id: gpt-4o-mini}]
    ttl: 300
    env: ["CUDA_VISIBLE_DEVICES=0,1", "HF_HOME=${env.TOP}/hub", "HF_TOKEN=${env.NOT_SET}"]
    name: nice
  coder:
    cmd: >
      docker run --rm --gpus '"device=1"' -e HF_HUB_OFFLINE=1 -v /mnt/models:/models -p ${PORT}:8000
      vllm/vllm-openai:latest --model /models/coder --data-parallel-size 2 --api-key sk-secretsecretsecret
    ttl: 0
  llama:
    cmd: llama-server --port ${PORT} -m /x/Llama.gguf
  again:
    cmd: bash -c "exec vllm serve Qwen/Qwen3-8B"
  two:
    cmd: bash -c "sleep 1; vllm serve a/b"
  odd:
    cmd: ${nope} serve x
peers:
  far: {proxy: "http://far:8000/v1", apiKey: "${env.FAR_KEY}", models: [a]}
"""

TAGS = {
    "models": [
        {"name": "llama3.2:latest", "details": {"format": "gguf", "family": "llama", "parameter_size": "3.2B"}},
        {"name": "hf.co/org/thing-GGUF:Q4_K_M", "details": {"format": "gguf"}},
        {"name": "hf.co/org/plain:latest", "details": {"format": "safetensors"}},
    ]
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """models.yaml, which is not there yet."""
    monkeypatch.setenv("VLLAMA_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("VLLAMA_TRANSFORMERS_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TOP", "/data")
    monkeypatch.setenv("FAR_KEY", "sk-farfarfarfarfarfarfar")
    monkeypatch.delenv("NOT_SET", raising=False)
    (tmp_path / "servers.toml").write_text(SERVERS)
    (tmp_path / "config.yaml").write_text(SWAP)
    (tmp_path / "tags.json").write_text(json.dumps(TAGS, indent=1))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "config" / "models.yaml"


def left(vllama: Vllama, source: str) -> list[str]:
    answer = json.loads(vllama("import", source, "--dry-run", "-o", "json").stdout)
    return [f"{each['line']}: {each['what']}: {each['why']}" for each in answer["left"]]


def test_servers_toml_of_the_balancer(vllama: Vllama, file: Path) -> None:
    result = vllama("import", "servers.toml")
    assert result.exit_code == 0, result.stderr
    assert vllama("validate").stdout == "ok: 0 models, 2 servers\n"
    manifest = load(file, environ={})
    servers = [(server.url, server.max_concurrent_requests) for server in manifest.servers]
    assert servers == [("http://localhost:8801", 10), ("http://localhost:8802", 3)]
    assert (manifest.balance.request_timeout_s, manifest.balance.health_check_interval_s) == (30, 10)
    assert left(vllama, "servers.toml") == [
        "3: http://localhost:8801: is_healthy: vllama finds that out by itself",
        "21: config.nonsense: mvllm has no such key, nor has vllama",
        "5: gpu box: url: 'gpu box' is not the address of a server; write for example http://gpu-server-1:8081",
        "18: balance.health_check_min_success_rate: 1.8 is out of range; 0 to 1",
    ]
    assert "servers.toml:21: config.nonsense" in result.stderr


def test_what_llama_swap_runs_with_vllm(vllama: Vllama, file: Path) -> None:
    result = vllama("import", "config.yaml")
    assert result.exit_code == 0, result.output
    manifest = load(file, environ={"TOP": "/data", "FAR_KEY": "sk-far"})
    assert list(manifest.models) == ["Qwen/Qwen3-8B", "coder"]
    qwen, coder = manifest.models.values()
    assert qwen.aliases == ("qwen", "small", "gpt-4o-mini", "q8")
    assert dict(qwen.launch.settings) == {
        "max_model_len": 16384, "gpu_memory_utilization": 0.4, "tensor_parallel_size": 2, "max_num_seqs": 64,
        "enable_prefix_caching": True, "enable_chunked_prefill": False, "hf_overrides": '{"a": 1}', "revision": "123",
    }  # fmt: skip
    assert qwen.launch.extra_args == (("uvicorn-log-level", "warning"),)
    assert (qwen.devices, qwen.idle.sleep_after_s, qwen.auto_start) == ((0, 1), 300, True)
    assert (dict(qwen.launch.env), qwen.launch.vllm) == ({"HF_HOME": "/data/hub"}, "/opt/vllm/bin/vllm")
    assert (coder.launch.path, coder.devices, coder.idle.sleep_after_s) == ("/mnt/models/coder", (1,), None)
    assert dict(coder.launch.env) == {"HF_HUB_OFFLINE": "1"}
    assert [(server.url, server.api_key) for server in manifest.servers] == [("http://far:8000", "sk-far")]
    assert "api_key: ${FAR_KEY}" in file.read_text()  # its name, not the key


def test_what_llama_swap_has_and_vllama_has_not_is_named_with_its_line(vllama: Vllama, file: Path) -> None:
    said = "\n".join(left(vllama, "config.yaml"))
    for line in [
        "18: qwen: name: models.yaml has no counterpart",
        "20: coder: --data-parallel-size 2: vllama counts tensor_parallel_size x pipeline",
        "20: coder: --api-key: engines listen on the loopback interface only",
        "20: coder: the container: it ran in vllm/vllm-openai:latest; here it runs with the vLLM of this machine",
        "25: llama: `llama-server --port ${PORT} ...` is llama.cpp, and vLLM cannot run its GGUF files",
        "27: again: Qwen/Qwen3-8B is run by qwen already",
        "29: two: a shell script of several commands",
        "31: odd: ${nope} is not among its macros",
        "5: coder: its group is persistent: `pin: true`",
        "6: apiKeys: make keys with `vllama keys add`",
        "33: peer far: models: vllama asks the server itself which it has",
        "8: Qwen/Qwen3-8B: env.HF_TOKEN: ${NOT_SET}: the environment has no NOT_SET",
    ]:
        assert line in said, said
    shown = vllama("import", "config.yaml", "--dry-run")
    assert "secretsecret" not in shown.output
    assert not file.exists()


def test_two_of_one_model_need_it_on_disk(vllama: Vllama, file: Path, tmp_path: Path) -> None:
    weights = b"\2\0\0\0\0\0\0\0{}"
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": weights}
    snapshot = put(tmp_path / "hub", "Qwen/Qwen3-8B", files)
    assert vllama("import", "config.yaml").exit_code == 0
    assert load(file, environ={"TOP": "", "FAR_KEY": "k"}).models["again"].launch.path == str(snapshot)


def test_ollamas_list_is_mostly_work_for_people(vllama: Vllama, file: Path) -> None:
    file.parent.mkdir()
    file.write_text("# mine\norg/a: {}  # flat\n")
    result = vllama("import", "tags.json")
    assert result.exit_code == 0, result.stderr
    assert load(file, environ={}).models["org/plain"].aliases == ("hf.co/org/plain",)
    text = file.read_text()
    assert "# Of ollama, for you to decide:\n#   llama3.2:latest: a GGUF file of the family llama (3.2B)" in text
    assert "# mine" in text
    assert "tags.json:4: llama3.2:latest" in result.stderr
    vllama("import", "tags.json")
    assert file.read_text() == text  # said once


@pytest.fixture
def ollama() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(TAGS).encode()
            self.send_response(200 if self.path == "/api/tags" else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_ollama_itself_is_asked(vllama: Vllama, file: Path, ollama: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", ollama)
    answer = json.loads(vllama("import", "ollama", "-o", "json").stdout)
    assert (answer["source"], answer["models"], answer["written"]) == (f"http://{ollama}", ["org/plain"], True)
    assert json.loads(vllama("import", f"http://{ollama}", "-o", "json").stdout)["models"] == []
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    result = vllama("import", "ollama")
    assert (result.exit_code, "no Ollama answers at http://127.0.0.1:1" in result.stderr) == (3, True)


@pytest.mark.parametrize(("existing", "code", "limit"), [(None, 1, 10), ("keep", 0, 10), ("replace", 0, 7)])
def test_what_is_there_is_overwritten_only_when_told(
    vllama: Vllama, file: Path, existing: str | None, code: int, limit: int
) -> None:
    vllama("import", "servers.toml")
    Path("servers.toml").write_text(SERVERS.replace("requests = 10", "requests = 7").replace("8802", "8803"))
    result = vllama("import", "servers.toml", *(() if existing is None else ("--existing", existing)))
    assert result.exit_code == code, result.output
    servers = {server.url[-4:]: server.max_concurrent_requests for server in load(file, environ={}).servers}
    assert servers["8801"] == limit
    assert ("8803" in servers) == (code == 0)
    if code:
        assert "has http://localhost:8801 already, and says otherwise" in result.stderr


def test_names_that_are_taken_are_left_out(vllama: Vllama, file: Path) -> None:
    file.parent.mkdir()
    file.write_text("models:\n  org/a: {aliases: [small, coder]}\n")
    said = left(vllama, "config.yaml")
    assert "8: Qwen/Qwen3-8B: alias small: is already a name of org/a" in said
    assert "19: coder: is already a name of org/a" in said
    assert vllama("import", "config.yaml").exit_code == 0
    assert list(load(file, environ={"TOP": "", "FAR_KEY": "k"}).models) == ["org/a", "Qwen/Qwen3-8B"]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("x.toml", "[servers", "is no TOML"),
        ("x.yaml", "a: b: c", "x.yaml:1:5: a ':' is out of place"),
        ("x.json", "{", "is no JSON"),
        ("x.json", '{"models": [1]}', "is not what Ollama's /api/tags answers"),
        ("x.toml", None, "cannot be read: No such file"),
    ],
)
def test_what_cannot_be_read(vllama: Vllama, file: Path, name: str, content: str | None, says: str) -> None:
    if content is not None:
        Path(name).write_text(content)
    result = vllama("import", name)
    assert (result.exit_code, says in result.stderr) == (1, True), result.output
    assert not file.exists()
