"""Waiting until memory stands still. The clock is ours; the pauses are real and short."""

import asyncio

import pytest

from vllama.domain.units import GIB, MIB
from vllama.runtime.local.settling import memory_settles


def settle(*looks: dict[int, int | None], devices=(0,), seconds_a_look: float = 0.0) -> tuple[bool, int]:
    """Whether it settled over these looks (the last one repeats), and how many were taken."""
    taken = []

    async def used():
        taken.append(looks[min(len(taken), len(looks) - 1)])
        return taken[-1]

    settled = asyncio.run(memory_settles(used, devices, clock=lambda: len(taken) * seconds_a_look))
    return settled, len(taken)


def test_two_looks_that_agree_are_enough():
    assert settle({0: GIB}) == (True, 2)


def test_it_waits_while_memory_goes_back():
    assert settle({0: 20 * GIB}, {0: 12 * GIB}, {0: 3 * GIB}, {0: GIB}, {0: GIB}) == (True, 5)


def test_small_movements_are_nobodys_business():
    assert settle({0: 10 * GIB}, {0: 10 * GIB + 200 * MIB}) == (True, 2)
    assert settle({0: 80 * GIB}, {0: 81 * GIB}) == (True, 2)  # 2 percent


@pytest.mark.parametrize(("devices", "looks"), [((0,), 2), ((1,), 4), ((0, 1), 4)])
def test_only_the_devices_that_are_meant_count(devices, looks):
    moves = [{0: GIB, 1: size * GIB} for size in (9, 5, 1)]
    assert settle(*moves, devices=devices) == (True, looks)


def test_what_cannot_be_read_agrees_with_itself_only():
    assert settle({0: None}) == (True, 2)
    assert settle({0: GIB}, {0: None}, {0: GIB}) == (True, 4)


def test_it_does_not_wait_for_ever():
    moving = [{0: size * GIB} for size in range(1000)]
    assert settle(*moving, seconds_a_look=1.0) == (False, 5)
