"""NVIDIA GPUs as the driver tells them, and as it fails to: the real device source on a made-up driver."""

import inspect
import os
import subprocess
from pathlib import Path

import pynvml
import pytest

from tests.runtime.fake_nvml import FakeGpu, FakeNvml, FakeUser
from tests.waiting import wait_until
from vllama.domain.observed import ForeignProcess
from vllama.domain.units import GIB
from vllama.runtime.base import RuntimeFailed
from vllama.runtime.local import host
from vllama.runtime.local.identity import VARIABLE, Identity
from vllama.runtime.local.nvml import NvmlDevices

NO_SUCH_PID = 1 << 30


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def devices(nvml: FakeNvml, *, clock: Clock | None = None, container: bool = False, **environ: str) -> NvmlDevices:
    return NvmlDevices(
        node="local", nvml=nvml, environ=environ, clock=clock or Clock(), sees_every_process=not container
    )  # fmt: skip


def read(source: NvmlDevices, sessions: dict[int, str] | None = None):
    reading = source.read(sessions or {})
    return reading, reading.nodes[0]


@pytest.fixture
def spawned():
    """`spawned(NAME=value)`: the pid of a process that leads a session of its own."""
    processes = []

    def spawn(**env: str) -> int:
        processes.append(subprocess.Popen(["sleep", "600"], env=os.environ | env, start_new_session=True))
        comm = Path(f"/proc/{processes[-1].pid}/comm")
        wait_until(lambda: comm.read_text() == "sleep\n", what="the process to be itself")
        return processes[-1].pid

    yield spawn
    for each in processes:
        each.kill()
        each.wait()


def test_the_stand_in_has_nothing_that_the_real_module_has_not():
    fake = FakeNvml()
    names = [name for name in dir(fake) if name.lower().startswith("nvml")]
    assert len(names) > 20
    for name in names:
        ours, real = getattr(fake, name), getattr(pynvml, name)
        if name.startswith("NVML"):
            assert ours == real
        else:
            assert list(inspect.signature(ours).parameters) == list(inspect.signature(real).parameters), name


def test_two_gpus_their_memory_and_their_links():
    source = devices(
        FakeNvml(
            FakeGpu(used=3 * GIB, linked={"GPU-bbbb"}), FakeGpu(uuid="GPU-bbbb", total=40 * GIB, linked={"GPU-aaaa"})
        )
    )
    reading, node = read(source)
    assert [(d.index, d.name, d.total_bytes, d.used_bytes, d.unified) for d in node.devices] == [
        (0, "NVIDIA H100", 80 * GIB, 3 * GIB, False),
        (1, "NVIDIA H100", 40 * GIB, GIB, False),
    ]
    assert node.linked == ((0, 1),)
    assert node.sleep_frees_memory
    assert node.host_budget_bytes == host.total_bytes() // 2
    assert 0 < node.host_available_bytes <= host.total_bytes()
    assert reading.troubles == ()
    assert source.used() == {0: 3 * GIB, 1: GIB}


# no driver, or not all of it


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, r"Install the NVIDIA driver .*docker run --gpus all"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "try `modprobe nvidia`, or reboot"),
        (pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH, "reboot"),
        (pynvml.NVML_ERROR_NO_PERMISSION, "ls -l /dev/nvidia"),
        (pynvml.NVML_ERROR_UNKNOWN, "Unknown Error"),
    ],
)
def test_without_a_driver_it_says_what_to_do(error, said):
    with pytest.raises(RuntimeFailed, match=said):
        devices(FakeNvml(init_error=error))


def test_without_a_gpu_the_variable_is_not_blamed():
    with pytest.raises(RuntimeFailed, match="sees no GPU"):
        devices(FakeNvml())
    with pytest.raises(RuntimeFailed, match="CUDA_VISIBLE_DEVICES=-1 leaves no GPU"):
        devices(FakeNvml(FakeGpu()), CUDA_VISIBLE_DEVICES="-1")


def test_a_gpu_that_is_dead_at_the_start_is_left_out_and_the_others_are_used():
    nvml = FakeNvml(FakeGpu(fails=pynvml.NVML_ERROR_GPU_IS_LOST), FakeGpu(uuid="GPU-bbbb"))
    source = devices(nvml)
    assert source.indices() == (1,)
    (trouble,) = read(source)[0].troubles
    assert trouble.startswith("gpu0 is left out: the driver does not open it.")


def test_numbers_mean_the_drivers_order_and_it_says_so_to_who_asked_for_another():
    nvml = FakeNvml(FakeGpu(name="NVIDIA T4"), FakeGpu(uuid="GPU-bbbb"))
    source = devices(nvml, CUDA_VISIBLE_DEVICES="1", CUDA_DEVICE_ORDER="FASTEST_FIRST")
    assert source.indices() == (1,)
    assert "FASTEST_FIRST is not followed" in read(source)[0].troubles[0]


# MIG


