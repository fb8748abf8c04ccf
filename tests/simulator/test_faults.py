from dataclasses import fields

import pytest

from vllama.simulator import faults
from vllama.simulator.faults import Faults, parse_faults


def test_no_faults() -> None:
    assert parse_faults("") == Faults()


def test_several_with_values() -> None:
    assert parse_faults("exit_at_load:3, residue_grows:256MiB,log_flood") == Faults(
        exit_at_load=3, residue_grows=256 << 20, log_flood=True
    )


def test_an_unknown_one_is_told_all_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"unknown fault 'explode'; known: exit_at_load, .*log_flood"):
        parse_faults("log_flood,explode")


@pytest.mark.parametrize(
    "text", ["log_flood:1", "exit_at_load", "exit_at_load:", "exit_at_load:x", "residue_grows:many", "log_flood:"]
)
def test_values_only_where_they_belong(text: str) -> None:
    with pytest.raises(ValueError, match="fault '"):
        parse_faults(text)


def test_every_field_can_be_chosen() -> None:
    assert [field.name for field in fields(Faults)] == list(faults._KINDS)
