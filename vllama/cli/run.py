"""`vllama run`: the command line."""
# ruff: noqa: PLC0415

import sys
from typing import Annotated

import typer

from vllama.cli.connect import connect
from vllama.cli.options import CONFIG_DIR, ApiKey, ConfigDir, Model, Output, OutputFormat, Server


def run(
    model: Model,
    prompt: Annotated[
        list[str] | None, typer.Argument(metavar="[PROMPT...]", help="One question; without it a conversation.")
    ] = None,
    *,
    system: Annotated[str | None, typer.Option("--system", "-s", metavar="TEXT", help="The system prompt.")] = None,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Talk to a model; it is started or woken for it.

    With a prompt, or with input from a pipe, one answer to both. Else a conversation: /exit, /quit, /bye or Ctrl-D
    leave it, /help tells the rest, Ctrl-C cuts an answer short. Exit codes: 0 done, 1 no answer, 3 no server answers.
    """
    from vllama.cli import chat

    piped = "" if sys.stdin.isatty() else sys.stdin.read()
    question = "\n\n".join(part for part in (" ".join(prompt or ()), piped.strip("\n")) if part)
    if not question and not sys.stdin.isatty():
        raise typer.BadParameter("nothing came from the pipe, and no prompt was given.", param_hint="PROMPT")
    if not question and output is Output.JSON:
        raise typer.BadParameter("a conversation is for people; give a prompt with -o json.", param_hint="--output")
    with connect(server, config_dir, api_key) as client:
        talk = chat.Talk(client, model, system=system)
        if question:
            chat.once(talk, question, as_json=output is Output.JSON)
        else:
            chat.converse(talk)
