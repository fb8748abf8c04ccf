"""Disks that take nothing more, and are mended again. Where a file system may be mounted."""

import subprocess

import pytest

from tests.waiting import wait_until
from tests.whole.server import vllama

MODELS = "models: {org/A: {memory: 1GiB}, org/B: {memory: 1GiB}}"


@pytest.fixture
def small_disk(tmp_path):
    """`logs/` of the server as a disk of 256 KiB; `small_disk("ro")` mounts it anew with such an option."""
    logs = tmp_path / "config" / "logs"
    logs.mkdir(parents=True)

    def mount(*arguments):
        return subprocess.run(
            ["mount", *arguments, "-t", "tmpfs", "tmpfs", str(logs)], capture_output=True, check=False
        )

    if mount("-o", "size=256k").returncode:
        pytest.skip("nothing may be mounted here")
    yield lambda option: subprocess.run(["mount", "-o", f"remount,{option}", str(logs)], check=True)
    subprocess.run(["umount", "-l", str(logs)], check=True)


def kept(server):
    conditions = server.http.get(f"{server.url}/health").json()["conditions"]
    return next(each for each in conditions if each["type"] == "StateKept")


def fill(path):
    try:
        with path.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
    except OSError:
        return


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_models_are_served_while_the_disk_of_the_logs_takes_nothing(start_server, small_disk, tmp_path, how):
    logs = tmp_path / "config" / "logs"
    if how == "full":
        fill(logs / "somebody's")
    else:
        small_disk("ro")
    server = start_server(MODELS, "--simulate", "8GiB")
    wait_until(lambda: not kept(server)["ok"], what="the disk to be seen")
    assert ("No space left" if how == "full" else "Read-only") in kept(server)["message"]
    health = server.http.get(f"{server.url}/health")
    assert (health.status_code, health.json()["status"]) == (200, "degraded")
    assert server.chat("org/A").status_code == 200
    if how == "full":
        (logs / "somebody's").unlink()
    else:
        small_disk("rw")
    wait_until(lambda: kept(server)["ok"], deadline_s=30, what="the mended disk to be seen")
    assert server.chat("org/B").status_code == 200
    assert any(path.name.startswith("org_B") and path.stat().st_size for path in logs.iterdir())
    assert server.terminate() == 0
    assert "Traceback" not in server.log()


def test_a_directory_that_cannot_be_written_is_refused_in_a_sentence(small_disk, tmp_path):
    (tmp_path / "config" / "logs" / "models.yaml").write_text(MODELS)
    small_disk("ro")
    done = vllama("serve", "--config-dir", str(tmp_path / "config" / "logs"), "--simulate", "8GiB", "--port", "0")
    assert done.returncode == 1
    assert "Cannot write to the configuration directory" in done.stderr
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr
