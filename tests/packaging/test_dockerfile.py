"""The image: what it is made of, and how it lives and dies. Its health check is tried on a real server."""

import fnmatch
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.packaging.files import KUBERNETES, ROOT, build_args, dockerfile, longest_end_s, project, read_yaml, seconds
from tests.whole.server import environment, serve
from vllama.domain.spec import Policy

HEALTH = ROOT / "manifests" / "docker" / "health.py"


def told(word: str) -> list[str]:
    return [rest for each, rest in dockerfile() if each == word]


def copied() -> list[str]:
    """Sources in the build context, of COPY and of bind mounts."""
    sources = [word for rest in told("COPY") for word in rest.split()[:-1] if not word.startswith("--")]
    mounts = [mount for rest in told("RUN") for mount in re.findall(r"--mount=(\S+)", rest) if "from=" not in mount]
    return sources + [re.search(r"source=([^, ]+)", mount)[1] for mount in mounts]


def sent(name: str) -> bool:
    """Whether .dockerignore lets the file into the build context: the last line that fits it or a parent decides."""
    path, decided = Path(name), True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!").removeprefix("**/")
        fits = any(fnmatch.fnmatch(str(each), pattern) or (fnmatch.fnmatch(each.name, pattern) and "**/" in line)
                   for each in (path, *path.parents) if each.name)  # fmt: skip
        if line and not line.startswith("#") and fits:
            decided = line.startswith("!")
    return decided


def test_the_vllm_below_is_pinned_and_the_one_that_was_tried():
    tag = build_args()["VLLM_TAG"]
    assert re.fullmatch(r"v\d+\.\d+\.\d+", tag)
    tried = re.search(r"^VERSION=(.*)$", (ROOT / "tests/real/install.sh").read_text(), re.MULTILINE)[1]
    assert tag == f"v{tried}"
    (extra,) = project()["project"]["optional-dependencies"]["vllm"]
    assert Requirement(extra).specifier.contains(tried)
    assert all(image == "${VLLM_IMAGE}:${VLLM_TAG}" for image in (rest.split(" AS ")[0] for rest in told("FROM")))


def test_what_is_copied_is_there_and_is_sent():
    assert "vllama" in copied()
    for source in copied():
        assert (ROOT / source).exists(), source
        assert sent(source), f"{source} is ignored by .dockerignore"
    assert sent("vllama/cli/demo.yaml")


@pytest.mark.parametrize("name", [".git/config", ".env", "keys.yaml", "tests/conftest.py", "vllama/__pycache__/a.pyc"])
def test_what_is_not_needed_is_not_sent(name):
    assert not sent(name)


def test_everything_that_is_installed_is_locked_and_leaves_no_cache():
    installs = [part for rest in told("RUN") for part in rest.split("&&") if " install " in part]
    assert len(installs) == 4
    for install in installs:
        if "apt-get" in install:
            assert "--no-install-recommends" in install
        else:
            assert "--no-cache-dir" in install
            assert "--require-hashes" in install or "--no-index --no-deps" in install
    assert all("rm -rf /var/lib/apt/lists/*" in rest for rest in told("RUN") if "apt-get" in rest)


def test_its_first_process_passes_signals_on_and_reaps():
    assert json.loads(told("ENTRYPOINT")[0])[:2] == ["tini", "--"]
    assert json.loads(told("CMD")[0]) == ["serve"]
    assert told("STOPSIGNAL") == ["SIGTERM"]


def test_the_advised_grace_is_enough():
    (advised,) = re.findall(r"--stop-timeout (\d+)", (ROOT / "Dockerfile").read_text())
    assert seconds(advised) >= longest_end_s(Policy())


def test_its_user_is_the_one_of_the_deployment():
    (uid,) = re.findall(r"useradd --uid (\d+)", " ".join(told("RUN")))
    pod = read_yaml(KUBERNETES / "deployment.yaml")["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsUser"] == int(uid)


def test_the_health_check_is_the_script():
    (check,) = told("HEALTHCHECK")
    (command,) = json.loads(check.split(" CMD ")[1])
    assert f"{HEALTH.relative_to(ROOT)} /usr/local/bin/{command}" in " ".join(told("COPY"))


def health(config_dir: Path) -> subprocess.CompletedProcess:
    env = environment(VLLAMA_CONFIG_DIR=str(config_dir), http_proxy="http://127.0.0.1:9")  # where nobody is
    return subprocess.run(
        [sys.executable, str(HEALTH)], env=env, capture_output=True, text=True, timeout=30, check=False
    )  # fmt: skip


def test_the_health_check_follows_the_server(tmp_path):
    assert health(tmp_path).returncode == 1
    server = serve(tmp_path / "house", "models: {org/a: {memory: 1GiB}}", "--simulate", "1x8GiB")
    try:
        well = health(server.config_dir)
        assert (well.returncode, json.loads(well.stdout or "{}").get("status")) == (0, "ok"), well.stderr
        announced = (server.config_dir / "server.pid").read_text()
    finally:
        server.close()
    (server.config_dir / "server.pid").write_text(announced)  # as a server leaves it that was killed
    dead = health(server.config_dir)
    assert dead.returncode == 1
    assert dead.stderr.startswith("unhealthy: ")
