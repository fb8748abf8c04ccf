"""The checks one by one, on machines made of files, of a driver that stands in, and of this one's real ports."""

import os
import resource
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pynvml
import pytest

from tests.cli.golden import matches
from tests.engine.test_cache import FILES, put
from tests.runtime.fake_nvml import FakeGpu, FakeNvml, FakeUser
from vllama.cli.connect import Reached
from vllama.cli.doctor.devices import check_devices
from vllama.cli.doctor.examine import examine
from vllama.cli.doctor.files import check_cache, check_config_dir, check_hub, check_manifest
from vllama.cli.doctor.finding import Case, Finding, Verdict, fail, ok, warn
from vllama.cli.doctor.host import check_clock, check_memory, check_open_files, check_shared_memory
from vllama.cli.doctor.ports import check_ports
from vllama.cli.doctor.running import check_server
from vllama.cli.doctor.vllm import check_vllm
from vllama.cli.render.doctor import render_doctor
from vllama.cli.survey import Machine, look
from vllama.domain.units import GIB
from vllama.engine.platform import Platform
from vllama.runtime.local.devices import DeviceSource
from vllama.runtime.local.host import HostMemory
from vllama.runtime.local.nvml import NvmlDevices

GOLDEN = Path(__file__).parent / "render" / "golden"
NOW = 1.76e9


def vllm_at(path: Path, version: str, *files: str) -> str:
    """A `vllm` as pip installs it, of which only the names are there."""
    packages = path / "lib" / "python3.12" / "site-packages"
    (packages / f"vllm-{version}.dist-info").mkdir(parents=True)
    (packages / "vllm").mkdir()
    for name in ("__init__.py", *files):
        (packages / "vllm" / name).write_bytes(b"")
    program = path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(f"#!{path}/bin/python3\n")
    program.chmod(0o755)
    return str(program)


def machine(nvml: FakeNvml, environ: Mapping[str, str]) -> Machine:
    def opens(platform: Platform, environ: Mapping[str, str]) -> DeviceSource:
        if platform is Platform.CPU:
            return HostMemory(node="local")
        return NvmlDevices(node="local", nvml=nvml, environ=environ, clock=lambda: 0.0, sees_every_process=True)

    return look(environ, opens)


def case(tmp_path: Path, nvml: FakeNvml | None = None, environ: Mapping[str, str] | None = None, **more: Any) -> Case:
    nvml = nvml or FakeNvml(FakeGpu())
    environ = {"HF_HOME": str(tmp_path / "hf"), "PATH": "/nonexistent", **(environ or {})}
    return Case(**{
        "environ": environ, "config_dir": tmp_path, "host": "127.0.0.1", "port": 0, "machine": machine(nvml, environ),
        "server": Reached(), "now": NOW, "nvml": nvml, **more,
    })  # fmt: skip


def verdicts(findings: Any) -> list[tuple[str, Verdict]]:
    return [(each.check, each.verdict) for each in findings]


# vLLM


def test_a_vllm_for_gpus_that_can_sleep(tmp_path: Path) -> None:
    vllm = vllm_at(tmp_path / "v", "0.32.0", "cumem_allocator.abi3.so")
    found = list(check_vllm(case(tmp_path, environ={"VLLAMA_VLLM": vllm})))
    assert verdicts(found) == [("vllm", Verdict.OK), ("sleep mode", Verdict.OK)]
    assert found[0].text == f"0.32.0, built for GPUs: {vllm}"


def test_a_vllm_that_cannot_sleep_says_what_to_write(tmp_path: Path) -> None:
    vllm = vllm_at(tmp_path / "v", "0.32.0")
    _, sleep = check_vllm(case(tmp_path, environ={"VLLAMA_VLLM": vllm}))
    assert sleep.verdict is Verdict.WARN
    assert "enable-sleep-mode: false" in sleep.mend


def test_on_the_cpu_sleep_is_not_missed(tmp_path: Path) -> None:
    vllm = vllm_at(tmp_path / "v", "0.32.0+cpu")
    assert verdicts(check_vllm(case(tmp_path, environ={"VLLAMA_VLLM": vllm}))) == [
        ("vllm", Verdict.OK), ("sleep mode", Verdict.OK),
    ]  # fmt: skip


