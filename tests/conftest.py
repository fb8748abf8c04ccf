"""What all tests share: Hypothesis' habits, and a home that is not the user's."""

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("ci", deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
settings.register_profile("dev", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ci" if os.environ.get("CI") else "dev")


def pytest_addoption(parser):
    parser.addoption("--fault-seed", help="tests/faults: the seed of all moments, in place of each test's usual one")


@pytest.fixture(autouse=True)
def _nothing_of_the_users_own(monkeypatch):
    """No VLLAMA_* of whoever runs the tests decides what they see, nor how wide their terminal is."""
    monkeypatch.delenv("COLUMNS", raising=False)
    for name in list(os.environ):
        if name.startswith(("VLLAMA_", "HF_", "CUDA_VISIBLE")) and not name.startswith("VLLAMA_REAL"):
            monkeypatch.delenv(name)
