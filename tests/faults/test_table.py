"""The table of faults, its tests, and the page that tells of both, agree."""

import re
from pathlib import Path

from tests.faults import test_clients, test_config, test_engine, test_process, test_resources
from tests.faults.rows import ROWS, SITUATIONS

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
FILES = (test_clients, test_config, test_engine, test_process, test_resources)


def test_every_row_has_a_situation_and_none_has_a_row_of_its_own():
    assert sorted(ROWS) == list(range(1, 50))
    assert {situation.row for situation in SITUATIONS} == set(ROWS)


def test_every_situation_is_a_test_of_its_name():
    for situation in SITUATIONS:
        (file,) = [file for file in FILES if file.__name__.endswith(situation.play.__module__.rpartition(".")[2])]
        assert callable(getattr(file, situation.name))
    assert len({situation.name for situation in SITUATIONS}) == len(SITUATIONS)


def test_the_page_has_every_row_and_names_its_tests():
    lines = [line for line in PAGE.read_text().splitlines() if re.match(r"\| \d+ \|", line)]
    rows = {int(line.split("|")[1]): line for line in lines}
    assert list(rows) == sorted(ROWS)
    for number, line in rows.items():
        assert ROWS[number] in line
        files = {
            f"{situation.play.__module__.rpartition('.')[2]}" for situation in SITUATIONS if situation.row == number
        }
        assert set(re.findall(r"`(test_\w+)`", line)) == files
