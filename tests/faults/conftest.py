import asyncio
import os

import pytest

from tests.faults.checks import play
from tests.faults.house import House


@pytest.fixture(scope="module")
def shared_house(tmp_path_factory):
    """One server for all rows of a file that leave it as they found it."""
    house = House(tmp_path_factory.mktemp("house"))
    house.start()
    try:
        yield house
    finally:
        house.close()


@pytest.fixture
def stage(request, tmp_path):
    """Plays a situation at moments that a seed draws, and says how to have them again."""

    def stage(situation):
        chosen = request.config.getoption("--fault-seed") or os.environ.get("FAULT_SEED")
        seed = int(chosen) if chosen else situation.usual_seed
        print(f"row {situation.row}, seed {seed}; again: pytest '{request.node.nodeid}' --fault-seed {seed}")
        if not situation.own_server:
            shared = request.getfixturevalue("shared_house")
            if not shared.is_up:
                shared.start()
            asyncio.run(play(situation, shared, seed))
            return
        house = situation.house(tmp_path / "house")
        try:
            house.start()
            asyncio.run(play(situation, house, seed))
        finally:
            house.close()

    return stage
