"""Tests that cannot fail are no tests: every planted bug must be caught by the planner's own."""

import pytest

from tests.simulation.mutants import PLANTED, plant, survivors


def test_there_are_enough_kinds_and_each_has_its_place():
    assert len({mutant.name for mutant in PLANTED}) >= 20
    for mutant in PLANTED:
        plant(mutant)


@pytest.mark.timeout(540)
def test_every_planted_bug_is_caught():
    mutants = [(mutant.name, mutant.file, plant(mutant)) for mutant in PLANTED]
    assert list(survivors(mutants, jobs=2)) == []
