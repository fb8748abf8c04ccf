"""Whether a server is well."""

import pytest

from vllama.controller.manifest.servers import BalanceSpec
from vllama.controller.servers.health import Check, Health

GOOD, BAD = Check(took_s=0.01), Check(took_s=0.01, wrong="nobody listens there")


def health(*checks: Check, **balance) -> Health:
    made = Health(balance=BalanceSpec(**balance))
    for check in checks:
        made.check(check, 0.0)
    return made


@pytest.mark.parametrize(
    ("checks", "well"),
    [
        ([], False),  # not asked yet
        ([GOOD], True),
        ([BAD], False),
        ([GOOD] * 10 + [BAD] * 2, True),
        ([GOOD] * 10 + [BAD] * 3, False),
        ([BAD] * 100 + [GOOD] * 7, False),
        ([BAD] * 100 + [GOOD] * 8, True),  # what lies behind the window is forgotten
        ([GOOD, BAD, BAD, GOOD, GOOD], False),
        ([Check(took_s=11.0)] * 3, False),
        ([Check(took_s=11.0), GOOD], True),
    ],
)
def test_by_the_checks_of_a_window(checks: list[Check], *, well: bool) -> None:
    made = health(*checks)
    assert made.takes(1.0) is well
    assert (made.wrong is None) is well


def test_without_active_checks_only_requests_count() -> None:
    made = health(BAD, BAD, BAD, active_health_check=False)
    assert made.takes(0.0)
    made.failed("it closed the connection", 0.0)
    made.failed("it closed the connection", 0.0)
    assert not made.takes(0.5)
    assert made.wrong == "2 requests in a row failed there: it closed the connection"


def test_requests_that_fail_in_a_row_open_the_breaker_and_one_that_goes_well_closes_it() -> None:
    made = health(GOOD)
    made.failed("x", 0.0)
    made.succeeded()
    made.failed("x", 0.0)
    assert made.takes(0.0)
    made.failed("x", 0.0)
    assert not made.takes(0.9)
    assert made.takes(1.0)
    made.succeeded()
    assert made.takes(1.0)
    assert made.wrong is None


def test_half_open_one_request_at_a_time_finds_out() -> None:
    made = health(GOOD, failure_threshold=1)
    made.failed("x", 0.0)
    assert not made.may_take(0.5)
    made.trying = True
    assert not made.takes(1.0)
    assert made.may_take(1.0)  # it is worth waiting for what it finds out


def test_the_pause_doubles_to_its_limit_and_failures_at_one_time_count_once() -> None:
    made = health(GOOD, failure_threshold=1, recovery_s=5.0)
    now, pauses = 0.0, []
    for _ in range(5):
        for _ in range(4):
            made.failed("x", now)
        began = now
        while not made.takes(now):
            now += 0.5
        pauses.append(now - began)
    assert pauses == [1.0, 2.0, 4.0, 5.0, 5.0]
