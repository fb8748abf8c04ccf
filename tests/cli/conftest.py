from collections.abc import Callable, Iterator

import pytest
from typer.testing import CliRunner, Result

from tests.cli.scripted import ScriptedServer, scripted_server
from vllama.cli.app import app


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    with scripted_server() as running:
        yield running


@pytest.fixture
def vllama() -> Callable[..., Result]:
    """The command in this process. What it wrote: `.stdout`, `.stderr`; how it ended: `.exit_code`."""

    def run(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments], prog_name="vllama")

    return run
