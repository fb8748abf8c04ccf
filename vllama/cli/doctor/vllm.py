"""Is there a vLLM, which one, and can it sleep?"""

import asyncio
from collections.abc import Iterator

from vllama.cli.doctor.finding import Case, Finding, fail, ok, warn
from vllama.engine.platform import EngineUnavailable, Platform, has_sleep_mode, platform_of, read_version

ANSWERS_WITHIN_S = 60.0  # `vllm --version` takes up to 11 s


def check_vllm(case: Case) -> Iterator[Finding]:
    machine = case.machine
    if machine.vllm is None:
        if case.only_routes:
            yield ok("vllm", "none, and none is needed: models.yaml has servers that others run, and no models")
            return
        first, *others = (machine.vllm_problem or "No vLLM found.").splitlines()
        yield fail("vllm", first.partition(" Looked for")[0], others[-1] if others else "")
        return
    version = machine.version
    if version is None:
        try:
            version = asyncio.run(read_version(machine.vllm, timeout_s=ANSWERS_WITHIN_S))
        except EngineUnavailable as error:
            yield fail("vllm", str(error), f"Try it: {machine.vllm} --version")
            return
    platform = platform_of(version)
    built = "for the CPU" if platform is Platform.CPU else "for GPUs"
    yield ok("vllm", f"{version}, built {built}: {machine.vllm}")
    yield _sleep_mode(machine.vllm, platform)


def _sleep_mode(vllm: str, platform: Platform) -> Finding:
    if platform is Platform.CPU:
        return ok("sleep mode", "none on the CPU, where sleep frees nothing: models make room by stopping")
    has = has_sleep_mode(vllm)
    if has is None:
        return warn("sleep mode", "it cannot be told from its files whether this vLLM has it")
    if not has:
        return warn(
            "sleep mode",
            "this vLLM was built without what its sleep mode needs (cumem_allocator), so engines that ask for it fail",
            "Install vLLM's own wheel, or write `defaults: { extra_args: { enable-sleep-mode: false } }`: models then "
            "make room by stopping.",
        )
    return ok("sleep mode", "there: models can make room by sleeping")
