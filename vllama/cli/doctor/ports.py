"""The server's port, and those of engines."""

import socket
from collections.abc import Iterator

from vllama.cli.doctor.finding import Case, Finding, fail, ok, warn
from vllama.cli.stock import take_stock
from vllama.cli.wiring import CannotServe, Settings
from vllama.runtime.local.ports import bindable

FEW = 50


def check_ports(case: Case) -> Iterator[Finding]:
    answer = case.server.answer
    if case.serves_here and answer is not None and answer["info"]["port"] == case.port:
        yield ok("port", f"{case.port}: the server that runs here has it")
    elif case.port == 0 or _free(case.host, case.port):
        yield ok("port", f"{case.port or 'any'} is free")
    else:
        yield fail(
            "port", f"{case.port} is in use, and no server of {case.config_dir} has it",
            f"See who has it: ss -ltnp 'sport = :{case.port}'; or choose another: --port, VLLAMA_PORT.",
        )  # fmt: skip
    yield from _engine_ports(case)


def _engine_ports(case: Case) -> Iterator[Finding]:
    try:
        ports = Settings(config_dir=case.config_dir, simulate=None, environ=case.environ).ports
    except CannotServe as error:
        yield fail("engine ports", str(error), "Set VLLAMA_VLLM_PORT_START and VLLAMA_VLLM_PORT_END.")
        return
    count = sum(map(bindable, ports))
    text = f"{count} of {len(ports)} between {ports[0]} and {ports[-1]} are free"
    mend = "Set VLLAMA_VLLM_PORT_START and VLLAMA_VLLM_PORT_END to a range that other programs leave alone."
    if not count:
        yield fail("engine ports", text, mend)
    elif count < min(FEW, len(ports)):
        yield warn("engine ports", text, mend)
    else:
        yield ok("engine ports", text)
    if case.serves_here:
        return  # its engines may have them
    for model, spec in take_stock(case.config_dir, case.environ).specs.items():
        if spec.launch.port is not None and not bindable(spec.launch.port):
            yield warn("engine ports", f"{spec.launch.port}, which models.yaml gives to {model}, is in use",
                       "Choose another, or leave `port` out.")  # fmt: skip


def _free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True
