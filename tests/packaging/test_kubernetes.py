"""manifests/kubernetes: valid, of one piece, and enough: what the pod does at its start a real server does here."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.packaging.files import KUBERNETES, ROOT, longest_end_s, problems, project, read_yaml
from tests.waiting import wait_until
from tests.whole.server import QUICK, Server, environment, vllama
from vllama.controller.manifest.load import load_bytes

DEFINITIONS = {
    "ConfigMap": "io.k8s.api.core.v1.ConfigMap",
    "Deployment": "io.k8s.api.apps.v1.Deployment",
    "NetworkPolicy": "io.k8s.api.networking.v1.NetworkPolicy",
    "PersistentVolumeClaim": "io.k8s.api.core.v1.PersistentVolumeClaim",
    "Service": "io.k8s.api.core.v1.Service",
}
OBJECTS = {path.stem: read_yaml(path) for path in sorted(KUBERNETES.glob("*.yaml")) if path.stem != "kustomization"}
DEPLOYMENT, SERVICE, POLICY = (OBJECTS[name]["spec"] for name in ("deployment", "service", "networkpolicy"))
POD = DEPLOYMENT["template"]["spec"]
(INIT,), (SERVER,) = POD["initContainers"], POD["containers"]
MODELS = OBJECTS["configmap"]["data"]["models.yaml"]
KUSTOMIZATION = read_yaml(KUBERNETES / "kustomization.yaml")
PROBES = {name: SERVER[name]["httpGet"] for name in ("startupProbe", "livenessProbe", "readinessProbe")}


def env_of(container: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"] if "value" in each}


@pytest.mark.parametrize("name", OBJECTS)
def test_it_is_valid(name):
    definition = DEFINITIONS[OBJECTS[name]["kind"]]
    assert problems("kubernetes", OBJECTS[name], definition=definition) == []
    assert problems("kubernetes", OBJECTS[name] | {"specs": {}}, definition=definition) != []


def test_the_schema_looks_at_the_innermost():
    wrong = {"containers": [{"name": "vllama", "livenessProbe": {"httpget": {"port": 1}}}]}
    assert problems("kubernetes", wrong, definition="io.k8s.api.core.v1.PodSpec") != []


def test_all_of_it_is_applied():
    assert sorted(KUSTOMIZATION["resources"]) == sorted(f"{name}.yaml" for name in OBJECTS)
    assert all(each["apiVersion"] and each["metadata"]["name"] == "vllama" for each in OBJECTS.values())


def test_the_image_is_this_version():
    (image,) = KUSTOMIZATION["images"]
    assert image["newTag"] == project()["project"]["version"]
    assert {container["image"] for container in (INIT, SERVER)} == {image["name"]}


def test_the_ports_agree():
    (port,) = SERVER["ports"]
    assert env_of(SERVER)["VLLAMA_PORT"] == str(port["containerPort"])
    assert f"EXPOSE {port['containerPort']}\n" in (ROOT / "Dockerfile").read_text()
    asked = [each["targetPort"] for each in SERVICE["ports"]] + [probe["port"] for probe in PROBES.values()]
    assert {*asked, *(each["port"] for each in POLICY["ingress"][0]["ports"])} == {port["name"]}
    assert SERVICE["ports"][0]["port"] == port["containerPort"]


def test_kubernetes_sets_no_vllama_port():
    """It would, to `tcp://...`, for a Service that is called vllama."""
    assert POD["enableServiceLinks"] is False


def test_those_who_select_find_the_pod():
    labels = DEPLOYMENT["template"]["metadata"]["labels"].items()
    for selected in (DEPLOYMENT["selector"]["matchLabels"], SERVICE["selector"], POLICY["podSelector"]["matchLabels"]):
        assert selected.items() <= labels
        assert selected


def test_what_is_mounted_is_there():
    volumes = {volume["name"]: volume for volume in POD["volumes"]}
    assert {mount["name"] for mount in INIT["volumeMounts"] + SERVER["volumeMounts"]} == set(volumes)
    assert volumes["home"]["persistentVolumeClaim"]["claimName"] == OBJECTS["persistentvolumeclaim"]["metadata"]["name"]
    assert volumes["models"]["configMap"]["name"] == OBJECTS["configmap"]["metadata"]["name"]
    assert volumes["keys"]["secret"]["secretName"] in (KUBERNETES / "kustomization.yaml").read_text()
    assert volumes["shm"]["emptyDir"]["medium"] == "Memory"


def test_one_at_a_time_and_time_for_its_end():
    assert (DEPLOYMENT["replicas"], DEPLOYMENT["strategy"]) == (1, {"type": "Recreate"})
    policy = load_bytes(MODELS.encode(), file="models.yaml", environ={}).policy
    assert POD["terminationGracePeriodSeconds"] >= longest_end_s(policy)


def test_it_runs_with_no_more_rights_than_it_needs():
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["automountServiceAccountToken"] is False
    for container in (INIT, SERVER):
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
    resources = SERVER["resources"]
    assert resources["limits"]["nvidia.com/gpu"] == resources["requests"]["nvidia.com/gpu"]


def test_its_models_pass(tmp_path):
    (tmp_path / "models.yaml").write_text(MODELS)
    checked = vllama("validate", str(tmp_path / "models.yaml"))
    assert checked.returncode == 0, checked.stdout


class Pod:
    """The pod's file system below `root`, as the kubelet lays it out, and its containers run one after the other."""

    def __init__(self, root: Path) -> None:
        self.root, self.version = root, 0
        for mount in SERVER["volumeMounts"]:
            self.path(mount["mountPath"]).mkdir(parents=True)
        self.home = self.path(env_of(SERVER)["HOME"])

    def path(self, inside: str) -> Path:
        return self.root / inside.lstrip("/")

    def here(self, text: str) -> str:
        inside = sorted((mount["mountPath"] for mount in SERVER["volumeMounts"]), key=len, reverse=True)
        return re.sub("|".join(inside), lambda found: str(self.path(found[0])), text)

    def config_map(self, models: str) -> None:
        """As the kubelet swaps it: a fresh directory, and one rename of the link that all files are reached by."""
        directory = self.path("/etc/vllama")
        self.version += 1
        fresh = directory / f"..{self.version}"
        fresh.mkdir()
        (fresh / "models.yaml").write_text(models)
        (directory / "..data_tmp").symlink_to(fresh.name)
        (directory / "..data_tmp").rename(directory / "..data")
        if self.version == 1:
            (directory / "models.yaml").symlink_to("..data/models.yaml")

    def init(self) -> None:
        env = {name: self.here(value) for name, value in env_of(INIT).items()}
        command = [self.here(each) for each in INIT["command"]]
        subprocess.run(command, env={"PATH": os.environ["PATH"]} | env, check=True, timeout=30)

    def serve(self) -> Server:
        """The server's own arguments and environment; only its devices and its address are this machine's."""
        env = {name: self.here(value) for name, value in env_of(SERVER).items()}
        here = {"VLLAMA_HOST": "127.0.0.1", "VLLAMA_PORT": "0", "VLLAMA_SIMULATE": "1x80GiB"}
        with (self.root / "stderr").open("w") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "vllama", *SERVER["args"]],
                env=environment(**(env | here | QUICK)),
                stderr=stderr,
            )
        return Server(config_dir=self.home / ".vllama", process=process)


