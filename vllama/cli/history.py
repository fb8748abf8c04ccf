"""`vllama logs`, `vllama events` and `vllama top`: the command lines."""
# ruff: noqa: PLC0415

from typing import Annotated

import typer

from vllama.cli.complete import model_names
from vllama.cli.connect import connect
from vllama.cli.options import CONFIG_DIR, All, ApiKey, ConfigDir, Model, Output, OutputFormat, Server
from vllama.domain.replicas import MOST_REPLICAS

Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")]


def logs(
    model: Model,
    *,
    follow: Follow = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, max=10_000, help="How many of the last.")] = 200,
    replica: Annotated[int, typer.Option("--replica", min=1, max=MOST_REPLICAS, help="Which of its engines.")] = 1,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show what the engines of a model wrote. Without a server its log file of --config-dir is read.

    -o json: a list of lines; with -f one JSON string per line. Exit codes: 0 done, 1 no such model or log, 3 the
    server that was named does not answer.
    """
    from vllama.cli import log_lines

    as_json = output is Output.JSON
    if server is None and not log_lines.runs_on(config_dir.expanduser()):
        log_lines.from_file(
            config_dir.expanduser(), model, replica=replica, lines=lines, follow=follow, as_json=as_json
        )
        return
    with connect(server, config_dir, api_key) as client:
        log_lines.from_server(client, model, replica=replica, lines=lines, follow=follow, as_json=as_json)


def events(
    model: Annotated[
        str | None,
        typer.Argument(metavar="[MODEL]", help="Only what happened to this one.", autocompletion=model_names),
    ] = None,
    *,
    follow: Follow = False,
    limit: Annotated[int, typer.Option("--lines", "-n", min=0, max=2000, help="How many of the last.")] = 50,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show what happened since the server started, and why, newest last. The server keeps 2000 events.

    -o json: a list; with -f one event per line. Exit codes: 0 done, 1 it broke off, 3 no server answers.
    """
    from vllama.cli import happenings

    with connect(server, config_dir, api_key) as client:
        happenings.run(client, model, limit=limit, follow=follow, as_json=output is Output.JSON)


def top(
    *,
    show_all: All = False,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show models, the latest events and whose memory it is, every second anew, until Ctrl-C.

    Not on a terminal, and with -o json, one look. Exit codes: 0 done, 3 no server answers, 130 left by Ctrl-C.
    """
    from vllama.cli.top import run

    with connect(server, config_dir, api_key) as client:
        run(client, show_all=show_all, as_json=output is Output.JSON)
