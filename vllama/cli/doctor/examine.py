"""All checks, in the order in which one would mend things."""

from collections.abc import Callable, Iterable, Iterator

from vllama.cli.doctor.devices import check_devices
from vllama.cli.doctor.files import check_cache, check_config_dir, check_hub, check_manifest
from vllama.cli.doctor.finding import Case, Finding, warn
from vllama.cli.doctor.host import check_clock, check_memory, check_open_files, check_shared_memory
from vllama.cli.doctor.ports import check_ports
from vllama.cli.doctor.running import check_server
from vllama.cli.doctor.vllm import check_vllm

Check = Callable[[Case], Iterable[Finding]]

CHECKS: tuple[tuple[str, Check], ...] = (
    ("vllm", check_vllm), ("gpus", check_devices), ("memory", check_memory), ("shared memory", check_shared_memory),
    ("open files", check_open_files), ("clock", check_clock), ("configuration", check_config_dir),
    ("models.yaml", check_manifest), ("model cache", check_cache), ("hub", check_hub), ("port", check_ports),
    ("server", check_server),
)  # fmt: skip


def examine(case: Case, checks: Iterable[tuple[str, Check]] = CHECKS) -> list[Finding]:
    return [finding for name, check in checks for finding in _of(name, check, case)]


def _of(name: str, check: Check, case: Case) -> Iterator[Finding]:
    try:
        yield from check(case)
    except Exception as error:  # noqa: BLE001  # a check that trips is no reason to keep the others back
        yield warn(name, f"could not be checked: {type(error).__name__}: {error}")
