import pytest

from tests.whole.server import serve


@pytest.fixture
def start_server(tmp_path):
    """`start_server(models_yaml, "--simulate", "8GiB", NAME=value)`; everything is gone after the test."""
    servers = []

    def start(models, *args, directory="config", **env):
        servers.append(serve(tmp_path / directory, models, *args, **env))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
