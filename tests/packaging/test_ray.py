"""manifests/ray: systemd takes the units, Ray takes their options, and the RayCluster is as valid as one can tell."""

import configparser
import re
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests.packaging.files import ROOT, problems, project, seconds

RAY = ROOT / "manifests" / "ray"
HEAD, WORKER = "vllama-ray-head.service", "vllama-ray-worker.service"
CLUSTER, SERVICE, POLICY = yaml.safe_load_all((RAY / "raycluster.yaml").read_text())
HEAD_POD = CLUSTER["spec"]["headGroupSpec"]["template"]
(WORKERS,) = CLUSTER["spec"]["workerGroupSpecs"]


class ManyTimes(dict):
    """systemd adds up what it is told several times; the configuration parser would keep the last."""

    def __setitem__(self, key, value):
        if isinstance(value, list) and key in self:
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


def unit(name: str) -> configparser.ConfigParser:
    parsed = configparser.ConfigParser(interpolation=None, strict=False, dict_type=ManyTimes)
    parsed.optionxform = str
    parsed.read(RAY / name)
    return parsed


def environment_of(name: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in unit(name)["Service"]["Environment"].split("\n"))


def options(name: str) -> dict[str, str | None]:
    """Of `ray start`, as the unit runs it."""
    program, start, *rest = unit(name)["Service"]["ExecStart"].split()
    assert (Path(program).name, start) == ("ray", "start")
    return {key: value or None for key, _, value in (option.partition("=") for option in rest)}


def ray_takes() -> set[str]:
    """Also what its help does not tell."""
    asked = "from ray.scripts.scripts import start; print(*(name for each in start.params for name in each.opts))"
    return set(subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True).stdout.split())


@pytest.mark.parametrize("name", [HEAD, WORKER])
def test_a_restart_of_ray_leaves_the_engines_to_be_adopted(name):
    service = unit(name)["Service"]
    assert (service["KillMode"], service["Restart"], service["OOMPolicy"]) == ("process", "always", "continue")
    assert "--block" in options(name), "systemd would lose sight of it"
    assert seconds(service["TimeoutStopSec"]) >= 10


@pytest.mark.parametrize("name", [HEAD, WORKER, "vllama-over-ray.conf"])
def test_a_head_that_is_away_for_long_does_not_end_the_attempts(name):
    assert unit(name)["Unit"]["StartLimitIntervalSec"] == "0"


@pytest.mark.parametrize("name", [HEAD, WORKER, "vllama-over-ray.conf"])
def test_nobody_takes_part_without_the_token(name):
    told = environment_of(name)
    assert (told["RAY_AUTH_MODE"], told["RAY_AUTH_TOKEN_PATH"]) == ("token", "/etc/vllama/ray-token")
    assert int(told["RAY_gcs_rpc_server_reconnect_timeout_s"]) > 60


def test_head_and_workers_agree():
    head, worker = options(HEAD), options(WORKER)
    assert environment_of(HEAD) == environment_of(WORKER)
    assert (head.pop("--include-dashboard"), head.pop("--dashboard-host")) == ("false", "127.0.0.1")
    port = head.pop("--port")
    assert worker.pop("--address") == f"${{HEAD_ADDRESS}}:{port}"
    assert f"--ray-address ${{NODE_ADDRESS}}:{port}" in unit("vllama-over-ray.conf")["Service"]["ExecStart"]
    assert head.pop("--head", "") is None
    assert head == worker


def test_what_differs_is_in_the_file_of_the_machine():
    given = re.findall(r"^(\w+)=", (RAY / "ray.env").read_text(), re.MULTILINE)
    used = {name for each in (HEAD, WORKER) for name in re.findall(r"\$\{(\w+)\}", (RAY / each).read_text())}
    assert set(given) == used


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
@pytest.mark.parametrize("name", [HEAD, WORKER])
@pytest.mark.parametrize(("key", "understood"), [("", True), ("KillMod=process\n", False)])
def test_systemd_understands_it(tmp_path, name, key, understood):
    text = re.sub(r"^ExecStart=\S+", f"{key}ExecStart=/bin/true", (RAY / name).read_text(), flags=re.MULTILINE)
    (tmp_path / name).write_text(text)
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(tmp_path / name)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    complaints = [line for line in verified.stderr.splitlines() if name in line]
    assert (complaints == []) is understood, complaints


@pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed")
def test_ray_knows_every_option():
    given = {*options(HEAD), *options(WORKER)}
    for params in (CLUSTER["spec"]["headGroupSpec"]["rayStartParams"], WORKERS["rayStartParams"]):
        given |= {f"--{name}" for name in params}
    assert given - ray_takes() == set()


def test_the_cluster_is_valid():
    assert problems("raycluster", CLUSTER) == []
    assert problems("raycluster", CLUSTER | {"spec": CLUSTER["spec"] | {"authOption": {}}}) != []


@pytest.mark.parametrize("template", [HEAD_POD, WORKERS["template"]], ids=["head", "workers"])
def test_the_pods_are_valid(template):
    definition = "io.k8s.api.core.v1.PodTemplateSpec"
    assert problems("kubernetes", template, definition=definition) == []
    assert problems("kubernetes", template | {"specs": {}}, definition=definition) != []


def test_what_stands_beside_it_is_valid():
    assert problems("kubernetes", SERVICE, definition="io.k8s.api.core.v1.Service") == []
    assert problems("kubernetes", POLICY, definition="io.k8s.api.networking.v1.NetworkPolicy") == []


def test_every_pod_has_the_same_ray():
    (wanted,) = project()["project"]["optional-dependencies"]["ray"]
    assert wanted.startswith("ray==" + CLUSTER["spec"]["rayVersion"].rsplit(".", 1)[0])
    containers = [*HEAD_POD["spec"]["containers"], *WORKERS["template"]["spec"]["containers"]]
    assert len({each["image"] for each in containers}) == 1


def test_nobody_takes_part_in_the_cluster_without_the_token():
    assert CLUSTER["spec"]["authOptions"] == {"mode": "token"}
    (vllama,) = (each for each in HEAD_POD["spec"]["containers"] if each["name"] == "vllama")
    given = {each["name"]: each for each in vllama["env"]}
    assert given["RAY_AUTH_MODE"]["value"] == "token"
    secret = given["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert secret == {"name": CLUSTER["metadata"]["name"], "key": "auth_token"}, "which the operator makes"
    assert CLUSTER["spec"]["headGroupSpec"]["rayStartParams"]["dashboard-host"] == "127.0.0.1"


def test_only_the_pods_reach_ray_and_the_engines():
    among, clients = POLICY["spec"]["ingress"]
    selected = POLICY["spec"]["podSelector"]["matchLabels"]
    assert among == {"from": [{"podSelector": {"matchLabels": selected}}]}
    assert [each["port"] for each in clients["ports"]] == ["http"]
    for template in (HEAD_POD, WORKERS["template"]):
        assert selected.items() <= template["metadata"]["labels"].items()


def test_what_is_mounted_is_there():
    for template in (HEAD_POD, WORKERS["template"]):
        spec = template["spec"]
        mounts = [
            mount for each in spec["containers"] + spec.get("initContainers", []) for mount in each["volumeMounts"]
        ]
        assert {mount["name"] for mount in mounts} == {volume["name"] for volume in spec["volumes"]}


def test_it_says_that_it_was_not_tried():
    assert (RAY / "raycluster.yaml").read_text().startswith("# Not tried on a real cluster")
