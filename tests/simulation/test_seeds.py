"""Worlds in which something once went wrong, until it was mended: a minute of them, so `make planted` plays them."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.simulation.run import simulate

KEPT = yaml.safe_load((Path(__file__).parent / "seeds.yaml").read_text())

# a manager that dies leaves coroutines behind that had not begun
pytestmark = pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: kept["why"])
def test_what_once_went_wrong_goes_right(kept: dict[str, Any]) -> None:
    report = simulate(kept["seed"], events=kept["events"], profile=kept["profile"])
    assert report.violation is None, str(report)