def test_a_vllm_that_does_not_run(tmp_path: Path) -> None:
    broken = tmp_path / "vllm"
    broken.write_text("#!/bin/sh\necho no torch here >&2\nexit 3\n")
    broken.chmod(0o755)
    (found,) = check_vllm(case(tmp_path, environ={"VLLAMA_VLLM": str(broken)}))
    assert found.verdict is Verdict.FAIL
    assert "no torch here" in found.text


# GPUs


def test_gpus_are_told_one_by_one(tmp_path: Path) -> None:
    holder = FakeUser(pid=os.getpid(), usedGpuMemory=30 * GIB)
    nvml = FakeNvml(
        FakeGpu(), FakeGpu(uuid="GPU-b", used=30 * GIB, compute=[holder]), FakeGpu(uuid="GPU-c", mig=True),
        FakeGpu(uuid="GPU-d", name="GB10", no_memory_of_its_own=True),
    )  # fmt: skip
    found = list(check_devices(case(tmp_path, nvml)))
    assert verdicts(found) == [
        ("driver", Verdict.OK), ("gpu0", Verdict.OK), ("gpu1", Verdict.WARN), ("gpu3", Verdict.OK),
        ("gpus", Verdict.WARN),
    ]  # fmt: skip
    assert found[0].text == "570.86.15, for CUDA up to 12.8"
    assert found[1].text == "NVIDIA H100, 80.0 GiB, 79.0 GiB free"
    assert "others hold 30.0 GiB of it: " in found[2].text
    assert f"(pid {os.getpid()})" in found[2].text
    assert "sleep at level 1 would free nothing" in found[3].text
    assert "MIG" in found[4].text


def test_what_our_own_server_holds_is_not_others(tmp_path: Path) -> None:
    nvml = FakeNvml(FakeGpu(used=70 * GIB))
    running = Reached(url="http://x", answer={"info": {}})
    assert verdicts(check_devices(case(tmp_path, nvml, server=running)))[1:] == [("gpu0", Verdict.OK)]


@pytest.mark.parametrize(
    ("error", "mend"),
    [(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "reboot"), (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "modprobe nvidia")],
)
def test_a_driver_that_fails(tmp_path: Path, error: int, mend: str) -> None:
    vllm = vllm_at(tmp_path / "v", "0.32.0")
    (found,) = check_devices(case(tmp_path, FakeNvml(init_error=error), {"VLLAMA_VLLM": vllm}))
    assert found.verdict is Verdict.FAIL
    assert mend in found.text


def test_gpus_that_a_vllm_for_the_cpu_leaves_unused(tmp_path: Path) -> None:
    vllm = vllm_at(tmp_path / "v", "0.32.0+cpu")
    (found,) = check_devices(case(tmp_path, FakeNvml(FakeGpu(), FakeGpu(uuid="GPU-b")), {"VLLAMA_VLLM": vllm}))
    assert found.verdict is Verdict.WARN
    assert "the driver has 2" in found.text
    nothing = FakeNvml(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)
    assert verdicts(check_devices(case(tmp_path, nothing, {"VLLAMA_VLLM": vllm}))) == [("gpus", Verdict.OK)]


def test_a_machine_with_nothing_at_all(tmp_path: Path) -> None:
    here = case(tmp_path, FakeNvml(init_error=pynvml.NVML_ERROR_LIBRARY_NOT_FOUND))
    assert (here.machine.platform, here.machine.vllm) == (Platform.CPU, None)
    assert verdicts(check_vllm(here)) == [("vllm", Verdict.FAIL)]
    assert verdicts(check_devices(here)) == [("gpus", Verdict.WARN)]
    here.config_dir.mkdir(exist_ok=True)
    (here.config_dir / "models.yaml").write_text("servers: [{url: 'http://gpu-server-1:8081'}]")
    assert verdicts([*check_vllm(here), *check_devices(here)]) == [("vllm", Verdict.OK), ("gpus", Verdict.OK)]
    (here.config_dir / "models.yaml").write_text("servers: [{url: 'http://gpu-server-1:8081'}]\nmodels: {org/a: {}}")
    assert verdicts(check_vllm(here)) == [("vllm", Verdict.FAIL)]


# the host


