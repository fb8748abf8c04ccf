"""`vllama import`: the command line."""
# ruff: noqa: PLC0415

import enum
from pathlib import Path
from typing import Annotated

import typer

from vllama.cli.imports.found import Existing
from vllama.cli.options import CONFIG_DIR, ConfigDir, Output, OutputFormat


class Tool(enum.StrEnum):
    AUTO = "auto"
    MVLLM = "mvllm"
    LLAMA_SWAP = "llama-swap"
    OLLAMA = "ollama"


def take_over(
    source: Annotated[
        str, typer.Argument(metavar="FILE|URL|ollama", help="Its file; ollama: asks the one at OLLAMA_HOST.")
    ],
    *,
    tool: Annotated[Tool, typer.Option("--from", help="Whose it is. auto: by its name and content.")] = Tool.AUTO,
    existing: Annotated[
        Existing, typer.Option("--existing", help="What becomes of entries that are there and say otherwise.")
    ] = Existing.REFUSE,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be written. Writes nothing.")] = False,
    config_dir: ConfigDir = CONFIG_DIR,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Take over what another tool was told: servers.toml of mvllm, config.yaml of llama-swap, Ollama's list of models.

    It goes into models.yaml of --config-dir, whose comments and order stay. What has no counterpart is named with its
    file and line. Needs no server; one that runs applies the change by itself. Exit codes: 0 done, also where
    something was left out; 1 refused, or it cannot be read; 3 no Ollama answers.
    """
    from vllama.cli.imports.work import run

    run(
        source, Path(config_dir).expanduser() / "models.yaml", tool=tool.value, existing=existing,
        dry_run=dry_run, as_json=output is Output.JSON,
    )  # fmt: skip
