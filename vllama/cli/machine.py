"""The commands about the machine and the server: init, doctor, info, schema, version. app.py names them."""
# ruff: noqa: PLC0415

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vllama.cli.connect import ask_if_any, connect
from vllama.cli.failure import FAILED
from vllama.cli.options import CONFIG_DIR, ApiKey, ConfigDir, Output, OutputFormat, Port, Server

if TYPE_CHECKING:
    from vllama.cli.client import AdminClient


def init(
    *,
    config_dir: ConfigDir = CONFIG_DIR,
    force: Annotated[
        bool, typer.Option("--force", "-f", help="Replace the one that is there; it is kept aside.")
    ] = False,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Write a models.yaml for what is on disk. With comments, and sized for the GPUs that are here.

    Exit codes: 0 written; 1 there is one already, or it cannot be written; 2 wrong usage.
    """
    from datetime import UTC, datetime

    from vllama.cli.init import run

    run(config_dir.expanduser(), force=force, now=datetime.now(UTC), as_json=output is Output.JSON)


def doctor(
    *,
    host: Annotated[str, typer.Option(envvar="VLLAMA_HOST", help="Where a server would listen.")] = "0.0.0.0",  # noqa: S104
    port: Port = 33258,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Find what keeps models from running well. Says how to mend it, and changes nothing.

    vLLM, driver and GPUs, memory, limits, clock, directories, models.yaml, models on disk, ports, a server that runs.

    Exit codes: 0 nothing fails, though it may warn; 1 something fails; 2 wrong usage.
    """
    import time

    from vllama.cli.doctor.examine import examine
    from vllama.cli.doctor.finding import Case, Verdict
    from vllama.cli.render.doctor import render_doctor
    from vllama.cli.survey import look
    from vllama.cli.terminal import show, show_json, width
    from vllama.cli.wiring import real_devices

    config_dir = config_dir.expanduser().absolute()
    reached = ask_if_any(server, config_dir, api_key, _told)
    machine = look(os.environ, real_devices)
    findings = examine(
        Case(environ=os.environ, config_dir=config_dir, host=host, port=port, machine=machine, server=reached,
             now=time.time())
    )  # fmt: skip
    if output is Output.JSON:
        show_json([
            {"check": each.check, "verdict": each.verdict.value, "text": each.text, "mend": each.mend}
            for each in findings
        ])  # fmt: skip
    else:
        show(render_doctor(findings, width=width()))
    raise typer.Exit(FAILED if any(each.verdict is Verdict.FAIL for each in findings) else 0)


def info(
    *,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show what the server is. Its process, where it listens, its files, ports and defaults.

    Exit codes: 0; 1 failed; 2 wrong usage; 3 no server answers.
    """
    with connect(server, config_dir, api_key) as client:
        from vllama.cli.render.info import render_info
        from vllama.cli.terminal import show, show_json, width

        said = _told(client)
        if output is Output.JSON:
            show_json({**said["info"], "url": client.url, "conditions": said["conditions"]})
        else:
            show(render_info(said["info"], said["conditions"], url=client.url, width=width()))


def schema(*, output: OutputFormat = Output.JSON) -> None:  # noqa: ARG001  # taken as everywhere; it is JSON either way
    """Print the JSON Schema of models.yaml. For editors, and for programs that write such files.

    Exit codes: 0; 2 wrong usage.
    """
    from vllama.cli.terminal import show_json
    from vllama.controller.manifest.json_schema import manifest_schema

    show_json(manifest_schema())


def version(*, output: OutputFormat = Output.TEXT) -> None:
    """Show the versions of vllama and vLLM.

    Exit codes: 0; 2 wrong usage.
    """
    import platform
    from importlib.metadata import version as version_of

    from vllama.engine.platform import EngineUnavailable, find_vllm, installed_version

    try:
        vllm: str | None = find_vllm(None, os.environ)
    except EngineUnavailable:
        vllm = None
    found = None if vllm is None else installed_version(vllm)
    if output is Output.JSON:
        from vllama.cli.terminal import show_json

        show_json({
            "vllama": version_of("vllama"), "python": platform.python_version(), "vllm": found, "vllm_path": vllm,
        })  # fmt: skip
        return
    print(f"vllama {version_of('vllama')}")
    print("vllm none found" if vllm is None else f"vllm {found or 'of a version that only it can tell'} at {vllm}")


def _version_only(asked: bool) -> None:  # noqa: FBT001  # click hands the flag over so
    """`vllama --version`: no look for vLLM, for which `vllama version` takes its time."""
    if asked:
        from importlib.metadata import version as version_of

        print(f"vllama {version_of('vllama')}")
        raise typer.Exit


def vllama(
    *,
    version: Annotated[  # its callback does it
        bool, typer.Option("--version", is_eager=True, callback=_version_only, help="Show vllama's version.")
    ] = False,
) -> None:
    """What stands before a command."""


def _told(client: "AdminClient") -> Mapping[str, Any]:
    """`info` and `conditions`."""
    return {"info": client.info(), "conditions": client.status()["conditions"]}
