"""`vllama restart`, `reload` and `warm-up`: the command lines."""
# ruff: noqa: PLC0415

from pathlib import Path
from typing import Annotated

import typer

from vllama.cli.complete import model_names
from vllama.cli.connect import connect
from vllama.cli.failure import CommandFailed
from vllama.cli.options import CONFIG_DIR, ApiKey, ConfigDir, Model, Output, OutputFormat, Server, Timeout, seconds


def restart(
    model: Model,
    *,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    timeout: Timeout = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Stop a model, after its requests in flight, and start it again. One that does not run is started.

    Exit codes: 0 it is ready again, 1 it is not, 3 no server answers.
    """
    timeout_s = seconds(timeout)
    with connect(server, config_dir, api_key) as client:
        from vllama.cli.restart import run

        run(client, model, timeout_s=timeout_s, as_json=output is Output.JSON)


def reload(
    *,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Look at models.yaml and the model cache now. The server does it by itself too, a few seconds after a change.

    Exit codes: 0 models.yaml is in force, 1 it has mistakes and the last good version stays, 3 no server answers.
    """
    with connect(server, config_dir, api_key) as client:
        from vllama.cli.terminal import show_json

        answer = client.reload()
    if output is Output.JSON:
        show_json(answer)
    wrong = [each["message"] for each in answer["conditions"] if each["type"] == "ManifestValid" and not each["ok"]]
    if wrong:
        raise CommandFailed(wrong[0])
    if output is Output.TEXT:
        from vllama.cli.render.words import counted

        print(f"models.yaml is in force; {counted(len(answer['models']), 'model')} can be called.")


def warm_up(
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[MODEL...]", help="Default: show who is started with the server.", autocompletion=model_names
        ),
    ] = None,
    *,
    save: Annotated[bool, typer.Option("--save", "-s", help="And from now on at every start of the server.")] = False,
    remove: Annotated[
        list[str] | None,
        typer.Option(
            "--remove", "-r", metavar="MODEL", help="No longer when the server starts.", autocompletion=model_names
        ),
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", "-c", help="Nobody any longer when the server starts.")] = False,
    show: Annotated[bool, typer.Option("--show", help="Who is started with the server.")] = False,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    timeout: Timeout = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Start models and put them to sleep, so that their first request finds them quick to wake.

    One after the other. A model that is awake before, or that somebody calls meanwhile, stays awake. --save, --remove
    and --clear write `auto_start` into models.yaml of --config-dir. Exit codes: 0 all are warm, 1 some are not, 3 no
    server answers.
    """
    from vllama.cli import warm_up as work

    if models and (remove or clear or show):
        raise typer.BadParameter("models are warmed up, or the list is changed or shown; one at a time.")
    timeout_s, as_json, path = seconds(timeout), output is Output.JSON, Path(config_dir).expanduser() / "models.yaml"
    if models:
        with connect(server, config_dir, api_key) as client:
            work.warm(client, models, save_in=path if save else None, timeout_s=timeout_s, as_json=as_json)
    elif save:
        raise typer.BadParameter("which models?", param_hint="--save")
    elif remove or clear:
        work.forget(path, None if clear else remove or [], as_json=as_json)
    else:
        work.show_list(path, as_json=as_json)
