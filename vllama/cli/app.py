"""The `vllama` command line. Each command imports what it needs when it runs, so that `--help` is quick."""
# ruff: noqa: PLC0415

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from vllama.cli import env_file, explain, history, life, machine, on_disk
from vllama.cli.assign import assign
from vllama.cli.batch import batch
from vllama.cli.complete import colons_kept, is_completing, model_names
from vllama.cli.connect import connect
from vllama.cli.failure import EPILOG, FAILED, Commands
from vllama.cli.keys import keys
from vllama.cli.memory import memory
from vllama.cli.nodes import nodes
from vllama.cli.options import (
    CONFIG_DIR,
    All,
    ApiKey,
    ConfigDir,
    Model,
    NoWait,
    Output,
    OutputFormat,
    PsOutput,
    PsOutputFormat,
    Server,
    Timeout,
    seconds,
)
from vllama.cli.run import run as run_model
from vllama.cli.serving import demo, serve
from vllama.cli.simulate import simulate, trace
from vllama.cli.taking import take_over

app = typer.Typer(
    cls=Commands, no_args_is_help=True, rich_markup_mode=None, epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Gives the GPUs you own the manners of Ollama and the speed of vLLM.",
)  # fmt: skip


def main() -> None:
    sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]  # a plain terminal shows ? for …
    for note in env_file.take_here():
        if not is_completing():
            print(f"warning: {note}", file=sys.stderr)
    try:
        try:
            with colons_kept():
                app(prog_name="vllama")
        finally:
            sys.stdout.flush()
    except BrokenPipeError:  # `| head`: nobody reads on, and the flush at exit must not complain either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)


app.command()(serve)
app.command()(demo)


@app.command()
def ps(
    *,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    show_all: All = False,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Every second anew, until Ctrl-C.")] = False,
    output: PsOutputFormat = PsOutput.TEXT,
) -> None:
    """Show the models and what becomes of them. -o wide shows what they take, and how long they take to come and go.

    Stopped models that models.yaml does not name are left out without --all. A narrow terminal loses columns in
    this order: PID, PORT, REASON, LAST USED, WAITING, IN FLIGHT, MEMORY, DEVICES, NODE; with -o wide: PID, PORT,
    RESTS, SLEEP, WEIGHTS, HOST COPY, WAKE, LOAD, ASLEEP, AWAKE, DEVICES, NODE. NODE is there where there are several.
    """
    from vllama.cli.ps import run
    from vllama.cli.ps import watch as keep_watching

    if watch and output is PsOutput.JSON:
        raise typer.BadParameter("--watch is for people; leave it out with -o json.", param_hint="--watch")
    with connect(server, config_dir, api_key) as client:
        if watch:
            keep_watching(client, show_all=show_all, wide=output is PsOutput.WIDE)
        else:
            run(client, show_all=show_all, output=output)