@pytest.fixture
def pod(tmp_path: Path) -> Pod:
    return Pod(tmp_path)


def answers(server: Server, path: str) -> bool:
    try:
        return server.http.get(server.url + path).status_code == 200
    except httpx.ConnectError:  # what it announces is bound, and heard a moment later
        return False


def test_the_pod_starts_is_ready_and_follows_its_config_map(pod):
    pod.config_map(MODELS)
    keys = pod.here(env_of(SERVER)["VLLAMA_API_KEYS_FILE"])
    key = vllama("keys", "add", "laptop", "--api-keys", keys).stdout.strip()
    pod.init()
    pod.init()  # of a pod that is started again, on the same volume
    server = pod.serve()
    try:
        announced = server.config_dir / "server.pid"
        wait_until(lambda: announced.exists() or server.process.poll() is not None, deadline_s=60, what="a server")
        server.url = f"http://127.0.0.1:{read_yaml(announced)['port']}"
        for probe in PROBES.values():
            wait_until(
                lambda path=probe["path"]: answers(server, path), deadline_s=60, what=f"200 from {probe['path']}"
            )
        assert server.http.get(f"{server.url}/v1/models").status_code == 401
        server.http.headers["authorization"] = f"Bearer {key}"
        pod.config_map("models: {org/new: {memory: 1GiB}}")
        wait_until(lambda: "org/new" in server.http.get(f"{server.url}/v1/models").text, deadline_s=60, what="org/new")
        assert server.terminate() == 0
    finally:
        server.close()


def test_without_keys_the_server_does_not_start(pod):
    pod.config_map(MODELS)
    pod.init()
    server = pod.serve()
    try:
        assert server.process.wait(60) != 0
        assert "keys.yaml" in (pod.root / "stderr").read_text()
    finally:
        server.close()
