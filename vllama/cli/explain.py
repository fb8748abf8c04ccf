"""`vllama why` and `vllama describe`: the command lines."""
# ruff: noqa: PLC0415

from datetime import UTC, datetime

from vllama.cli.connect import connect
from vllama.cli.options import CONFIG_DIR, ApiKey, ConfigDir, Model, Output, OutputFormat, Server


def why(
    model: Model,
    *,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Show why a model is where it is: what it waits for, what would change that, and the last ten decisions about it.

    With the numbers that they rest on. Exit codes: 0 done, 1 no such model, 3 no server answers.
    """
    from vllama.cli.render.why import render_why
    from vllama.cli.terminal import show, show_json, width

    with connect(server, config_dir, api_key) as client:
        answer = client.why(model)
        if output is Output.JSON:
            show_json(answer)
        else:
            zone, several = datetime.now().astimezone().tzinfo, client.has_several_nodes()
            show(render_why(answer, zone=zone, width=width(), several_nodes=several))


def describe(
    model: Model,
    *,
    server: Server = None,
    config_dir: ConfigDir = CONFIG_DIR,
    api_key: ApiKey = None,
    output: OutputFormat = Output.TEXT,
) -> None:
    """Describe a model as Kubernetes does an object: spec, status, conditions and events.

    Exit codes: 0 done, 1 no such model, 3 no server answers.
    """
    from vllama.cli.render.describe import render_description
    from vllama.cli.terminal import show, show_json, width

    with connect(server, config_dir, api_key) as client:
        page = client.describe(model)
        if output is Output.JSON:
            show_json(page)
        else:
            show(render_description(page, now=datetime.now(UTC), width=width()))
