"""The commands about models on disk: list, pull, rm. app.py names them."""
# ruff: noqa: PLC0415

import os
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vllama.cli.complete import model_names
from vllama.cli.connect import ask_if_any
from vllama.cli.options import CONFIG_DIR, ApiKey, ConfigDir, Model, Output, OutputFormat, Server

if TYPE_CHECKING:
    from vllama.cli.client import AdminClient


def list_models(
    *,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show the models on disk and in models.yaml. Needs no server.

    What they are, how large, and what is missing where one is incomplete. Looks into the Hugging Face cache (HF_HOME,
    HF_HUB_CACHE, VLLAMA_TRANSFORMERS_CACHE), ModelScope's, and every `path` in models.yaml. A server, if one runs,
    tells the phases.

    Exit codes: 0, also with nothing to show; 1 failed; 2 wrong usage.
    """
    from vllama.cli.list_models import run

    run(ask_if_any(server, config_dir, api_key, _statuses), config_dir, as_json=output is Output.JSON)


def pull(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="As on the hub, e.g. Qwen/Qwen3-0.6B, or an alias.", autocompletion=model_names
        ),
    ],
    *,
    revision: Annotated[
        str | None,
        typer.Option("--revision", "-r", help="Branch, tag or commit. Default: as models.yaml says, or main."),
    ] = None,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Fetch a model into the model cache. Needs no server, but tells one.

    Only what vLLM reads of it. What was interrupted goes on where it ended. HF_TOKEN opens gated and private models,
    HF_ENDPOINT names a mirror, HF_HOME the cache.

    Exit codes: 0 it is complete; 1 failed; 2 wrong usage; 130 interrupted, what has come is kept.
    """
    from vllama.cli.pull import run, tell
    from vllama.cli.stock import take_stock

    as_json = output is Output.JSON
    stock = take_stock(config_dir.expanduser(), os.environ)
    listing, directory = run(model, revision, stock, as_json=as_json)
    tell(listing, directory, ask_if_any(server, config_dir, api_key, lambda client: client.reload()), as_json=as_json)


def remove(
    model: Model,
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Remove a model from the model cache. Says what that frees.

    With all its revisions, and not while an engine of it runs, asleep ones included: the server, if there is one, is
    asked.

    Exit codes: 0 removed; 1 it stays; 2 wrong usage.
    """
    from vllama.cli.remove import run
    from vllama.cli.stock import take_stock

    reached = ask_if_any(server, config_dir, api_key, _statuses)
    stock = take_stock(config_dir.expanduser(), os.environ)
    run(model, stock, reached, sure=yes, as_json=output is Output.JSON)
    ask_if_any(server, config_dir, api_key, lambda client: client.reload())


def _statuses(client: "AdminClient") -> list[Any]:
    return list(client.status()["models"])