def test_a_gpu_in_mig_mode_is_refused_by_name_and_the_others_are_used():
    source = devices(FakeNvml(FakeGpu(mig=True), FakeGpu(uuid="GPU-bbbb", mig=False), FakeGpu(uuid="GPU-cccc")))
    assert source.indices() == (1, 2)
    (trouble,) = read(source)[0].troubles
    assert trouble == (
        "gpu0 (NVIDIA H100) is left out: it is in MIG mode, and vLLM cannot be given slices. "
        "Leave it out of CUDA_VISIBLE_DEVICES, or end MIG mode: nvidia-smi -i 0 -mig 0"
    )


def test_nothing_is_said_of_a_gpu_in_mig_mode_that_is_not_listed():
    source = devices(FakeNvml(FakeGpu(mig=True), FakeGpu(uuid="GPU-bbbb")), CUDA_VISIBLE_DEVICES="1")
    assert read(source)[0].troubles == ()


def test_where_all_are_in_mig_mode_nothing_can_be_served():
    with pytest.raises(RuntimeFailed, match=r"No GPU can be used\.\ngpu0 \(NVIDIA H100\) is left out: it is in MIG"):
        devices(FakeNvml(FakeGpu(mig=True)))


# memory that is the host's


def test_a_gpu_without_memory_of_its_own_has_the_hosts():
    reading, node = read(devices(FakeNvml(FakeGpu(name="NVIDIA GB10", no_memory_of_its_own=True))))
    (device,) = node.devices
    assert device.unified
    assert device.total_bytes == host.meminfo()["MemTotal"]
    assert 0 < device.used_bytes < device.total_bytes
    assert node.host_budget_bytes == 0  # a copy there would free nothing here
    assert reading.troubles == ()


def test_on_memory_that_is_both_an_engine_holds_its_gpu_part_and_its_processes(spawned):
    pid = spawned()
    gpu = FakeGpu(no_memory_of_its_own=True, compute=[FakeUser(pid, 2 * GIB)])
    reading, _ = read(devices(FakeNvml(gpu)), {pid: "e1"})
    assert reading.host_bytes["e1"] > 0
    assert reading.measured_bytes["e1"] > 2 * GIB


# who holds what


def test_what_engines_hold_and_who_else_is_there(spawned):
    ours, theirs, screen = spawned(), spawned(), spawned()
    gpu = FakeGpu(
        compute=[FakeUser(ours, 20 * GIB), FakeUser(theirs, 5 * GIB)],
        graphics=[FakeUser(screen, GIB), FakeUser(theirs, 5 * GIB)],  # one that draws too is in both lists
    )
    reading, node = read(devices(FakeNvml(gpu)), {ours: "e1"})
    assert reading.measured_bytes == {"e1": 20 * GIB}
    assert node.devices[0].foreign == (
        ForeignProcess(pid=theirs, name="sleep", memory_bytes=5 * GIB),
        ForeignProcess(pid=screen, name="sleep", memory_bytes=GIB),
    )


def test_of_several_gpus_what_an_engine_holds_is_the_most_on_any(spawned):
    pid = spawned()
    gpus = [FakeGpu(uuid=f"GPU-{i}", compute=[FakeUser(pid, size * GIB)]) for i, size in enumerate((20, 22))]
    reading, _ = read(devices(FakeNvml(*gpus)), {pid: "e1"})
    assert reading.measured_bytes == {"e1": 22 * GIB}


def test_a_worker_in_a_session_of_its_own_is_known_by_its_tag(spawned):
    tag = Identity(
        owner="me", engine_id="e1", model="m", spec_hash="h", node="local", devices=(0,), memory_bytes=1, port=1,
        log="l", log_offset=0,
    )  # fmt: skip
    leader, worker = spawned(), spawned(**{VARIABLE: tag.encode()})
    gpu = FakeGpu(compute=[FakeUser(leader, GIB), FakeUser(worker, 4 * GIB)])
    reading, node = read(devices(FakeNvml(gpu)), {leader: "e1"})
    assert reading.measured_bytes == {"e1": 5 * GIB}
    assert node.devices[0].foreign == ()


@pytest.mark.parametrize("told", [None, 0])  # WSL2; a container whose driver translates numbers and not sizes
def test_where_sizes_are_not_told_an_engine_holds_an_unknown_amount_and_never_nothing(spawned, told):
    ours, theirs = spawned(), spawned()
    first = FakeGpu(compute=[FakeUser(ours, told), FakeUser(theirs, told)])
    second = FakeGpu(uuid="GPU-bbbb", compute=[FakeUser(ours, GIB)])
    reading, node = read(devices(FakeNvml(first, second)), {ours: "e1"})
    assert "e1" not in reading.measured_bytes
    assert node.devices[0].foreign == (ForeignProcess(pid=theirs, name="sleep", memory_bytes=None),)
    assert node.devices[0].used_bytes == GIB


def test_numbers_of_another_namespace_are_nobodys(spawned):
    """In a container, one process that is not here tells that the others' numbers are the host's."""
    ours, theirs = spawned(), spawned()
    listed = [FakeUser(ours, 20 * GIB), FakeUser(theirs, GIB), FakeUser(NO_SUCH_PID, GIB)]
    reading, node = read(devices(FakeNvml(FakeGpu(compute=listed, used=30 * GIB)), container=True), {ours: "e1"})
    assert reading.measured_bytes == {}
    assert node.devices[0].foreign == ()
    assert node.devices[0].used_bytes == 30 * GIB  # the truth all the same


