"""`vllama nodes`."""
# ruff: noqa: PLC0415

from datetime import UTC, datetime

from vllama.cli.connect import connect
from vllama.cli.options import CONFIG_DIR, ApiKey, ConfigDir, Output, OutputFormat, Server


def nodes(
    *,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show the machines that engines run on: whether each answers, and if not, why; their devices and their memory.

    A machine that is lost or fenced is given nothing to do, and nothing on it takes requests. Exit codes: 0 done, 3 no
    server answers.
    """
    from vllama.cli.render.nodes import render_nodes
    from vllama.cli.terminal import show, show_json, width

    with connect(server, config_dir, api_key) as client:
        answer = client.nodes()
        if output is Output.JSON:
            show_json(answer)
        else:
            show(render_nodes(answer, now=datetime.now(UTC), width=width()))