def a_root(tmp_path: Path, *, available_gib: int, limit_gib: int | None = None) -> Path:
    root = tmp_path / "root"
    (root / "proc" / "self").mkdir(parents=True)
    kib = 1 << 20
    (root / "proc" / "meminfo").write_text(f"MemTotal: {64 * kib} kB\nMemAvailable: {available_gib * kib} kB\n")
    (root / "proc" / "self" / "cgroup").write_text("0::/\n")
    (root / "sys" / "fs" / "cgroup").mkdir(parents=True)
    if limit_gib is not None:
        (root / "sys" / "fs" / "cgroup" / "memory.max").write_text(str(limit_gib * GIB))
        (root / "sys" / "fs" / "cgroup" / "memory.current").write_text("0")
    return root


def test_memory_is_what_the_control_group_allows(tmp_path: Path) -> None:
    (free,) = check_memory(case(tmp_path, root=a_root(tmp_path / "a", available_gib=50)))
    assert (free.verdict, free.text) == (Verdict.OK, "64.0 GiB, of which 50.0 GiB are available")
    (bound,) = check_memory(case(tmp_path, root=a_root(tmp_path / "b", available_gib=50, limit_gib=16)))
    assert "16.0 GiB, of which 16.0 GiB are available (the control group allows that" in bound.text
    (little,) = check_memory(case(tmp_path, root=a_root(tmp_path / "c", available_gib=2)))
    assert (little.verdict, bool(little.mend)) == (Verdict.WARN, True)


def test_shared_memory_that_is_small_or_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = case(tmp_path, root=tmp_path / "nowhere")
    assert verdicts(check_shared_memory(absent)) == [("shared memory", Verdict.WARN)]
    small = os.statvfs_result((4096, 4096, 16384, 16384, 16384, 0, 0, 0, 0, 255))
    monkeypatch.setattr("os.statvfs", lambda _: small)
    (found,) = check_shared_memory(case(tmp_path))
    assert "has 64.0 MiB" in found.text
    assert "--shm-size" in found.mend


@pytest.mark.parametrize(("hard", "verdict"), [(512, "fail"), (4096, "warn"), (65536, "ok"), (-1, "ok")])
def test_open_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hard: int, verdict: str) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, hard))
    (found,) = check_open_files(case(tmp_path))
    assert found.verdict == verdict


def test_a_clock_that_was_never_set(tmp_path: Path) -> None:
    (found,) = check_clock(case(tmp_path, now=100.0))
    assert (found.verdict, found.text[:16]) == (Verdict.FAIL, "it says 1970-01-")
    (found,) = check_clock(case(tmp_path))
    assert found.verdict in {Verdict.OK, Verdict.WARN}
    assert found.text.startswith("2025-10-09 08:53 UTC")


# files


def test_directories_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    broken = case(tmp_path, config_dir=tmp_path / "file", environ={"HF_HOME": str(tmp_path / "file")})
    assert verdicts(check_config_dir(broken)) == [("configuration", Verdict.FAIL)]
    assert verdicts(check_cache(broken)) == [("model cache", Verdict.WARN)]
    sound = case(tmp_path, config_dir=tmp_path / "not" / "there", environ={"HF_HOME": str(tmp_path / "not" / "yet")})
    assert verdicts(check_config_dir(sound)) == [("configuration", Verdict.OK)]


def test_a_disk_that_is_nearly_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": GIB}))
    (found,) = check_cache(case(tmp_path))
    assert (found.verdict, "1.0 GiB free" in found.text) == (Verdict.WARN, True)


@pytest.mark.parametrize(
    ("environ", "says"),
    [
        ({}, "https://huggingface.co, without HF_TOKEN"),
        ({"HF_TOKEN": "x", "HF_ENDPOINT": "https://mirror"}, "https://mirror, with a token of yours"),
        ({"HF_HUB_OFFLINE": "1"}, "not asked"),
    ],
)
def test_the_hub_is_named_without_asking_it(tmp_path: Path, environ: dict[str, str], says: str) -> None:
    (found,) = check_hub(case(tmp_path, environ=environ))
    assert says in found.text