@app.command()
def show(
    model: Model,
    *,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show all that is known of one model, whether it runs or not."""
    from vllama.cli.card import run

    with connect(server, config_dir, api_key) as client:
        run(client, model, as_json=output is Output.JSON)


@app.command()
def plan(
    *,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    settle: Annotated[bool, typer.Option("--settle", help="All steps, until nothing is left to do.")] = False,
    request: Annotated[
        list[str] | None,
        typer.Option(
            "--request",
            "-r",
            metavar="MODEL",
            help="If somebody called MODEL now. Again: the next call.",
            autocompletion=model_names,
        ),
    ] = None,
    matrix: Annotated[bool, typer.Option("--matrix", help="Which models can be awake together.")] = False,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 10 if there is something to do.")] = False,
    show_all: All = False,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show what the server would do now, and why. Nothing is done.

    + start or wake, ~ sleep, - stop, … waits, ! refused, blank: stays as it is.
    """
    from vllama.cli import what_if
    from vllama.cli.plan import run

    if settle + bool(request) + matrix > 1:
        raise typer.BadParameter("one at a time.", param_hint="--settle, --request, --matrix")
    as_json, code = output is Output.JSON, 0
    with connect(server, config_dir, api_key) as client:
        if matrix:
            what_if.matrix(client, as_json=as_json)
        elif request:
            code = what_if.rehearse(client, request, as_json=as_json)
        else:
            code = run(client, settle=settle, show_all=show_all, as_json=as_json)
    raise typer.Exit(code if exit_code else 0)


@app.command()
def start(
    model: Model,
    *,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Make a model ready: start it, or wake it up. Counts as one request."""
    _ask(
        "start", model, server=server, config_dir=config_dir, api_key=api_key, no_wait=no_wait, timeout=timeout,
        output=output,
    )  # fmt: skip


app.command("wake-up", help="The same as start.")(start)
app.command("wakeup", hidden=True, help="The same as start.")(start)
app.command("wake_up", hidden=True, help="The same as start.")(start)


@app.command()
def stop(
    model: Model,
    *,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Stop a model, after its requests in flight. The next request starts it again, unless it is pinned."""
    _ask(
        "stop", model, server=server, config_dir=config_dir, api_key=api_key, no_wait=no_wait, timeout=timeout,
        output=output,
    )  # fmt: skip


@app.command()
def sleep(
    model: Model,
    *,
    level: Annotated[
        int | None, typer.Option("--level", "-l", min=1, max=3, help="1, 2, or 3 to stop. Default: vllama's choice.")
    ] = None,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    no_wait: NoWait = False,
    timeout: Timeout = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Put a model to sleep, after its requests in flight. The next request wakes it, unless it is pinned."""
    _ask(
        "sleep", model, level=level, server=server, config_dir=config_dir, api_key=api_key, no_wait=no_wait,
        timeout=timeout, output=output,
    )  # fmt: skip


@app.command()
def validate(
    file: Annotated[Path | None, typer.Argument(help="Default: models.yaml of --config-dir.")] = None,
    config_dir: ConfigDir = CONFIG_DIR,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Check a models.yaml: every mistake with its line. Needs no server."""
    from vllama.cli.validate import run

    path = config_dir / "models.yaml" if file is None else file
    raise typer.Exit(run(path.expanduser(), as_json=output is Output.JSON))


@app.command()
def config(config_dir: ConfigDir = CONFIG_DIR, output: OutputFormat = Output.TEXT) -> None:
    """Show every setting of the server and where it comes from. Needs no server.

    The first that says it counts: option, environment, .env of the working directory, default. What `defaults` of
    models.yaml say of idle models goes before the environment. Exit codes: 0 done, 1 models.yaml has mistakes.
    """
    from vllama.cli.config import run

    command = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    options = {str(each.envvar): each.default for each in command.params if each.envvar}
    run(options, config_dir.expanduser(), as_json=output is Output.JSON)


app.add_typer(keys, name="keys")
app.add_typer(trace, name="trace")
app.command("simulate")(simulate)
app.command("run")(run_model)
app.command("batch")(batch)
app.command("logs")(history.logs)
app.command("events")(history.events)
app.command("why")(explain.why)
app.command("describe")(explain.describe)
app.command("top")(history.top)
app.command("memory")(memory)
app.command("nodes")(nodes)
app.command("assign")(assign)
app.command("restart")(life.restart)
app.command("reload")(life.reload)
app.command("warm-up")(life.warm_up)
app.command("warmup", hidden=True, help="The same as warm-up.")(life.warm_up)
app.command("warm_up", hidden=True, help="The same as warm-up.")(life.warm_up)


app.command("list")(on_disk.list_models)
app.command("ls", hidden=True, help="The same as list.")(on_disk.list_models)
app.command()(on_disk.pull)
app.command("rm")(on_disk.remove)
app.command()(machine.init)
app.command("import")(take_over)
app.command()(machine.doctor)
app.command()(machine.info)
app.command()(machine.schema)
app.command()(machine.version)
app.callback()(machine.vllama)


def _ask(
    verb: str, model: str, *, level: int | None = None, server: str | None, config_dir: Path,
    api_key: str | None, no_wait: bool, timeout: str | None, output: Output,
) -> None:  # fmt: skip
    timeout_s = seconds(timeout)
    with connect(server, config_dir, api_key) as client:
        from vllama.cli.progress import Wish, run

        wish = Wish(verb=verb, model=model, level=level)
        run(client, wish, wait=not no_wait, timeout_s=timeout_s, as_json=output is Output.JSON)
