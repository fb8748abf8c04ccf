"""A server that runs already."""

from collections.abc import Iterator
from importlib.metadata import version

from vllama.cli.doctor.finding import Case, Finding, fail, ok, warn
from vllama.domain.units import format_duration


def check_server(case: Case) -> Iterator[Finding]:
    server = case.server
    if server.problem is not None:
        first, *others = server.problem.splitlines()
        yield fail("server", first, " ".join(line.strip() for line in others))
        return
    if server.answer is None:
        yield ok("server", f"none runs on {case.config_dir}; start one with `vllama serve`")
        return
    info = server.answer["info"]
    text = f"{server.url}, pid {info['pid']}, up for {format_duration(info['uptime_s'])}"
    own = version("vllama")
    if info["version"] != own:
        yield warn("server", f"{text}; it is version {info['version']}, and this is {own}", "Restart it.")
    else:
        yield ok("server", text)
    for condition in server.answer["conditions"]:
        if not condition["ok"]:
            for line in condition["message"].splitlines():
                yield warn("server", line)
