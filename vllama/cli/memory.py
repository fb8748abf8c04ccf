"""`vllama memory`."""
# ruff: noqa: PLC0415

from vllama.cli.connect import connect
from vllama.cli.options import CONFIG_DIR, ApiKey, ConfigDir, Output, OutputFormat, Server


def memory(
    *,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show whose memory it is: of every device, and of the host's for those who sleep.

    The numbers are those that decisions are made with: an engine that is awake counts for all it may take.
    """
    from vllama.cli.render.memory import render_memory
    from vllama.cli.terminal import show, show_json, width

    with connect(server, config_dir, api_key) as client:
        answer = client.memory()
        if output is Output.JSON:
            show_json(answer)
        else:
            show(render_memory(answer, width=width()))
