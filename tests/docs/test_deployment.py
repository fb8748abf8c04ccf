"""What the files for containers and systemd say of the server is so."""

import configparser
import inspect
import re
from pathlib import Path

from vllama.cli.app import serve
from vllama.domain.spec import Policy

ROOT = Path(__file__).parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()


def test_the_image_serves_where_the_server_listens() -> None:
    port = inspect.signature(serve).parameters["port"].default
    assert re.findall(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE) == [str(port)]
    assert re.search(r'^ENTRYPOINT \[(.*, )?"vllama"\]\nCMD \["serve"\]$', DOCKERFILE, re.MULTILINE)


def test_the_image_is_built_on_any_version_of_vllm() -> None:
    assert re.search(r"^ARG VLLM_TAG=\S+\n+FROM \S+:\$\{VLLM_TAG\}", DOCKERFILE, re.MULTILINE)


def test_systemd_leaves_engines_alone_and_gives_them_time() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(ROOT / "manifests" / "systemd" / "vllama.service")
    service = unit["Service"]
    assert (service["KillMode"], service["Restart"]) == ("process", "always")
    policy = Policy()
    assert int(service["TimeoutStopSec"]) > policy.drain_deadline_s + policy.stop_deadline_s
