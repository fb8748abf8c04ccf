"""Options that several commands share."""

import enum
from pathlib import Path
from typing import Annotated

import typer

from vllama.cli.complete import model_names


class Level(enum.StrEnum):
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class LogFormat(enum.StrEnum):
    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class Output(enum.StrEnum):
    TEXT = "text"
    JSON = "json"


class PsOutput(enum.StrEnum):
    TEXT = "text"
    WIDE = "wide"
    JSON = "json"


CONFIG_DIR = Path("~/.vllama")

Port = Annotated[int, typer.Option(envvar="VLLAMA_PORT", min=0, max=65535, help="0: any free one.")]
LogLevel = Annotated[Level, typer.Option(envvar="VLLAMA_LOG_LEVEL", help="How much it logs, to stderr.")]
ConfigDir = Annotated[
    Path, typer.Option(envvar="VLLAMA_CONFIG_DIR", help="Where models.yaml is, and the server says that it runs.")
]
Server = Annotated[
    str | None,
    typer.Option(envvar="VLLAMA_SERVER", metavar="URL", help="The server to ask. Default: the one of --config-dir."),
]
ApiKey = Annotated[
    str | None,
    typer.Option(envvar="VLLAMA_API_KEY", metavar="KEY", help="Shown to the server. Better in the environment."),
]
ApiKeys = Annotated[
    Path | None,
    typer.Option(
        "--api-keys",
        envvar="VLLAMA_API_KEYS_FILE",
        metavar="FILE",
        help="The keys. Default: keys.yaml of --config-dir.",
    ),
]
OutputFormat = Annotated[Output, typer.Option("--output", "-o", help="For people, or for programs.")]
PsOutputFormat = Annotated[
    PsOutput, typer.Option("--output", "-o", help="For people, for people with wide screens, or for programs.")
]
All = Annotated[bool, typer.Option("--all", "-a", help="Every model.")]
Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="Id, alias, or a short name that only one model has.", autocompletion=model_names
    ),
]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Ask, and do not wait until it is done.")]
Timeout = Annotated[
    str | None,
    typer.Option(metavar="DURATION", help="Give up waiting after this long, e.g. 90s or 10m. Default: never."),
]


def seconds(timeout: str | None) -> float | None:
    """What `--timeout` says."""
    from vllama.domain.units import parse_duration  # noqa: PLC0415  # not for `--help`

    try:
        return None if timeout is None else parse_duration(timeout)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--timeout") from None
