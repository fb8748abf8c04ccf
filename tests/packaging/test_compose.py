"""docker-compose.yml: valid with every default and with everything overridden, and the older names still work."""

import re
from collections.abc import Mapping
from typing import Any

import pytest
import typer

from tests.packaging.files import ROOT, build_args, longest_end_s, problems, read_yaml, seconds
from vllama.cli.app import app
from vllama.cli.config import FURTHER
from vllama.domain.spec import Policy

COMPOSE = ROOT / "docker-compose.yml"
VARIABLE = re.compile(r"\$\{(\w+)(:-((?:[^{}]|\$\{[^{}]*\})*))?\}")
# What the older tool's .env said, with other values than the defaults.
OLDER = {
    "VLLAMA_HOST": "127.0.0.1", "VLLAMA_PORT": "40000", "VLLAMA_VLLM_PORT_START": "41000",
    "VLLAMA_VLLM_PORT_END": "42000", "VLLAMA_UNLOAD_TIMEOUT": "60", "VLLAMA_UNLOAD_MODE": "1",
    "VLLAMA_DEFAULT_DEVICE": "1", "VLLAMA_OFFLINE_MODE": "true", "VLLAMA_TRANSFORMERS_CACHE": "/cache/hub",
    "HF_HOME": "/cache", "HF_TOKEN": "hf_secret",
}  # fmt: skip
# Not settings of the server in the container.
NOT_INSIDE = {
    "VLLAMA_CONFIG_DIR", "VLLAMA_SERVER", "VLLAMA_API_KEY",
    # several machines: what compose starts is one, and no part of a cluster
    "VLLAMA_RUNTIME", "VLLAMA_RAY_ADDRESS", "VLLAMA_RAY_INSECURE", "VLLAMA_RAY_SILENCE", "VLLAMA_RAY_GRACE",
}  # fmt: skip


def interpolated(value: Any, environ: Mapping[str, str]) -> Any:
    """As compose does it: in the strings of the parsed file. An empty variable counts as none (`:-`)."""
    if isinstance(value, dict):
        return {key: interpolated(each, environ) for key, each in value.items()}
    if isinstance(value, list):
        return [interpolated(each, environ) for each in value]
    if not isinstance(value, str):
        return value
    return VARIABLE.sub(lambda found: environ.get(found[1]) or interpolated(found[3] or "", environ), value)


def service(**environ: str) -> dict[str, Any]:
    return interpolated(read_yaml(COMPOSE), environ)["services"]["vllama"]


def inside(**environ: str) -> dict[str, str]:
    """The environment of the container."""
    pairs = [each.partition("=") for each in service(**environ)["environment"]]
    return {name: value if equals else environ[name] for name, equals, value in pairs if equals or name in environ}


def variables() -> set[str]:
    return {found[1] for text in (COMPOSE.read_text(), *re.findall(r":-(.*\$\{.*\})", COMPOSE.read_text()))
            for found in VARIABLE.finditer(text)}  # fmt: skip


def test_it_is_valid_with_its_defaults():
    assert problems("compose-spec", interpolated(read_yaml(COMPOSE), {})) == []


def test_the_schema_would_say_so():
    document = interpolated(read_yaml(COMPOSE), {})
    document["services"]["vllama"]["stop_grace_periods"] = "1s"
    document["services"]["vllama"]["restart"] = 5
    assert len(problems("compose-spec", document)) >= 2


def test_every_variable_has_a_default():
    text = "\n".join(line for line in COMPOSE.read_text().splitlines() if not line.lstrip().startswith("#"))
    assert "$" not in VARIABLE.sub("", text)
    assert [found[0] for found in VARIABLE.finditer(text) if found[2] is None or found[3] == ""] == []


@pytest.mark.parametrize("name", sorted(variables()))
def test_every_variable_overrides(name):
    document = interpolated(read_yaml(COMPOSE), {name: "4711"})
    assert "4711" in str(document)
    assert problems("compose-spec", document) == []


def test_every_setting_of_the_server_reaches_it():
    options = {str(each.envvar) for each in typer.main.get_command(app).commands["serve"].params if each.envvar}
    settings = (options | {name for name, _ in FURTHER}) - NOT_INSIDE
    assert settings - inside(**dict.fromkeys(settings, "x")).keys() == set()


def test_the_older_environment_works_unchanged():
    assert {name: value for name, value in inside(**OLDER).items() if name in OLDER} == OLDER | {
        "VLLAMA_HOST": "0.0.0.0"
    }
    older = service(**OLDER)
    assert older["ports"] == ["127.0.0.1:40000:40000"]
    assert [volume.split(":")[1] for volume in older["volumes"]] == ["/cache", "/root/.vllama"]


def test_without_any_environment_it_is_where_the_older_one_was():
    plain = service()
    assert plain["ports"] == ["0.0.0.0:33258:33258"]
    assert plain["volumes"] == [
        "~/.cache/huggingface:/root/.cache/huggingface", "./vllama_config:/root/.vllama",
    ]  # fmt: skip
    assert (plain["container_name"], plain["shm_size"]) == ("vllama-server", "16gb")
    assert inside()["HF_HOME"] == "/root/.cache/huggingface"


def test_what_is_not_set_is_not_passed_on_empty():
    """An empty CUDA_VISIBLE_DEVICES would hide every GPU."""
    assert "" not in inside().values()
    assert "CUDA_VISIBLE_DEVICES" not in inside()
    assert inside(CUDA_VISIBLE_DEVICES="1")["CUDA_VISIBLE_DEVICES"] == "1"


def test_not_as_root_everything_moves_to_another_home():
    moved = service(VLLAMA_USER="1000:0", VLLAMA_HOME="/home/vllama")
    assert moved["user"] == "1000:0"
    assert all(volume.split(":")[1].startswith("/home/vllama/.") for volume in moved["volumes"])
    assert inside(VLLAMA_HOME="/home/vllama")["HF_HOME"] == "/home/vllama/.cache/huggingface"


def test_the_grace_is_enough():
    assert seconds(service()["stop_grace_period"]) >= longest_end_s(Policy())


def test_it_builds_what_the_dockerfile_builds():
    assert service()["build"]["args"] == build_args()


def test_the_health_check_is_the_images_own():
    assert "test" not in service()["healthcheck"]
