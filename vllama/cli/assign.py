"""`vllama assign`: the command line."""
# ruff: noqa: PLC0415

from pathlib import Path
from typing import Annotated

import typer

from vllama.cli.options import CONFIG_DIR, ApiKey, ConfigDir, Model, Output, OutputFormat, Server, Timeout, seconds

Switch = bool | None


def assign(
    model: Model,
    *,
    devices: Annotated[
        str | None, typer.Option("--devices", "-d", metavar="LIST", help="GPUs, e.g. 0 or 0,1; auto.")
    ] = None,
    gpu_memory_utilization: Annotated[
        str | None,
        typer.Option("--gpu-memory-utilization", "--gpu-memory", "-m", metavar="SHARE", help="Of each GPU, e.g. 0.3."),
    ] = None,
    port: Annotated[str | None, typer.Option("--port", "-p", metavar="PORT", help="Of its engine.")] = None,
    tensor_parallel_size: Annotated[
        str | None, typer.Option("--tensor-parallel-size", "-t", metavar="N", help="GPUs that share its weights.")
    ] = None,
    max_model_len: Annotated[
        str | None, typer.Option("--max-model-len", "-l", metavar="TOKENS", help="E.g. 32768 or 32k.")
    ] = None,
    trust_remote_code: Annotated[
        Switch, typer.Option("--trust-remote-code/--no-trust-remote-code", help="Run code that comes with the model.")
    ] = None,
    dtype: Annotated[str | None, typer.Option("--dtype", metavar="TYPE", help="E.g. auto or bfloat16.")] = None,
    auto_start: Annotated[
        Switch, typer.Option("--auto-start/--no-auto-start", help="Start it when the server starts.")
    ] = None,
    extra_args: Annotated[
        list[str] | None,
        typer.Option("--extra-args", "--extra", "-e", metavar="FLAG=VALUE", help="Another flag of vLLM. Repeatable."),
    ] = None,
    clear_extra_args: Annotated[
        bool, typer.Option("--clear-extra-args", "--clear-extra", help="Without those that it had.")
    ] = False,
    put: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any key, e.g. idle.sleep_after=10m. Repeatable."),
    ] = None,
    unset: Annotated[
        list[str] | None, typer.Option("--unset", metavar="KEY", help="Take a key out: the default holds. Repeatable.")
    ] = None,
    new: Annotated[
        bool, typer.Option("--new", help="Also a model that is neither in models.yaml nor in the model cache yet.")
    ] = False,
    restart: Annotated[bool, typer.Option("--restart", "-r", help="Then restart it, and wait.")] = False,
    show: Annotated[bool, typer.Option("--show", "-s", help="Its settings, and where each comes from.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="What would change, and what follows. Writes nothing.")] = (
        False
    ),
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    timeout: Timeout = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Change the settings of a model in models.yaml of --config-dir. Comments and order stay.

    What would not be valid is not written. A running server sees the change; where it touches the engine's command
    line, an engine that runs is drained and started anew. Exit codes: 0 done, 1 refused, 3 --restart without a server.
    """
    from vllama.cli import assignment

    plain = {
        "devices": devices, "gpu_memory_utilization": gpu_memory_utilization, "port": port,
        "tensor_parallel_size": tensor_parallel_size, "max_model_len": max_model_len, "dtype": dtype,
        "trust_remote_code": trust_remote_code, "auto_start": auto_start,
    }  # fmt: skip
    change = assignment.Change(
        plain={key: value for key, value in plain.items() if value is not None},
        extra=tuple(extra_args or ()), clear_extra=clear_extra_args, put=tuple(put or ()), unset=tuple(unset or ()),
    )  # fmt: skip
    if show and (change.asks or restart or dry_run):
        raise typer.BadParameter("show, or change; one at a time.", param_hint="--show")
    if not (show or change.asks or restart):
        raise typer.BadParameter("say what to change, or --show what it is (--help lists the settings).")
    if dry_run and restart:
        raise typer.BadParameter("nothing is restarted with --dry-run.", param_hint="--restart")
    path, as_json = Path(config_dir).expanduser() / "models.yaml", output is Output.JSON
    door = assignment.Door(server=server, config_dir=config_dir, api_key=api_key)
    if show:
        assignment.show_settings(path, model, as_json=as_json)
        return
    timeout_s = seconds(timeout)
    assignment.run(
        path, model, change, door, new=new, dry_run=dry_run, restart=restart, timeout_s=timeout_s, as_json=as_json
    )  # fmt: skip
