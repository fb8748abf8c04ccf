import warnings
from importlib.util import find_spec

import pytest

from tests.ray.checks import all_is_well
from tests.ray.cluster import Cluster
from tests.ray.hosts import why_not
from tests.ray.manager import Manager

# A device has room for one of these, and a host for two.
ALL = {"memory": "20GiB"}
MODELS = {
    "policy": {"drain_deadline": "5s", "stop_deadline": "2s", "fairness": "2s"},
    "models": {
        **{f"org/{name}": ALL for name in "abcdef"},
        "org/twice": ALL | {"replicas": 2},
        "org/wide": ALL | {"tensor_parallel_size": 4},
    },
}


@pytest.fixture(scope="session")
def means():
    """Skips, loudly, where no hosts can be made."""
    missing = why_not() if find_spec("ray") is not None else "ray is not installed: make test-ray does it"
    if missing is not None:
        warnings.warn(f"several machines were NOT tested: {missing}", stacklevel=1)
        pytest.skip(missing)


@pytest.fixture(scope="session")
def cluster(means, tmp_path_factory):
    """Three hosts that all tests share: each leaves them as it found them."""
    here = Cluster(tmp_path_factory.mktemp("hosts"))
    try:
        here.start()
        yield here
    finally:
        here.close()


@pytest.fixture(scope="session")
def shared_manager(cluster):
    running = Manager(cluster, MODELS)
    try:
        running.start()
        yield running
    finally:
        running.close()


@pytest.fixture
def manager(shared_manager):
    """With three ready machines and no engine, before; with nothing amiss, afterwards."""
    all_is_well(shared_manager)
    shared_manager.stop_all()
    yield shared_manager
    all_is_well(shared_manager)
