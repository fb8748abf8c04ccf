"""`vllama batch`: the command line."""
# ruff: noqa: PLC0415

from pathlib import Path
from typing import Annotated

import typer

from vllama.cli.connect import connect
from vllama.cli.options import CONFIG_DIR, ApiKey, ConfigDir, Output, OutputFormat, Server


def batch(
    requests: Annotated[
        Path, typer.Argument(metavar="REQUESTS", help="OpenAI's batch format: a JSON object per line.")
    ],
    results: Annotated[Path, typer.Argument(metavar="RESULTS", help="Where answers go, a line each as they come.")],
    *,
    parallel: Annotated[int, typer.Option("--parallel", "-j", min=1, max=256, help="Requests at a time.")] = 16,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Answer a file of requests, model by model, so that each is started once.

    Models that are awake come first. What RESULTS has an answer to already is left out, so that a batch that was
    interrupted goes on where it was. Exit codes: 0 all answered, 1 some failed or the file is wrong, 3 no server.
    """
    from vllama.cli import batches

    jobs = batches.read(requests, results)
    with connect(server, config_dir, api_key) as client:
        batches.run(client, jobs, results, parallel=parallel, as_json=output is Output.JSON)