def test_in_a_container_whose_driver_translates_numbers_engines_are_measured(spawned):
    ours = spawned()
    reading, _ = read(devices(FakeNvml(FakeGpu(compute=[FakeUser(ours, 20 * GIB)])), container=True), {ours: "e1"})
    assert reading.measured_bytes == {"e1": 20 * GIB}


def test_on_the_host_a_process_that_proc_hides_is_somebody():
    gpu = FakeGpu(compute=[FakeUser(NO_SUCH_PID, GIB)])
    _, node = read(devices(FakeNvml(gpu)))
    assert node.devices[0].foreign == (ForeignProcess(pid=NO_SUCH_PID, name="?", memory_bytes=GIB),)


def test_a_driver_that_lists_no_processes_still_tells_the_memory(spawned):
    pid = spawned()
    reading, node = read(devices(FakeNvml(FakeGpu(used=7 * GIB, lists_processes=False))), {pid: "e1"})
    assert node.devices[0].used_bytes == 7 * GIB
    assert reading.measured_bytes == {}
    assert reading.troubles == ()


# failing while it runs


def test_a_lost_gpu_is_unknown_and_named_and_the_other_is_as_before():
    lost, other = FakeGpu(), FakeGpu(uuid="GPU-bbbb", used=2 * GIB)
    source = devices(FakeNvml(lost, other))
    lost.fails = pynvml.NVML_ERROR_GPU_IS_LOST
    reading, node = read(source)
    assert [(d.name, d.total_bytes, d.used_bytes) for d in node.devices] == [
        ("NVIDIA H100", 80 * GIB, None),  # its size is remembered: a model that fits there is not refused for ever
        ("NVIDIA H100", 80 * GIB, 2 * GIB),
    ]
    (trouble,) = reading.troubles
    assert trouble.startswith(
        "gpu0 (NVIDIA H100) cannot be read, and nothing is started there until it can: GPU is lost"
    )
    assert source.used() == {0: None, 1: 2 * GIB}
    lost.fails = None
    reading, node = read(source)
    assert node.devices[0].used_bytes == GIB
    assert reading.troubles == ()


def test_a_driver_that_went_and_came_back_is_opened_anew():
    nvml, clock = FakeNvml(FakeGpu(), FakeGpu(uuid="GPU-bbbb")), Clock()
    source = devices(nvml, clock=clock)
    nvml.stop_driver(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    assert source.used() == {0: None, 1: None}  # Uninitialized: it need not be waited out
    reading, _ = read(source)
    (trouble,) = reading.troubles
    assert trouble == (
        "The NVIDIA driver is gone, and with it gpu0 (NVIDIA H100), gpu1 (NVIDIA H100): Driver Not Loaded. "
        "The driver is installed and not running: try `modprobe nvidia`, or reboot."
    )
    nvml.start_driver()
    opened = nvml.inits
    assert source.used() == {0: None, 1: None}
    assert nvml.inits == opened  # it is not opened at every look
    clock.now += 60
    assert source.used() == {0: GIB, 1: GIB}
    assert read(source)[0].troubles == ()


def test_handles_from_before_a_reset_are_given_up_after_a_while():
    nvml, clock = FakeNvml(FakeGpu()), Clock()
    source = devices(nvml, clock=clock)
    nvml.stop_driver(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
    nvml.start_driver()
    nvml.nvmlInit()  # initialized, and only the handle is dead
    assert source.used() == {0: None}
    clock.now += 5
    assert source.used() == {0: None}
    clock.now += 5
    assert source.used() == {0: GIB}


def test_a_gpu_that_stays_lost_is_asked_for_less_and_less_often():
    gpu, clock = FakeGpu(), Clock()
    nvml = FakeNvml(gpu)
    source = devices(nvml, clock=clock)
    gpu.fails = pynvml.NVML_ERROR_GPU_IS_LOST
    for _ in range(3600):
        clock.now += 1
        assert source.used() == {0: None}
    assert 8 < nvml.inits < 25


def test_when_gpus_are_counted_anew_none_is_taken_for_another():
    nvml, clock = FakeNvml(FakeGpu(), FakeGpu(uuid="GPU-bbbb"), FakeGpu(uuid="GPU-cccc")), Clock()
    source = devices(nvml, clock=clock)
    nvml.stop_driver(pynvml.NVML_ERROR_UNINITIALIZED)
    nvml.start_driver()
    del nvml.gpus[1]  # fell off the bus: what was gpu2 is gpu1 now, and engines would be started on the wrong one
    assert source.used() == {0: None, 1: None, 2: None}
    assert source.used() == {0: GIB, 1: None, 2: None}
    reading, _ = read(source)
    assert reading.troubles[0].startswith("gpu1 (NVIDIA H100) is another GPU now")
    assert reading.troubles[1].startswith("gpu2 (NVIDIA H100) is gone")