def test_models_yaml_and_models(tmp_path: Path) -> None:
    assert verdicts(check_manifest(case(tmp_path))) == [("models.yaml", Verdict.WARN), ("models", Verdict.WARN)]
    (tmp_path / "models.yaml").write_text("org/a: {}\n")
    put(tmp_path / "hf" / "hub", "org/a", FILES)
    assert verdicts(check_manifest(case(tmp_path))) == [("models.yaml", Verdict.OK), ("models", Verdict.OK)]
    put(tmp_path / "hf" / "hub", "org/half", {"config.json": b"{}"})
    put(tmp_path / "hf" / "hub", "me/lora", {"adapter_config.json": b"{}"})
    *_, models = check_manifest(case(tmp_path))
    assert (models.verdict, models.text) == (Verdict.WARN, "1 model complete, 1 not: org/half")


# ports, and a server


def test_ports(tmp_path: Path) -> None:
    with socket.socket() as taken, socket.socket() as engine:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        engine.bind(("127.0.0.1", 0))
        engine.listen()
        port, engines = taken.getsockname()[1], engine.getsockname()[1]
        (tmp_path / "models.yaml").write_text(f"org/a: {{port: {engines}}}\n")
        one = {"VLLAMA_VLLM_PORT_START": str(engines), "VLLAMA_VLLM_PORT_END": str(engines + 1)}
        server, range_of_one, fixed = check_ports(case(tmp_path, port=port, environ=one))
        assert (server.verdict, range_of_one.verdict, fixed.verdict) == (Verdict.FAIL, Verdict.FAIL, Verdict.WARN)
        assert f"sport = :{port}" in server.mend
        info = {"config_dir": str(tmp_path), "port": port}
        ours = case(tmp_path, port=port, environ=one, server=Reached(url="http://x", answer={"info": info}))
        assert verdicts(check_ports(ours)) == [("port", Verdict.OK), ("engine ports", Verdict.FAIL)]
    nonsense = case(tmp_path, environ={"VLLAMA_VLLM_PORT_START": "x"})
    assert verdicts(check_ports(nonsense)) == [("port", Verdict.OK), ("engine ports", Verdict.FAIL)]


def test_a_server_that_runs(tmp_path: Path) -> None:
    wrong = {"type": "DevicesSound", "ok": False, "reason": "Trouble", "message": "gpu1 is gone.\ngpu2 is gone."}
    info = {"version": "0.0.9", "pid": 7, "uptime_s": 60.0, "config_dir": str(tmp_path), "port": 1}
    server = Reached(url="http://x", answer={"info": info, "conditions": [wrong]})
    found = list(check_server(case(tmp_path, server=server)))
    assert [each.verdict for each in found] == [Verdict.WARN] * 3
    assert "it is version 0.0.9" in found[0].text
    assert found[1].text == "gpu1 is gone."


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    (found,) = check_server(case(tmp_path, server=Reached(url="http://x", problem="it hangs\n  See.")))
    assert (found.verdict, found.text, found.mend) == (Verdict.FAIL, "it hangs", "See.")


# all together


def test_a_check_that_trips_hides_no_other(tmp_path: Path) -> None:
    def trips(_: Case) -> list[Finding]:
        raise KeyError("odd")

    found = examine(case(tmp_path), [("odd", trips), ("sound", lambda _: [ok("sound", "x")])])
    assert [(each.check, each.text) for each in found] == [
        ("odd", "could not be checked: KeyError: 'odd'"), ("sound", "x"),
    ]  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_the_page(width: int) -> None:
    findings = [
        ok("vllm", "0.32.0, built for GPUs: /opt/vllm/bin/vllm"),
        warn(
            "shared memory", "/dev/shm has 64.0 MiB; engines across several GPUs fail with so little",
            "In a container: docker run --shm-size=8g, or --ipc=host; in Kubernetes an emptyDir of medium Memory.",
        ),
        fail("models.yaml", "/home/me/models.yaml:7: Qwen/Qwen3-8B: unknown key 'alias'; did you mean 'aliases'"),
        ok("port", "33258 is free"),
    ]  # fmt: skip
    text = render_doctor(findings, width=width)
    assert matches(GOLDEN / f"doctor_{width}.txt", text.plain)
    assert all(len(line) <= width for line in text.plain.splitlines())
    assert {str(span.style) for span in text.spans} == {"green", "yellow", "bold red", "dim"}
    assert render_doctor([ok("a", "b")]).plain.endswith("\nNothing is wrong.")
